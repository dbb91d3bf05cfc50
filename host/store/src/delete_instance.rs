//! Removal of an instance with all its data.

use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::fsck::DocumentSchema;
use crate::id::{DocRef, InstanceId};
use crate::key;
use crate::kv::{Batch, CommitOutcome};
use crate::store::Store;

/// Number of entries removed in one commit.
const DELETE_BATCH_SIZE: usize = 200;

impl Store {
    /// Removes all documents of an instance with their blobs and their entries in the queue and the schedule, then its
    /// indexes and tombstones. Readers of a blob can read it to its end; a running backup delays the removal of blobs
    /// that it may need.
    ///
    /// Works in multiple commits and can be repeated after a failure; no one may write to the instance in the meantime.
    ///
    /// # Errors
    ///
    /// [`crate::Conflict::Running`] while one of its jobs runs, [`Error::Invalid`] for [`InstanceId::global`];
    /// otherwise as [`Store::commit`].
    pub async fn delete_instance(&self, schema: &dyn DocumentSchema, instance: &InstanceId) -> Result<()> {
        if instance.is_global() {
            let reason = "global data belongs to no instance and cannot be deleted".to_owned();
            return Err(Error::Invalid { field: "instance id", reason });
        }
        for doctype in self.doctypes(instance)? {
            loop {
                let documents = self.page(instance, &doctype, None, DELETE_BATCH_SIZE)?.documents;
                if documents.is_empty() {
                    break;
                }
                let (mut changes, mut contents) = (Changes::new(), Vec::new());
                for document in documents {
                    let document_ref = DocRef::new(instance, &doctype, document.id);
                    match schema.links(&document_ref, &document.body) {
                        Ok(links) => contents.extend(links.blobs.into_iter().map(|link| link.blob)),
                        Err(reason) => {
                            tracing::error!(
                                document = %document_ref,
                                reason,
                                "the blobs of a deleted document stay until fsck --repair or the next sweep"
                            );
                        }
                    }
                    changes.purge(document_ref, &document.rev);
                }
                self.commit(changes).await?;
                self.remove_blobs(contents).await;
            }
        }
        let range = key::of_instance(instance);
        loop {
            let mut batch = Batch::default();
            for (key, _) in self.kv().scan(&range.from, &range.to, DELETE_BATCH_SIZE, false)? {
                batch.remove(key);
            }
            if batch.is_empty() {
                return Ok(());
            }
            // Without checks, the commit cannot be rejected.
            let _: CommitOutcome = self.kv().commit(batch).await?;
        }
    }
}
