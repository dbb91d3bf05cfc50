//! The store as the rest of the program sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use konnector_manifest::Doctype;
use konnector_query::{Direction, IndexRange};

use crate::Map;
use crate::blob::{BlobId, Blobs, DeferredDeletes, MemoryBlobs};
use crate::changes::{ChangeOp, Changes};
use crate::document::{self, Document, DocumentRecord, DocumentStamp};
use crate::error::{Conflict, Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Keyspace};
use crate::kv::{Batch, ChangeTracker, CommitOutcome, Kv, MemoryKv};
use crate::open::{self, FolderSession, StoreOptions};
use crate::page::range_after;
use crate::plan::{CommitPlan, plan};
use crate::queue::{self, ClaimRequest, JobPermit, Lease, QueuedJob, RoundRobin};
use crate::rev::Rev;
use crate::secondary_index::{self, Index, IndexCursor, IndexHit};
use crate::{schedule, unique_index, view};

/// How often a commit is planned again before it fails. Each retry means that another commit has succeeded in between.
const MAX_COMMIT_ATTEMPTS: usize = 100;

/// Documents, queue, schedule and blobs of one data folder. Clones share the same state.
///
/// Reads are synchronous and short, and see every commit that has returned. Several reads are not a snapshot; decisions
/// that need a consistent view belong in a commit, which fails if something that it depends on has changed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order, so the lock on the folder is released last.
struct Inner {
    kv: ChangeTracker,
    blobs: DeferredDeletes,
    round_robin: RoundRobin,
    /// `None` for a store that is not a data folder used by this process alone.
    session: Option<FolderSession>,
}

impl Store {
    /// Opens a data folder and creates it if it is missing.
    ///
    /// Blocks while the database reads its log. Blobs need a Tokio runtime; this call does not.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process uses the folder; [`Error::DatabaseCorrupt`],
    /// [`Error::UnsupportedFormat`], [`Error::Io`].
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self> {
        let open::OpenedFolder { kv, blobs, session } = open::open(dir, &options)?;
        Ok(Self::from_parts(Box::new(kv), Box::new(blobs), Some(session)))
    }

    /// Creates a store that lives as long as the process, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with_backends(Box::<MemoryKv>::default(), Box::<MemoryBlobs>::default())
    }

    /// Creates a store over another backend, which other processes may use at the same time.
    #[must_use]
    pub fn with_backends(kv: Box<dyn Kv>, blobs: Box<dyn Blobs>) -> Self {
        Self::from_parts(kv, blobs, None)
    }

    fn from_parts(kv: Box<dyn Kv>, blobs: Box<dyn Blobs>, session: Option<FolderSession>) -> Self {
        let (kv, blobs) = (ChangeTracker::new(kv), DeferredDeletes::new(blobs));
        Self { inner: Arc::new(Inner { kv, blobs, round_robin: RoundRobin::default(), session }) }
    }

    /// Returns whether no other process uses this store. If so, leases found at the start have no live holder.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.inner.session.is_some()
    }

    /// Returns when this process opened the store, if no other process uses it.
    pub(crate) fn opened_at(&self) -> Option<DateTime<Utc>> {
        self.inner.session.as_ref().map(|session| session.opened_at)
    }

    pub(crate) fn round_robin(&self) -> &RoundRobin {
        &self.inner.round_robin
    }

    pub(crate) fn kv(&self) -> &dyn Kv {
        &self.inner.kv
    }

    pub(crate) fn change_tracker(&self) -> &ChangeTracker {
        &self.inner.kv
    }

    pub(crate) fn deferred_deletes(&self) -> &DeferredDeletes {
        &self.inner.blobs
    }

    /// Returns whether an earlier process did not close the folder, because the process was killed or the power failed.
    /// In that case, check the folder with [`Store::fsck`]; the result stays true until a check finds no problems.
    #[must_use]
    pub fn was_unclean(&self) -> bool {
        self.inner.session.as_ref().is_some_and(|session| session.unclean)
    }

    /// Records that the store has no problems.
    pub(crate) fn mark_checked(&self) {
        if let Some(session) = &self.inner.session {
            session.checked.store(true, Ordering::Release);
        }
    }

    /// Records the fingerprint of the key that seals the secrets in the folder; see [`crate::key_fingerprint`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_key_fingerprint(&self, fingerprint: &str) -> Result<()> {
        self.inner.session.as_ref().map_or(Ok(()), |session| open::save_key_fingerprint(session.dir(), fingerprint))
    }

    /// Fails if there is no space for new data.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`] if less than the reserve is free.
    pub fn check_space(&self) -> Result<()> {
        self.inner.session.as_ref().map_or(Ok(()), |session| session.space.check())
    }

    /// Waits until the disk fails a write and returns the reason; from then on, every commit is rejected, and only a
    /// restart helps. Otherwise it never returns. Cancel-safe.
    pub async fn wait_for_failure(&self) -> String {
        self.kv().wait_for_failure().await
    }

    /// Returns the blobs.
    #[must_use]
    pub fn blobs(&self) -> &dyn Blobs {
        &self.inner.blobs
    }

    /// Rejects new commits, waits for the accepted ones and releases the data folder once the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the clean shutdown cannot be recorded; [`Error::Poisoned`] if the disk failed a write.
    pub async fn close(self) -> Result<()> {
        // An empty commit checks that all earlier ones are durable; on a second call, the database is already closed.
        match self.kv().commit(Batch::default()).await {
            Ok(_) => {}
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.kv().close().await;
        self.inner.session.as_ref().map_or(Ok(()), FolderSession::end)
    }
}

