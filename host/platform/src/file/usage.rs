//! How much room the files of an instance take.

use crate::doctype::FILES;
use crate::instance::Instance;
use crate::{Platform, Result};

impl Platform {
    /// Whether the user's space has room for anything.
    pub(crate) fn has_room(&self, instance: &Instance) -> Result<bool> {
        Ok(self.disk_usage(instance)? < instance.disk_quota.unwrap_or(self.config.disk_quota))
    }

    /// Bytes that the files of an instance take.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn disk_usage(&self, instance: &Instance) -> Result<u64> {
        let mut used = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&instance.id, &FILES, after.as_deref(), 500)?;
            let Some(last) = page.last() else { return Ok(used) };
            after = Some(last.id.clone());
            for document in &page {
                let size = document
                    .body
                    .get("size")
                    .and_then(serde_json::Value::as_str)
                    .and_then(|size| size.parse::<u64>().ok());
                used += size.unwrap_or_default();
            }
        }
    }
}
