//! The core that all layers share: the store with the caller's lease, clocks, key, events and the lifetime of the
//! process.

use std::sync::Arc;

use konnector_manifest::Doctype;
use konnector_store::{BlobId, Changes, DocumentWrite, Lease, MasterKey, Rev, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::hook::{CommitGuard, CommitHook, DocumentRule, PlainDocuments};
use crate::instance::{self, InstanceCache};
use crate::random::RandomSource;
use crate::rate::{HourlyLimits, RateCounters};
use crate::realtime::Bus;
use crate::stored::Object;
use crate::{Error, Result};

/// Components from which the core is built.
pub struct CoreParts {
    /// Durable storage of all documents, blobs and queues.
    pub store: Store,
    /// Key that seals secrets and signs tokens.
    pub key: MasterKey,
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Source of jitter.
    pub random: Arc<dyn RandomSource>,
    /// Rate limits of an instance per hour.
    pub hourly_limits: HourlyLimits,
    /// Hooks of all commits, in the order in which they stage.
    pub commit_hooks: Vec<Arc<dyn CommitHook>>,
    /// Rules of doctypes that have some.
    pub document_rules: Vec<(Doctype, Arc<dyn DocumentRule>)>,
}

/// The core. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    inner: Arc<Inner>,
    /// Lease that each commit requires; see [`Core::fenced`].
    fence: Option<Arc<Lease>>,
}

struct Inner {
    parts: CoreParts,
    bus: Bus,
    instance_cache: InstanceCache,
    rate_counters: RateCounters,
    schedule_changed: Notify,
    draining: CancellationToken,
    forced_shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Core {
    /// Assembles the parts.
    #[must_use]
    pub fn new(parts: CoreParts) -> Self {
        let inner = Inner {
            parts,
            bus: Bus::default(),
            instance_cache: InstanceCache::default(),
            rate_counters: RateCounters::default(),
            schedule_changed: Notify::new(),
            draining: CancellationToken::new(),
            forced_shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner), fence: None }
    }

    /// Returns the core for the run of a job. Once another worker holds the lease, every write through it fails.
    #[must_use]
    pub fn fenced(&self, lease: &Lease) -> Self {
        Self { inner: Arc::clone(&self.inner), fence: Some(Arc::new(lease.clone())) }
    }

    /// Returns the lease that each commit requires.
    #[must_use]
    pub fn fence(&self) -> Option<&Lease> {
        self.fence.as_deref()
    }

    /// Applies all changes or none, and returns once they are durable; see [`Store::commit`]. The commit also contains
    /// the effects that the hooks add, and creates nothing in a deleted instance. If it contains a schedule, the
    /// scheduler immediately checks what is due.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a document was changed concurrently, [`Error::StaleLease`] if the lease was lost,
    /// [`Error::NotFound`] if the instance was deleted; also errors of the hooks.
    pub async fn commit(&self, changes: Changes) -> Result<Vec<Rev>> {
        self.commit_with_hooks(changes).instrument(tracing::debug_span!("commit")).await
    }

    async fn commit_with_hooks(&self, mut changes: Changes) -> Result<Vec<Rev>> {
        if let Some(lease) = &self.fence {
            changes.fence(lease);
        }
        let documents = changes.document_writes().count();
        let mut guards = Vec::new();
        for hook in &self.inner.parts.commit_hooks {
            guards.extend(hook.stage(self, &mut changes)?);
        }
        instance::stage_instance_requirement(&mut changes);
        let has_schedule = changes.has_schedule();
        let committed = if guards.is_empty() {
            self.store().commit(changes).await.map_err(Error::from)
        } else {
            self.commit_guarded(changes, guards).await
        };
        let mut revs = committed.map_err(instance::map_missing_instance)?;
        if has_schedule {
            self.inner.schedule_changed.notify_one();
        }
        revs.truncate(documents);
        Ok(revs)
    }

    /// Commits under guards. Runs to the end even if the caller no longer waits, so that the guards count what was
    /// committed.
    async fn commit_guarded(&self, changes: Changes, mut guards: Vec<Box<dyn CommitGuard>>) -> Result<Vec<Rev>> {
        let core = self.clone();
        let committing = async move {
            for guard in &mut guards {
                guard.begin(&core).await?;
            }
            let revs = core.store().commit(changes).await?;
            for guard in guards {
                guard.committed();
            }
            Ok(revs)
        };
        let committed = self.tasks().spawn(committing.in_current_span());
        committed.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }

    /// Commits changes whose first one writes a document; returns its revision.
    ///
    /// # Errors
    ///
    /// As [`Core::commit`]; [`Error::BadRequest`] if no document is written.
    pub async fn commit_one(&self, changes: Changes) -> Result<Rev> {
        let revs = self.commit(changes).await?;
        revs.into_iter().next().ok_or_else(|| Error::BadRequest("the commit contains no document".to_owned()))
    }

    /// Returns the stored version of a document that is about to be written. Returns `None` for a new document, and for
    /// one whose revision differs from the one that the writer expects, which makes the commit conflict.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn document_before(&self, written: DocumentWrite<'_>) -> Result<Option<Object>> {
        let Some(rev) = written.previous_rev else { return Ok(None) };
        Ok(self.store().get(written.document)?.filter(|found| found.rev == *rev).map(|found| found.body))
    }

    /// Deletes blobs that are no longer needed. A failure is logged: the next sweep deletes the blob.
    pub async fn delete_blobs(&self, blobs: impl IntoIterator<Item = BlobId, IntoIter: Send> + Send) {
        for blob in blobs {
            if let Err(error) = self.store().blobs().remove(&blob).await {
                tracing::warn!(%error, "an unneeded blob cannot be deleted; the next sweep retries");
            }
        }
    }

    /// Resolves after a commit that contains a schedule.
    pub async fn schedule_changed(&self) {
        self.inner.schedule_changed.notified().await;
    }

    /// Returns the rules of a doctype.
    pub(crate) fn rule(&self, doctype: &Doctype) -> &dyn DocumentRule {
        let rules = &self.inner.parts.document_rules;
        rules.iter().find(|(of, _)| of == doctype).map_or(&PlainDocuments, |(_, rule)| rule.as_ref())
    }

    /// Returns the store. Writes go through [`Core::commit`].
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    /// Returns the key that seals secrets and signs tokens.
    #[must_use]
    pub fn key(&self) -> &MasterKey {
        &self.inner.parts.key
    }

    /// Returns the clocks.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.inner.parts.clock.as_ref()
    }

    /// Returns the source of jitter.
    #[must_use]
    pub fn random(&self) -> &dyn RandomSource {
        self.inner.parts.random.as_ref()
    }

    /// Returns the bus of realtime events.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    /// Returns the token that is cancelled when the process is asked to stop.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    /// Returns the token that is cancelled when the grace period of running jobs ends.
    #[must_use]
    pub fn forced_shutdown(&self) -> &CancellationToken {
        &self.inner.forced_shutdown
    }

    /// Returns the tasks that the process waits for before it ends.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    pub(crate) fn instance_cache(&self) -> &InstanceCache {
        &self.inner.instance_cache
    }

    pub(crate) fn rate_counters(&self) -> &RateCounters {
        &self.inner.rate_counters
    }

    pub(crate) fn hourly_limits(&self) -> &HourlyLimits {
        &self.inner.parts.hourly_limits
    }
}