/// Documents.
impl Store {
    /// Returns a document, `None` if it was deleted or never created.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], or if the database fails, like every read.
    pub fn get(&self, document: &DocRef) -> Result<Option<Document>> {
        document::read(self.kv(), self.blobs(), document)
    }

    /// Returns a counter that has increased by the time a call that wrote something returns. While the counter stays
    /// the same, every read returns the same data. `None` if other processes write to the same store.
    #[must_use]
    pub fn write_count(&self) -> Option<u64> {
        self.kv().write_count()
    }

    /// Returns a stamp that shows whether a document has changed since it was read; much cheaper than reading it.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn stamp(&self, document: &DocRef) -> Result<Option<DocumentStamp>> {
        document::stamp(self.kv(), document)
    }

    /// Returns whether a document existed and was deleted.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn was_deleted(&self, document: &DocRef) -> Result<bool> {
        let Some(key) = document::lookup_key(Keyspace::Tombstone, document)? else { return Ok(false) };
        Ok(self.kv().get(&key)?.is_some())
    }

    /// Returns up to `limit` documents of a doctype in the order of their ids (by bytes), starting after `after`.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn list(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>> {
        let range = range_after(instance, doctype, after)?;
        let mut documents = Vec::new();
        for (key, record) in view::scan(self.kv(), &range, limit)? {
            let document = DocRef::new(instance, doctype, key::document_id(&key)?);
            documents.extend(document::resolve(self.kv(), self.blobs(), &document, Some(record))?);
        }
        Ok(documents)
    }

    /// Returns the types of which an instance has documents, in no particular order.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn doctypes(&self, instance: &InstanceId) -> Result<Vec<Doctype>> {
        let mut range = key::all_documents(instance);
        let mut doctypes = Vec::new();
        while let Some((_, DocumentRecord { doctype, .. })) = view::scan(self.kv(), &range, 1)?.pop() {
            range.from = key::documents(instance, &doctype).to;
            doctypes.push(doctype);
        }
        Ok(doctypes)
    }

    /// Applies all changes or none, and waits until they are durable. Returns one revision per document created,
    /// replaced or deleted, in order.
    ///
    /// Cancel safety: when the call is dropped, the changes may or may not be applied, but never in part.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`], [`Error::StaleLease`], [`Error::NotFound`], [`Error::TooLarge`], [`Error::Invalid`], and
    /// [`Error::DiskFull`] if a document is created; in these cases, nothing was written. [`Error::Poisoned`] if the
    /// disk failed; only a restart shows whether the changes were written.
    pub async fn commit(&self, mut changes: Changes) -> Result<Vec<Rev>> {
        let mut spilled = Vec::new();
        match self.try_commit(&mut changes, &mut spilled).await {
            Ok(CommitPlan { revs, unlinked_blobs: freed, .. }) => {
                self.remove_blobs(freed).await;
                Ok(revs)
            }
            // The batch may be on the disk, and its documents may then refer to these blobs after a restart.
            Err(Error::Poisoned) => Err(Error::Poisoned),
            Err(error) => {
                self.remove_blobs(spilled).await;
                Err(error)
            }
        }
    }

    async fn try_commit(&self, changes: &mut Changes, spilled: &mut Vec<BlobId>) -> Result<CommitPlan> {
        // Existing documents can still be changed, finished and deleted, because the reserve exists for this.
        if changes.ops.iter().any(|step| matches!(step, ChangeOp::Create { .. })) {
            self.check_space()?;
        }
        for step in &mut changes.ops {
            if let ChangeOp::Create { document, body, .. } | ChangeOp::Put { document, body, .. } = step {
                spilled.extend(body.spill(self.blobs(), document).await?);
            }
        }
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let mut plan = match plan(self.kv(), self.blobs(), changes) {
                Err(Error::BlobNotFound { .. }) => continue,
                plan => plan?,
            };
            match self.kv().commit(std::mem::take(&mut plan.batch)).await? {
                CommitOutcome::Applied => return Ok(plan),
                CommitOutcome::Rejected => {}
            }
        }
        Err(Conflict::Contention.into())
    }

    pub(crate) async fn remove_blobs(&self, blobs: Vec<BlobId>) {
        for blob in blobs {
            if let Err(error) = self.blobs().remove(&blob).await {
                tracing::warn!(%error, "an unreferenced blob stays until the next sweep");
            }
        }
    }
}

