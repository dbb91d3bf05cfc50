//! Data that clients store for a later request and that expires: metadata for an upload, the content list of an
//! archive.

use chrono::{DateTime, Duration, Utc};
use konnector_manifest::Doctype;
use konnector_store::Changes;
use serde::{Deserialize, Serialize};

use super::metadata::check_metadata;
use crate::Files;
use crate::Result;
use konnector_documents::doctype::UPLOAD_METADATA;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, Stored, new_id, to_object};

/// Lifetime of metadata that is stored for an upload.
const UPLOAD_METADATA_TTL: Duration = Duration::days(1);
/// Maximum number of expired entries that are removed when another one is stored.
const SWEEP_BATCH_SIZE: usize = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Expiring {
    #[serde(rename = "until")]
    expires_at: DateTime<Utc>,
    value: Object,
}

impl Files {
    /// Stores metadata for an upload for a day; returns the id by which the upload refers to it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the metadata has more than 64 KiB.
    pub async fn save_upload_metadata(&self, instance: &Instance, metadata: Object) -> Result<String> {
        check_metadata(&metadata, "a file")?;
        self.put_with_ttl(instance, &UPLOAD_METADATA, metadata, UPLOAD_METADATA_TTL).await
    }

    /// Returns stored metadata; `None` if it does not exist or has expired.
    pub fn upload_metadata(&self, instance: &Instance, id: &str) -> Result<Option<Object>> {
        self.get_ephemeral(instance, &UPLOAD_METADATA, id)
    }

    /// Stores a value for a while; returns its id.
    pub(super) async fn put_with_ttl(
        &self,
        instance: &Instance,
        doctype: &Doctype,
        value: Object,
        lifetime: Duration,
    ) -> Result<String> {
        let now = self.core.clock().now();
        // Ids are ordered by time, so expired entries come first.
        for old in self.core.store().list(&instance.id, doctype, None, SWEEP_BATCH_SIZE)? {
            let old = Stored::<Expiring>::from_document(doctype, old)?;
            if old.value.expires_at >= now {
                break;
            }
            let mut changes = Changes::new();
            changes.purge(instance.doc(doctype, old.id), &old.rev);
            // Another request may have removed the entry first.
            drop(self.core.commit(changes).await);
        }
        let (id, mut changes) = (new_id(), Changes::new());
        changes.create(instance.doc(doctype, id.as_str()), to_object(&Expiring { expires_at: now + lifetime, value })?);
        self.core.commit(changes).await?;
        Ok(id)
    }

    /// Returns a stored value; `None` if it does not exist or has expired.
    pub(super) fn get_ephemeral(&self, instance: &Instance, doctype: &Doctype, id: &str) -> Result<Option<Object>> {
        let found = self.core.load::<Expiring>(&instance.doc(doctype, id))?;
        Ok(found.filter(|found| found.value.expires_at >= self.core.clock().now()).map(|found| found.value.value))
    }
}
