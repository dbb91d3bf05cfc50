//! What clients leave for a later request, and what is forgotten after a while: metadata for an upload, the list of an archive.

use chrono::{DateTime, Duration, Utc};
use konnector_manifest::Doctype;
use konnector_store::Changes;
use serde::{Deserialize, Serialize};

use super::change::check_metadata;
use crate::doctype::METADATA;
use crate::instance::Instance;
use crate::stored::{Object, Stored, new_id, object};
use crate::{Platform, Result};

/// How long metadata waits for its upload.
const WAIT: Duration = Duration::days(1);
/// How many that are over are removed by whoever leaves another one.
const SWEPT: usize = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Left {
    until: DateTime<Utc>,
    value: Object,
}

impl Platform {
    /// Keeps metadata for an upload that names the id which is answered, for a day.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge).
    pub async fn leave_metadata(&self, instance: &Instance, metadata: Object) -> Result<String> {
        check_metadata(&metadata, "a file")?;
        self.leave(instance, &METADATA, metadata, WAIT).await
    }

    /// Metadata that was left, `None` when it was not or is over.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn metadata_left(&self, instance: &Instance, id: &str) -> Result<Option<Object>> {
        self.left(instance, &METADATA, id)
    }

    /// Keeps a value for a while; answers its id.
    pub(super) async fn leave(
        &self,
        instance: &Instance,
        doctype: &Doctype,
        value: Object,
        lifetime: Duration,
    ) -> Result<String> {
        let now = self.clock.now();
        // Ids are in the order of time, so those that are over come first.
        for old in self.store.list(&instance.id, doctype, None, SWEPT)? {
            let old = Stored::<Left>::read(doctype, old)?;
            if old.value.until >= now {
                break;
            }
            let mut changes = Changes::new();
            changes.purge(instance.doc(doctype, old.id), &old.rev);
            // Somebody else may have been quicker.
            drop(self.commit(changes).await);
        }
        let (id, mut changes) = (new_id(), Changes::new());
        changes.create(instance.doc(doctype, id.as_str()), object(&Left { until: now + lifetime, value })?);
        self.commit(changes).await?;
        Ok(id)
    }

    /// A value that was left, `None` when it was not or is over.
    pub(super) fn left(&self, instance: &Instance, doctype: &Doctype, id: &str) -> Result<Option<Object>> {
        let found = self.stored::<Left>(&instance.doc(doctype, id))?;
        Ok(found.filter(|found| found.value.until >= self.clock.now()).map(|found| found.value.value))
    }
}
