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

/// How often a commit is planned anew before it gives up: each time, another commit has succeeded in between.
const MAX_COMMIT_ATTEMPTS: usize = 100;

/// Documents, queue, schedule and blobs of one data folder. Clones share it.
///
/// Reads are synchronous and short, and are consistent with every commit that has answered. Several reads are no snapshot;
/// what must fit together is decided by a commit, which fails when something it depends on has changed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order: the lock on the folder goes last.
struct Inner {
    kv: ChangeTracker,
    blobs: DeferredDeletes,
    round_robin: RoundRobin,
    /// `None` for a store that is no data folder of this process alone.
    session: Option<FolderSession>,
}

impl Store {
    /// Opens a data folder, which is created when it is missing.
    ///
    /// Blocks while the database reads its log. Blobs need a Tokio runtime, this call needs none.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process runs on the folder; [`Error::DatabaseCorrupt`], [`Error::UnsupportedFormat`],
    /// [`Error::Io`].
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self> {
        let open::OpenedFolder { kv, blobs, session } = open::open(dir, &options)?;
        Ok(Self::from_parts(Box::new(kv), Box::new(blobs), Some(session)))
    }

    /// A store that ends with the process, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with_backends(Box::<MemoryKv>::default(), Box::<MemoryBlobs>::default())
    }

    /// A store over another backend, which other processes may use at the same time.
    #[must_use]
    pub fn with_backends(kv: Box<dyn Kv>, blobs: Box<dyn Blobs>) -> Self {
        Self::from_parts(kv, blobs, None)
    }

    fn from_parts(kv: Box<dyn Kv>, blobs: Box<dyn Blobs>, session: Option<FolderSession>) -> Self {
        let (kv, blobs) = (ChangeTracker::new(kv), DeferredDeletes::new(blobs));
        Self { inner: Arc::new(Inner { kv, blobs, round_robin: RoundRobin::default(), session }) }
    }

    /// Whether no other process uses this store: then whatever lease is found at the start belongs to nobody any more.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.inner.session.is_some()
    }

    /// When this process opened the store, where no other uses it.
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

    /// Whether a process before did not close the folder: it was killed, or the power was cut. Look through it then, with
    /// [`Store::fsck`]; it stays so until that finds nothing wrong.
    #[must_use]
    pub fn was_unclean(&self) -> bool {
        self.inner.session.as_ref().is_some_and(|session| session.unclean)
    }

    /// Notes that nothing is wrong.
    pub(crate) fn mark_checked(&self) {
        if let Some(session) = &self.inner.session {
            session.checked.store(true, Ordering::Release);
        }
    }

    /// Notes the fingerprint of the key that seals what is in the folder; see [`crate::key_fingerprint`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save_key_fingerprint(&self, fingerprint: &str) -> Result<()> {
        self.inner.session.as_ref().map_or(Ok(()), |session| open::save_key_fingerprint(session.dir(), fingerprint))
    }

    /// Refuses when there is no room for new data.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub fn check_space(&self) -> Result<()> {
        self.inner.session.as_ref().map_or(Ok(()), |session| session.space.check())
    }

    /// Answers, with the reason, once the disk failed a write: from then on every commit is refused, and only a restart helps. Never
    /// answers otherwise. Cancel-safe.
    pub async fn wait_for_failure(&self) -> String {
        self.kv().wait_for_failure().await
    }

    /// The contents of files.
    #[must_use]
    pub fn blobs(&self) -> &dyn Blobs {
        &self.inner.blobs
    }

    /// Refuses new commits, waits for those accepted and lets go of the data folder, once the last clone is dropped.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be noted that the folder was closed; [`Error::Poisoned`] when the disk failed a write.
    pub async fn close(self) -> Result<()> {
        // An empty commit tells whether all before it are durable; a second closing finds it closed.
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
    /// A document, `None` when it was deleted or never created.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and failures of the database, as for every read.
    pub fn get(&self, document: &DocRef) -> Result<Option<Document>> {
        document::read(self.kv(), self.blobs(), document)
    }

    /// A count that has grown by the time that a call answers which wrote something: while it stays, every read answers the same. `None`
    /// when others write to the same store.
    #[must_use]
    pub fn write_count(&self) -> Option<u64> {
        self.kv().write_count()
    }

    /// What tells whether a document is still the one that was read; much cheaper than reading it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn stamp(&self, document: &DocRef) -> Result<Option<DocumentStamp>> {
        document::stamp(self.kv(), document)
    }

    /// Whether a document existed and was deleted.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn was_deleted(&self, document: &DocRef) -> Result<bool> {
        let Some(key) = document::lookup_key(Keyspace::Tombstone, document)? else { return Ok(false) };
        Ok(self.kv().get(&key)?.is_some())
    }

    /// Up to `limit` documents of a type in the order of their ids (by bytes), from behind `after` on.
    ///
    /// # Errors
    /// Like [`Store::get`].
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

    /// The types that an instance has documents of, in no particular order.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn doctypes(&self, instance: &InstanceId) -> Result<Vec<Doctype>> {
        let mut range = key::all_documents(instance);
        let mut doctypes = Vec::new();
        while let Some((_, DocumentRecord { doctype, .. })) = view::scan(self.kv(), &range, 1)?.pop() {
            range.from = key::documents(instance, &doctype).to;
            doctypes.push(doctype);
        }
        Ok(doctypes)
    }

    /// Makes all changes or none, and answers once they are durable: one revision per document created, replaced or deleted,
    /// in order.
    ///
    /// Cancel safety: when the call is dropped, the changes may or may not be made, never in part.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::StaleLease`], [`Error::NotFound`], [`Error::TooLarge`],
    /// [`Error::Invalid`], and [`Error::DiskFull`] when a document is created: nothing was written. [`Error::Poisoned`]: the disk failed, and only a restart tells
    /// whether the changes are there.
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
        // What is there already may still be changed, finished and deleted: the reserve is for that.
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
                tracing::warn!(%error, "a content that nothing needs stays until the next sweep");
            }
        }
    }
}