/// Unique indexes.
impl Store {
    /// Returns the value that owns a key in a unique index.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an invalid index name; otherwise as [`Store::get`].
    pub fn lookup(&self, instance: &InstanceId, index: &str, key: &str) -> Result<Option<String>> {
        unique_index::lookup(self.kv(), instance, index, key)
    }

    /// Returns up to `limit` keys that start with `prefix`, with their values, starting after the key `after`.
    ///
    /// They are in byte order, except that keys over 160 bytes that share their first 128 bytes have an order of their
    /// own. Paging by `after` returns each of them once.
    ///
    /// # Errors
    ///
    /// As [`Store::lookup`].
    pub fn lookup_prefix(
        &self,
        instance: &InstanceId,
        index: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>> {
        unique_index::lookup_prefix(self.kv(), instance, index, prefix, after, limit)
    }
}

/// Secondary indexes.
impl Store {
    /// Ensures that an index over these fields of the documents of a doctype exists. If it is missing, this call builds
    /// it, which takes as long as adding every document to it. A field is a path such as `vendor` or
    /// `cozyMetadata.createdAt`; `_id` is the document's id.
    ///
    /// Cancel safety: completed steps persist, and the next call continues from there.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an invalid list of fields, and if the doctype already has
    /// [`MAX_INDEXES`](crate::MAX_INDEXES) indexes; otherwise as [`Store::commit`].
    pub async fn ensure_index(&self, instance: &InstanceId, doctype: &Doctype, fields: &[String]) -> Result<Index> {
        secondary_index::ensure(self, instance, doctype, fields).await
    }

    /// Returns the fields of the indexes of a doctype, whether the indexes are ready or not.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn list_indexes(&self, instance: &InstanceId, doctype: &Doctype) -> Result<Vec<Vec<String>>> {
        secondary_index::list(self.kv(), instance, doctype)
    }

