//! A set of changes to commit together.

use chrono::{DateTime, Utc};

use crate::Map;
use crate::document::PendingBody;
use crate::id::{DocRef, InstanceId};
use crate::queue::{Lease, QueueEntry, QueuedJob};
use crate::rev::Rev;

/// Changes that [`crate::Store::commit`] applies all or not at all, in the order in which they were added.
#[derive(Debug, Default, Clone)]
#[must_use = "changes do nothing until they are committed"]
pub struct Changes {
    pub(crate) fences: Vec<Lease>,
    pub(crate) ops: Vec<ChangeOp>,
}

/// What becomes of a document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentWrite<'a> {
    /// Which one.
    pub document: &'a DocRef,
    /// The revision that it has before; `None` for a new one.
    pub previous_rev: Option<&'a Rev>,
    /// What it is afterwards; `None` for one that is gone.
    pub body: Option<&'a Map>,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum ChangeOp {
    Create { document: DocRef, body: PendingBody, given: Option<Rev> },
    Put { document: DocRef, expected: Rev, body: PendingBody, given: Option<Rev> },
    Delete { document: DocRef, expected: Rev, trace: DeleteMode, given: Option<Rev> },
    PutUnique { instance: InstanceId, index: String, key: String, value: String },
    RemoveUnique { instance: InstanceId, index: String, key: String },
    Enqueue { job: DocRef, turn: QueueEntry },
    Promote { queued: QueuedJob },
    Dequeue { job: DocRef },
    Claim { lease: Lease, turn: QueueEntry },
    Renew { lease: Lease },
    Complete { lease: Lease },
    Expire { lease: Lease },
    Require { document: DocRef },
    Schedule { trigger: DocRef, at: Option<DateTime<Utc>> },
    Fire { trigger: DocRef, instant: DateTime<Utc>, next: Option<DateTime<Utc>> },
}

/// What stays of a deleted document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeleteMode {
    Tombstone,
    Purge,
}

impl Changes {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fences.is_empty() && self.ops.is_empty()
    }

    /// Creates a document. Conflicts when it exists; one that was deleted before goes on with its next revision.
    pub fn create(&mut self, document: DocRef, body: Map) -> &mut Self {
        self.push(ChangeOp::Create { document, body: PendingBody::new(body), given: None })
    }

    /// Replaces a document. Conflicts unless `rev` is its current revision.
    pub fn put(&mut self, document: DocRef, rev: &Rev, body: Map) -> &mut Self {
        self.push(ChangeOp::Put { document, expected: rev.clone(), body: PendingBody::new(body), given: None })
    }

    /// Deletes a document, and takes it out of the queue and the schedule. Conflicts unless `rev` is its current revision,
    /// and while it is a running job.
    pub fn delete(&mut self, document: DocRef, rev: &Rev) -> &mut Self {
        self.push(ChangeOp::Delete { document, expected: rev.clone(), trace: DeleteMode::Tombstone, given: None })
    }

    /// Like [`Changes::delete`], without a trace: for documents such as jobs, which are many and whose ids never come back.
    /// They do not count as deleted afterwards, but as never created.
    pub fn purge(&mut self, document: DocRef, rev: &Rev) -> &mut Self {
        self.push(ChangeOp::Delete { document, expected: rev.clone(), trace: DeleteMode::Purge, given: None })
    }

    /// Gives the document that was written last this revision, which it has in another store, in place of its next one. Conflicts unless it is
    /// of a later generation than the revision before.
    pub fn with_rev(&mut self, rev: &Rev) -> &mut Self {
        if let Some(ChangeOp::Create { given, .. } | ChangeOp::Put { given, .. } | ChangeOp::Delete { given, .. }) =
            self.ops.last_mut()
        {
            *given = Some(rev.clone());
        }
        self
    }

    /// Gives `key` in a unique index to `value`. Conflicts when another value has it.
    ///
    /// The key may be of any text; the index is a name of 1 to 64 bytes.
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

    /// Frees `key` in a unique index, whoever has it.
    pub fn remove_unique(&mut self, instance: &InstanceId, index: &str, key: impl Into<String>) -> &mut Self {
        self.push(ChangeOp::RemoveUnique { instance: instance.clone(), index: index.to_owned(), key: key.into() })
    }

    /// Makes the whole commit depend on this lease: it fails with [`crate::Error::StaleLease`] unless the lease is held before
    /// its first change. This is how a run that was given up can no longer write.
    pub fn fence(&mut self, lease: &Lease) -> &mut Self {
        self.fences.push(lease.clone());
        self
    }

    /// Makes the whole commit depend on this document being there, as the changes before leave it; fails with
    /// [`crate::Error::NotFound`] otherwise. What belongs to a document is then not written beside its deletion.
    pub fn require(&mut self, document: DocRef) -> &mut Self {
        self.push(ChangeOp::Require { document })
    }

    /// Puts a job into the queue. A waiting job is moved. Conflicts while the job runs; its document must exist or be created before.
    pub fn enqueue(&mut self, job: DocRef, turn: QueueEntry) -> &mut Self {
        self.push(ChangeOp::Enqueue { job, turn })
    }

    /// Takes a waiting job out of the queue. Conflicts when it is not waiting.
    pub fn dequeue(&mut self, job: &DocRef) -> &mut Self {
        self.push(ChangeOp::Dequeue { job: job.clone() })
    }

    /// Ends a lease and frees its lock and its permits; fails with [`crate::Error::StaleLease`] when it is not held. Follow it with
    /// [`Changes::enqueue`] to run the job again; its next lease has a higher epoch.
    pub fn complete(&mut self, lease: &Lease) -> &mut Self {
        self.push(ChangeOp::Complete { lease: lease.clone() })
    }

    /// The same for a lease that somebody else holds and has not renewed for long; fails with [`crate::Error::StaleLease`] also when it
    /// was renewed since it was read.
    pub fn expire(&mut self, lease: &Lease) -> &mut Self {
        self.push(ChangeOp::Expire { lease: lease.clone() })
    }

    /// Sets when a trigger is due next, or with `None` takes it out of the schedule. Its document must exist or be created
    /// before. Instants are kept to the microsecond.
    pub fn schedule(&mut self, trigger: DocRef, at: Option<DateTime<Utc>>) -> &mut Self {
        self.push(ChangeOp::Schedule { trigger, at })
    }

    /// Uses up the instant at which a trigger is due and sets the next one. Conflicts unless the trigger is due exactly at
    /// `instant`, so that each instant fires once, however many try; add the job that it starts to the same commit.
    pub fn fire(&mut self, trigger: &DocRef, instant: DateTime<Utc>, next: Option<DateTime<Utc>>) -> &mut Self {
        self.push(ChangeOp::Fire { trigger: trigger.clone(), instant, next })
    }

    /// The documents that are written, in order.
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

    /// Whether something is due at some time once they are committed.
    #[must_use]
    pub fn has_schedule(&self) -> bool {
        self.ops
            .iter()
            .any(|step| matches!(step, ChangeOp::Schedule { at: Some(_), .. } | ChangeOp::Fire { next: Some(_), .. }))
    }

    /// Adds the changes of another set after those of this one.
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
