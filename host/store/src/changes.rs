//! A set of changes to commit together.

use chrono::{DateTime, Utc};

use crate::Map;
use crate::document::PendingBody;
use crate::id::{DocRef, InstanceId};
use crate::queue::{Lease, QueueEntry, QueuedJob};
use crate::rev::Rev;

/// Changes that [`crate::Store::commit`] applies as a whole or not at all, in the order in which they were added.
#[derive(Debug, Default, Clone)]
#[must_use = "changes do nothing until they are committed"]
pub struct Changes {
    pub(crate) fences: Vec<Lease>,
    pub(crate) ops: Vec<ChangeOp>,
}

/// Effect of a set of changes on one document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentWrite<'a> {
    /// The document that is written.
    pub document: &'a DocRef,
    /// Revision of the document before the change; `None` for a new document.
    pub previous_rev: Option<&'a Rev>,
    /// Body of the document after the change; `None` for a deletion.
    pub body: Option<&'a Map>,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum ChangeOp {
    Create { document: DocRef, body: PendingBody, assigned: Option<Rev> },
    Put { document: DocRef, expected: Rev, body: PendingBody, assigned: Option<Rev> },
    Delete { document: DocRef, expected: Rev, mode: DeleteMode, assigned: Option<Rev> },
    PutUnique { instance: InstanceId, index: String, key: String, value: String },
    RemoveUnique { instance: InstanceId, index: String, key: String },
    Enqueue { job: DocRef, entry: QueueEntry },
    Promote { queued: QueuedJob },
    Dequeue { job: DocRef },
    Claim { lease: Lease, entry: QueueEntry },
    Renew { lease: Lease },
    Complete { lease: Lease },
    Expire { lease: Lease },
    Require { document: DocRef },
    Schedule { trigger: DocRef, due: Option<DateTime<Utc>> },
    Fire { trigger: DocRef, instant: DateTime<Utc>, next: Option<DateTime<Utc>> },
}

/// Whether a deletion leaves a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeleteMode {
    Tombstone,
    Purge,
}