/// Unique indexes.
impl Store {
    /// The value that has a key in a unique index.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong index name; like [`Store::get`].
    pub fn lookup(&self, instance: &InstanceId, index: &str, key: &str) -> Result<Option<String>> {
        unique_index::lookup(self.kv(), instance, index, key)
    }

    /// Up to `limit` keys that start with `prefix`, with their values, from behind the key `after` on.
    ///
    /// They come in the order of their bytes, except that keys over 160 bytes which share their first 128 bytes come in an
    /// order of their own; paging by `after` meets each of them once.
    ///
    /// # Errors
    /// Like [`Store::lookup`].
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
    /// The index over these members of the documents of a type, made where it is missing: then this call takes as long as putting every
    /// document into it does. A member is a path such as `vendor` or `cozyMetadata.createdAt`; `_id` is the document's id.
    ///
    /// Cancel safety: what was done stays, and the next call goes on from there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong list of members, and when the type has [`INDEXES`](crate::INDEXES) indexes already; like
    /// [`Store::commit`] otherwise.
    pub async fn ensure_index(&self, instance: &InstanceId, doctype: &Doctype, members: &[String]) -> Result<Index> {
        secondary_index::ensure(self, instance, doctype, members).await
    }

    /// The members of the indexes that documents of a type have, ready or not.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn list_indexes(&self, instance: &InstanceId, doctype: &Doctype) -> Result<Vec<Vec<String>>> {
        secondary_index::list(self.kv(), instance, doctype)
    }

    /// Takes an index away with its entries; nothing happens when there is none over these members.
    ///
    /// Cancel safety: the index is gone or not; entries that are left are removed by the next call for the type.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    pub async fn drop_index(&self, instance: &InstanceId, doctype: &Doctype, members: &[String]) -> Result<()> {
        secondary_index::drop_index(self, instance, doctype, members).await
    }

    /// Up to `limit` documents of a part of an index, in its order, from behind `after` on. No snapshot: a document may have been changed
    /// or deleted since; [`IndexRange::contains`] tells whether what is read then still belongs here.
    ///
    /// # Errors
    /// Like [`Store::get`].
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
    /// Leases up to `limit` jobs that are due at `now` to `worker`. Instances take turns, and so do the locks of an instance; jobs without a
    /// lock come in the order of their time. A job is passed over while its lock is held, a class of jobs while a permit of its next job
    /// is; those behind it are not held up. The cost does not grow with the number of jobs that wait.
    ///
    /// Each lease is one atomic commit: the job leaves the queue, takes its lock and its permits, gets its next epoch, and its document
    /// becomes what `started` makes of it. `worker` is a name that no other process has. `needs` tells the permits of a job; it and
    /// `started` must be quick.
    ///
    /// Cancel safety: leases of a dropped call may have been taken; nobody renews them.
    ///
    /// # Errors
    /// Failures of the database, when no job could be leased.
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

    /// Up to `limit` waiting jobs: first those whose time has come, then the others in the order of their time.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn list_queued(&self, limit: usize) -> Result<Vec<QueuedJob>> {
        queue::list(self.kv(), limit)
    }

    /// The place of a job in the queue, `None` unless it waits.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn get_queued(&self, job: &DocRef) -> Result<Option<QueuedJob>> {
        queue::get(self.kv(), job)
    }

    /// When the time of the next job comes that is not ready yet.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn next_run_at(&self) -> Result<Option<DateTime<Utc>>> {
        Ok(queue::list_delayed(self.kv(), None, 1)?.pop().map(|queued| queued.entry.run_at))
    }

    /// Shows that the holder of a lease is alive.
    ///
    /// # Errors
    /// [`Error::StaleLease`] when the lease is no longer held: the run must stop. Like [`Store::commit`] otherwise.
    pub async fn renew(&self, lease: &Lease) -> Result<()> {
        let mut changes = Changes::new();
        changes.push(ChangeOp::Renew { lease: lease.clone() });
        self.commit(changes).await.map(drop)
    }

    /// All leases.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn leases(&self) -> Result<Vec<Lease>> {
        queue::leases(self.kv())
    }

    /// The lease of a job, `None` unless it runs.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn lease(&self, job: &DocRef) -> Result<Option<Lease>> {
        queue::lease(self.kv(), job)
    }
}

/// The schedule of triggers.
impl Store {
    /// Up to `limit` triggers that are due at `now`, each with its due instant, oldest first. They stay due until
    /// [`Changes::fire`] uses that instant up.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn due_triggers(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<(DocRef, DateTime<Utc>)>> {
        schedule::due(self.kv(), now, limit)
    }

    /// When the first trigger is due.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn next_due_at(&self) -> Result<Option<DateTime<Utc>>> {
        schedule::next_due_at(self.kv())
    }

    /// When a trigger is due, `None` when it is not scheduled.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn due_at(&self, trigger: &DocRef) -> Result<Option<DateTime<Utc>>> {
        schedule::due_at(self.kv(), trigger)
    }
}