    /// Removes an index and its entries; does nothing if there is no index over these fields.
    ///
    /// Cancel safety: the index is removed or not; the next call for the doctype removes leftover entries.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub async fn drop_index(&self, instance: &InstanceId, doctype: &Doctype, fields: &[String]) -> Result<()> {
        secondary_index::drop_index(self, instance, doctype, fields).await
    }

    /// Returns up to `limit` documents of a part of an index, in its order, starting after `after`. This is not a
    /// snapshot, so a document may have been changed or deleted since; use [`IndexRange::contains`] to check whether
    /// the document that is read later still belongs to the range.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn scan_index(
        &self,
        index: &Index,
        range: &IndexRange,
        direction: Direction,
        after: Option<&IndexCursor>,
        limit: usize,
    ) -> Result<Vec<IndexHit>> {
        secondary_index::scan(self.kv(), index, range, direction, after, limit)
    }
}

/// The queue of jobs.
impl Store {
    /// Leases up to `limit` jobs that are due at `now` to `worker`. Instances take turns, and so do the locks of an
    /// instance; jobs without a lock come in the order of their time. A job is skipped while its lock is held, and a
    /// class of jobs while a permit of its next job is taken; the jobs after them are not delayed. The cost does not
    /// grow with the number of waiting jobs.
    ///
    /// Each lease is one atomic commit. The job leaves the queue, takes its lock and its permits, gets its next epoch,
    /// and `started` updates the body of its document. `worker` is a name that no other process has. `needs` returns
    /// the permits of a job; it and `started` must be quick.
    ///
    /// Cancel safety: a dropped call may have taken leases; no worker renews them.
    ///
    /// # Errors
    ///
    /// If the store fails and no job could be leased.
    pub async fn claim(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        limit: usize,
        needs: &(dyn Fn(&DocRef, &Document) -> Vec<JobPermit> + Send + Sync),
        started: &(dyn Fn(&mut Map) + Send + Sync),
    ) -> Result<Vec<Lease>> {
        queue::claim(self, ClaimRequest { worker, now, limit, permits_of: needs, on_start: started }).await
    }

    /// Returns up to `limit` waiting jobs: first those whose time has come, then the others in the order of their time.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn list_queued(&self, limit: usize) -> Result<Vec<QueuedJob>> {
        queue::list(self.kv(), limit)
    }

    /// Returns the state of a job in the queue, `None` unless it is waiting.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get_queued(&self, job: &DocRef) -> Result<Option<QueuedJob>> {
        queue::get(self.kv(), job)
    }

    /// Returns when the next job that is not ready yet becomes due.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn next_run_at(&self) -> Result<Option<DateTime<Utc>>> {
        Ok(queue::list_delayed(self.kv(), None, 1)?.pop().map(|queued| queued.entry.run_at))
    }

    /// Renews a lease to show that its holder is alive.
    ///
    /// # Errors
    ///
    /// [`Error::StaleLease`] if the lease is no longer held and the run must stop; otherwise as [`Store::commit`].
    pub async fn renew(&self, lease: &Lease) -> Result<()> {
        let mut changes = Changes::new();
        changes.push(ChangeOp::Renew { lease: lease.clone() });
        self.commit(changes).await.map(drop)
    }

    /// Returns all leases.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn leases(&self) -> Result<Vec<Lease>> {
        queue::leases(self.kv())
    }

    /// Returns the lease of a job, `None` unless the job is running.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn lease(&self, job: &DocRef) -> Result<Option<Lease>> {
        queue::lease(self.kv(), job)
    }
}

/// The schedule of triggers.
impl Store {
    /// Returns up to `limit` triggers that are due at `now`, each with its due instant, oldest first. They stay due
    /// until [`Changes::fire`] consumes that instant.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn due_triggers(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<(DocRef, DateTime<Utc>)>> {
        schedule::due(self.kv(), now, limit)
    }

    /// Returns when the next trigger is due.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn next_due_at(&self) -> Result<Option<DateTime<Utc>>> {
        schedule::next_due_at(self.kv())
    }

    /// Returns when a trigger is due, `None` if it is not scheduled.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn due_at(&self, trigger: &DocRef) -> Result<Option<DateTime<Utc>>> {
        schedule::due_at(self.kv(), trigger)
    }
}