impl Changes {
    /// Creates an empty set of changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fences.is_empty() && self.ops.is_empty()
    }

    /// Creates a document. Conflicts if it exists; a deleted document continues with its next revision.
    pub fn create(&mut self, document: DocRef, body: Map) -> &mut Self {
        self.push(ChangeOp::Create { document, body: PendingBody::new(body), assigned: None })
    }

    /// Replaces a document. Conflicts unless `rev` is its current revision.
    pub fn put(&mut self, document: DocRef, rev: &Rev, body: Map) -> &mut Self {
        self.push(ChangeOp::Put { document, expected: rev.clone(), body: PendingBody::new(body), assigned: None })
    }

    /// Replaces the revision of a document that was read, or creates the document if there was none.
    pub fn upsert(&mut self, document: DocRef, rev: Option<&Rev>, body: Map) -> &mut Self {
        match rev {
            Some(rev) => self.put(document, rev, body),
            None => self.create(document, body),
        }
    }

    /// Deletes a document and removes it from the queue and the schedule. Conflicts unless `rev` is its current
    /// revision, and while it is a running job.
    pub fn delete(&mut self, document: DocRef, rev: &Rev) -> &mut Self {
        self.push(ChangeOp::Delete { document, expected: rev.clone(), mode: DeleteMode::Tombstone, assigned: None })
    }

    /// Like [`Changes::delete`], but leaves no tombstone. For documents such as jobs, which are many and whose ids are
    /// never reused. Afterwards, they do not count as deleted but as never created.
    pub fn purge(&mut self, document: DocRef, rev: &Rev) -> &mut Self {
        self.push(ChangeOp::Delete { document, expected: rev.clone(), mode: DeleteMode::Purge, assigned: None })
    }

    /// Gives the last written document this revision from another store instead of its next revision. Conflicts unless
    /// its generation is later than that of the previous revision.
    pub fn with_rev(&mut self, rev: &Rev) -> &mut Self {
        if let Some(
            ChangeOp::Create { assigned, .. } | ChangeOp::Put { assigned, .. } | ChangeOp::Delete { assigned, .. },
        ) = self.ops.last_mut()
        {
            *assigned = Some(rev.clone());
        }
        self
    }

    /// Assigns `key` in a unique index to `value`. Conflicts if another value owns it.
    ///
    /// The key may be any string; the index is a name of 1 to 64 bytes.
    pub fn put_unique(
        &mut self,
        instance: &InstanceId,
        index: &str,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        self.push(ChangeOp::PutUnique { instance: instance.clone(), index: index.to_owned(), key, value })
    }

    /// Frees `key` in a unique index, regardless of its owner.
    pub fn remove_unique(&mut self, instance: &InstanceId, index: &str, key: impl Into<String>) -> &mut Self {
        self.push(ChangeOp::RemoveUnique { instance: instance.clone(), index: index.to_owned(), key: key.into() })
    }

    /// Makes the whole commit depend on this lease. The commit fails with [`crate::Error::StaleLease`] unless the lease
    /// is held before the first change. This prevents an abandoned run from writing.
    pub fn fence(&mut self, lease: &Lease) -> &mut Self {
        self.fences.push(lease.clone());
        self
    }

    /// Makes the whole commit depend on the existence of this document, after the changes added before; fails with
    /// [`crate::Error::NotFound`] otherwise. This prevents dependent data from being written while the document is
    /// deleted.
    pub fn require(&mut self, document: DocRef) -> &mut Self {
        self.push(ChangeOp::Require { document })
    }

    /// Puts a job into the queue, or moves it if it is already waiting. Conflicts while the job runs; its document must
    /// exist or be created by an earlier change.
    pub fn enqueue(&mut self, job: DocRef, entry: QueueEntry) -> &mut Self {
        self.push(ChangeOp::Enqueue { job, entry })
    }

    /// Removes a waiting job from the queue. Conflicts if it is not waiting.
    pub fn dequeue(&mut self, job: &DocRef) -> &mut Self {
        self.push(ChangeOp::Dequeue { job: job.clone() })
    }

    /// Ends a lease and frees its lock and its permits; fails with [`crate::Error::StaleLease`] if it is not held. To
    /// run the job again, add [`Changes::enqueue`]; its next lease has a higher epoch.
    pub fn complete(&mut self, lease: &Lease) -> &mut Self {
        self.push(ChangeOp::Complete { lease: lease.clone() })
    }

    /// Ends a lease of another worker that has not renewed it for long; also fails with [`crate::Error::StaleLease`] if
    /// the lease was renewed since it was read.
    pub fn expire(&mut self, lease: &Lease) -> &mut Self {
        self.push(ChangeOp::Expire { lease: lease.clone() })
    }

    /// Sets when a trigger is due next, or with `None` removes it from the schedule. Its document must exist or be
    /// created by an earlier change. Instants are stored with microsecond precision.
    pub fn schedule(&mut self, trigger: DocRef, due: Option<DateTime<Utc>>) -> &mut Self {
        self.push(ChangeOp::Schedule { trigger, due })
    }

    /// Consumes the due instant of a trigger and sets the next one. Conflicts unless the trigger is due exactly at
    /// `instant`, so each instant fires once, regardless of concurrent attempts; add the job that it starts to the same
    /// commit.
    pub fn fire(&mut self, trigger: &DocRef, instant: DateTime<Utc>, next: Option<DateTime<Utc>>) -> &mut Self {
        self.push(ChangeOp::Fire { trigger: trigger.clone(), instant, next })
    }

    /// Returns the document writes, in order.
    pub fn document_writes(&self) -> impl Iterator<Item = DocumentWrite<'_>> {
        self.ops.iter().filter_map(|step| match step {
            ChangeOp::Create { document, body, .. } => {
                Some(DocumentWrite { document, previous_rev: None, body: Some(body.map()) })
            }
            ChangeOp::Put { document, expected, body, .. } => {
                Some(DocumentWrite { document, previous_rev: Some(expected), body: Some(body.map()) })
            }
            ChangeOp::Delete { document, expected, .. } => {
                Some(DocumentWrite { document, previous_rev: Some(expected), body: None })
            }
            _ => None,
        })
    }

    /// Returns whether a trigger is scheduled once the changes are committed.
    #[must_use]
    pub fn has_schedule(&self) -> bool {
        self.ops
            .iter()
            .any(|step| matches!(step, ChangeOp::Schedule { due: Some(_), .. } | ChangeOp::Fire { next: Some(_), .. }))
    }

    /// Appends the changes of another set.
    pub fn append(&mut self, others: Self) -> &mut Self {
        self.fences.extend(others.fences);
        self.ops.extend(others.ops);
        self
    }

    pub(crate) fn push(&mut self, step: ChangeOp) -> &mut Self {
        self.ops.push(step);
        self
    }
}
