//! How much room the files of an instance take.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use konnector_store::InstanceId;

use super::{File, Kind};
use crate::doctype::{FILES, VERSIONS};
use crate::instance::Instance;
use crate::{Platform, Result};

/// Bytes by instance, each counted when it is first asked for and kept up from then on.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<InstanceId, u64>>);

impl Usage {
    fn counts(&self) -> MutexGuard<'_, HashMap<InstanceId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content of `new` bytes is kept now, in place of `old` bytes.
    pub(super) fn account(&self, instance: &InstanceId, old: u64, new: u64) {
        if let Some(count) = self.counts().get_mut(instance) {
            *count = count.saturating_add(new).saturating_sub(old);
        }
    }
}

impl Platform {
    /// Whether the user's space has room for anything.
    pub(crate) fn has_room(&self, instance: &Instance) -> Result<bool> {
        Ok(self.disk_usage(instance)? < instance.disk_quota.unwrap_or(self.config.disk_quota))
    }

    /// Bytes that the files of an instance take, with their versions. The first time after a start, every one of them is looked at.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn disk_usage(&self, instance: &Instance) -> Result<u64> {
        if let Some(count) = self.usage.counts().get(&instance.id) {
            return Ok(*count);
        }
        let count = self.count_usage(instance)?;
        Ok(*self.usage.counts().entry(instance.id.clone()).or_insert(count))
    }

    /// Bytes of a file, or of everything in a directory.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn size_of(&self, instance: &Instance, file: &File) -> Result<u64> {
        let mut size = file.len();
        let mut directories: Vec<String> =
            (file.kind == Kind::Directory).then(|| file.id.clone()).into_iter().collect();
        while let Some(directory) = directories.pop() {
            let mut after: Option<String> = None;
            loop {
                let page = self.children(instance, &directory, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                size += page.iter().map(File::len).sum::<u64>();
                directories
                    .extend(page.into_iter().filter(|child| child.kind == Kind::Directory).map(|child| child.id));
            }
            tokio::task::yield_now().await;
        }
        Ok(size)
    }

    fn count_usage(&self, instance: &Instance) -> Result<u64> {
        let mut used = 0;
        for doctype in [&FILES, &VERSIONS] {
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(&instance.id, doctype, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                for document in &page {
                    let size = document.body.get("size").and_then(serde_json::Value::as_str);
                    used += size.and_then(|size| size.parse::<u64>().ok()).unwrap_or_default();
                }
            }
        }
        Ok(used)
    }
}
