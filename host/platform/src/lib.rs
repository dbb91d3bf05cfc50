//! The domain: instances, konnectors, permissions, accounts, files, triggers, jobs and their runs.
//!
//! [`Platform`] assembles the parts; its operations are reached by noun through [`handles`]: `platform.files()`,
//! `platform.jobs()`, `platform.accounts()`. The module of each noun implements its handle. This crate has no HTTP API.
//! It stores data in a [`konnector_store::Store`] and runs components in a [`konnector_sandbox::Sandbox`].

pub mod account;
pub mod account_type;
pub mod backup;
pub mod changes;
pub mod clock;
pub mod design;
pub mod doctype;
pub mod document;
mod error;
pub mod file;
pub mod find;
pub mod grant;
pub mod handles;
pub mod instance;
pub mod job;
pub mod key;
pub mod konnector;
pub mod oauth_client;
pub mod offload;
pub mod one_time_token;
pub mod permission;
#[cfg(test)]
mod races;
pub mod random;
pub mod rate;
pub mod realtime;
mod replica;
pub mod revalidating_cache;
mod run;
mod scan;
mod schema;
mod stored;
mod sweep;
pub mod token;
pub mod trigger;

use parking_lot::RwLock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use konnector_egress::Gate;
use konnector_sandbox::capability::InternalBody;
use konnector_sandbox::{LimitPolicy, Sandbox};
use konnector_store::{Changes, DocumentWrite, InstanceId, Lease, MasterKey, Rev, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use error::{Error, Result};
pub use handles::*;
pub use schema::Schema;
pub use stored::Stored;

use crate::account::oauth::Singleflight;
use crate::clock::Clock;
use crate::instance::InstanceCache;
use crate::job::{JobRetention, Runner, RunningJobs, SandboxRunner, VendorHostCache};
use crate::offload::Offload;
use crate::random::{RandomSource, SystemRandom};
use crate::rate::HourlyLimits;
use crate::realtime::Bus;
use crate::stored::new_id;

/// Guesses the media type of a file from its name.
#[must_use]
pub fn media_type(name: &str) -> String {
    mime_guess::from_path(name).first_or_octet_stream().to_string()
}

/// Settings of the operator.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of compiled components; may be emptied at any time.
    pub cache_dir: PathBuf,
    /// Maximum number of jobs that run at the same time.
    pub workers: u32,
    /// How long a worker's lease lasts without a heartbeat; five heartbeats fit into that period.
    pub lease_ttl: Duration,
    /// First delay before a run is retried; it doubles with each attempt, up to six hours, with full jitter.
    pub retry_delay: Duration,
    /// How many jobs of the whole server may contact one vendor host at the same time; 0 means no limit.
    pub vendor_concurrency: u32,
    /// How many jobs of one konnector the whole server runs at the same time; 0 means no limit.
    pub konnector_concurrency: u32,
    /// How many finished jobs are retained, and for how long.
    pub job_retention: JobRetention,
    /// Resource limits of runs.
    pub run_limits: LimitPolicy,
    /// Default quota: bytes that the files of one instance may take.
    pub disk_quota: u64,
    /// Registries in which konnectors are looked up, in this order.
    pub registries: Vec<Url>,
    /// Installs updates that request more permissions without asking the user.
    pub permissions_skip_verification: bool,
    /// Lets clients with the permission install konnectors from the registry, not only the store.
    pub allow_install_via_a_permission: bool,
    /// The program that reaches repositories over SSH.
    pub ssh_program: PathBuf,
    /// Rate limits of an instance per hour.
    pub hourly_limits: HourlyLimits,
    /// URL scheme under which clients reach the public API, for links in responses and for `COZY_URL`.
    pub scheme: &'static str,
}

impl Config {
    /// Returns the defaults, with compiled components in `cache_dir`.
    #[must_use]
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            workers: 4,
            lease_ttl: Duration::from_secs(45),
            retry_delay: Duration::from_secs(300),
            vendor_concurrency: 1,
            konnector_concurrency: 0,
            job_retention: JobRetention::default(),
            run_limits: LimitPolicy::default(),
            disk_quota: 10 << 30,
            registries: Vec::new(),
            permissions_skip_verification: false,
            allow_install_via_a_permission: false,
            ssh_program: PathBuf::from("ssh"),
            hourly_limits: HourlyLimits::default(),
            scheme: "http",
        }
    }
}

/// The public API, called inside the process. The API is built on the platform, so it is set later; see
/// [`Platform::set_internal_api`].
#[async_trait]
pub trait PublicApi: Send + Sync {
    /// Handles a request in origin form whose `Host` names the instance, through this platform. Cancel-safe.
    async fn call(&self, platform: &Platform, request: http::Request<InternalBody>) -> http::Response<InternalBody>;
}

/// Components from which the platform is built.
pub struct PlatformParts {
    /// Durable storage of all documents, blobs and queues.
    pub store: Store,
    /// Sandbox in which components run.
    pub sandbox: Arc<Sandbox>,
    /// HTTP gate, the only access to the network.
    pub gate: Gate,
    /// Key that seals secrets and signs tokens.
    pub key: MasterKey,
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Settings of the operator.
    pub config: Config,
}

/// The platform. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    inner: Arc<Inner>,
    /// Lease that each commit requires; see [`Platform::fenced`].
    fence: Option<Arc<Lease>>,
}

/// The parts and the state that they share.
struct Inner {
    parts: PlatformParts,
    bus: Bus,
    runner: Arc<dyn Runner>,
    random: Arc<dyn RandomSource>,
    /// Name of this process among the workers: unique across processes and restarts.
    worker_id: String,
    running_jobs: RunningJobs,
    vendor_host_cache: VendorHostCache,
    usage: file::UsageTracker,
    trees: file::TreeLocks,
    last_backup_failure: backup::LastBackupFailure,
    instance_cache: InstanceCache,
    token_cache: token::TokenCache,
    registry_cache: konnector::RegistryCache,
    refreshing_konnectors: konnector::UpdatesInProgress,
    worker_wakeup: Notify,
    scheduler_wakeup: Notify,
    rate_counters: rate::RateCounters,
    token_refreshes: Singleflight,
    draining: CancellationToken,
    forced_shutdown: CancellationToken,
    tasks: TaskTracker,
    public_api: RwLock<Option<Arc<dyn PublicApi>>>,
    /// Pool that reads the sources of konnectors.
    source_offload: Offload,
    /// Pool that packs archives of files.
    archive_offload: Offload,
}

impl Platform {
    /// Assembles the parts. Nothing runs yet; see [`Platform::start`].
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if the data was sealed with another key; the server must not start.
    pub async fn new(parts: PlatformParts) -> Result<Self> {
        Self::with_runner(parts, Arc::new(SandboxRunner), Arc::new(SystemRandom)).await
    }

    /// Like [`Platform::new`], with another runner for jobs and another source of randomness.
    ///
    /// # Errors
    ///
    /// See [`Platform::new`].
    pub async fn with_runner(
        parts: PlatformParts,
        runner: Arc<dyn Runner>,
        random: Arc<dyn RandomSource>,
    ) -> Result<Self> {
        let inner = Arc::new(Inner {
            parts,
            runner,
            random,
            worker_id: new_id(),
            running_jobs: RunningJobs::default(),
            vendor_host_cache: VendorHostCache::default(),
            bus: Bus::default(),
            usage: file::UsageTracker::default(),
            trees: file::TreeLocks::default(),
            last_backup_failure: backup::LastBackupFailure::default(),
            instance_cache: InstanceCache::default(),
            token_cache: token::TokenCache::default(),
            registry_cache: konnector::RegistryCache::default(),
            refreshing_konnectors: konnector::UpdatesInProgress::default(),
            worker_wakeup: Notify::new(),
            scheduler_wakeup: Notify::new(),
            rate_counters: rate::RateCounters::default(),
            token_refreshes: Singleflight::default(),
            draining: CancellationToken::new(),
            forced_shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            public_api: RwLock::default(),
            source_offload: konnector::install_pool(),
            archive_offload: file::archive_pool(),
        });
        let platform = Self { inner, fence: None };
        key::check(platform.store(), platform.key()).await?;
        platform.files().ensure_reference_index().await;
        Ok(platform)
    }

    /// Returns the platform for the run of a job. Once another worker holds the lease, every write through it fails.
    pub(crate) fn fenced(&self, lease: &Lease) -> Self {
        Self { inner: Arc::clone(&self.inner), fence: Some(Arc::new(lease.clone())) }
    }

    /// Applies all changes or none, and returns once they are durable; see [`Store::commit`]. The commit also contains
    /// the effects of the written documents: the index of the files that refer to a document, and the events for
    /// triggers that wait for a change. It also enforces the rule about the tree for the places of files, counts the
    /// space that they take, and creates nothing in a deleted instance. If it contains a schedule, the scheduler
    /// immediately checks what is due.
    pub(crate) async fn commit(&self, mut changes: Changes) -> Result<Vec<Rev>> {
        if let Some(lease) = &self.fence {
            changes.fence(lease);
        }
        let documents = changes.document_writes().count();
        let effects = self.files().stage_effects(&mut changes)?;
        self.triggers().stage_events(&mut changes)?;
        instance::stage_instance_requirement(&mut changes);
        let schedules = changes.has_schedule();
        let committed = if effects.is_empty() {
            self.store().commit(changes).await.map_err(Error::from)
        } else {
            self.files().commit_with_effects(changes, effects).await
        };
        let mut revs = committed.map_err(instance::map_missing_instance)?;
        if schedules {
            self.wake_scheduler();
        }
        revs.truncate(documents);
        Ok(revs)
    }

    /// Returns the stored version of a document that is about to be written. Returns `None` for a new document, and for
    /// one whose revision differs from the one that the writer expects, which makes the commit conflict.
    fn document_before(&self, written: DocumentWrite<'_>) -> Result<Option<stored::Object>> {
        let Some(rev) = written.previous_rev else { return Ok(None) };
        Ok(self.store().get(written.document)?.filter(|found| found.rev == *rev).map(|found| found.body))
    }

    /// Lets command components reach the public API under `COZY_URL`, in this process and without the network. Without
    /// it they cannot run. The API and the platform hold each other until [`Platform::stop`].
    pub fn set_internal_api(&self, api: Arc<dyn PublicApi>) {
        *self.inner.public_api.write() = Some(api);
    }

    fn public_api(&self) -> Option<Arc<dyn PublicApi>> {
        self.inner.public_api.read().clone()
    }

    /// Requeues the jobs of processes that have ended, then starts to fire triggers and to run jobs.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn start(&self) -> Result<()> {
        self.instances().resume_erasures().await?;
        self.jobs().recover().await?;
        let workers = self.clone();
        self.inner.tasks.spawn(async move { workers.jobs().run_workers().await });
        let platform = self.clone();
        self.inner.tasks.spawn(async move {
            // Fired triggers, requeued jobs and sweeps are stored; the rest is done after the next start.
            tokio::select! {
                biased;
                () = platform.inner.draining.cancelled() => {}
                () = platform.triggers().run_scheduler() => {}
                () = platform.jobs().watch_leases() => {}
                () = platform.blob_sweeper().run() => {}
            }
        });
        Ok(())
    }

    /// Stops firing triggers and claiming jobs, gives running jobs a few seconds to end, requeues the remaining ones,
    /// then closes the store.
    pub async fn stop(&self) {
        self.inner.draining.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        *self.inner.public_api.write() = None;
        if let Err(error) = self.store().clone().close().await {
            tracing::error!(%error, "the store was not closed cleanly; the next start checks it");
        }
    }

    /// Resolves when the platform is asked to stop.
    pub fn shutdown_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.inner.draining.clone().cancelled_owned()
    }

    /// Ends the grace period of running jobs; see [`Platform::stop`].
    pub fn force_shutdown(&self) {
        self.inner.forced_shutdown.cancel();
    }

    /// Checks that the store can be read.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn check_store(&self) -> Result<()> {
        self.store().doctypes(&InstanceId::global())?;
        Ok(())
    }

    /// Resolves with the reason when a write to the disk fails. After that, only a restart shows what is stored.
    pub fn store_failure(&self) -> impl Future<Output = String> + Send + use<> {
        let store = self.store().clone();
        async move { store.wait_for_failure().await }
    }

    /// Returns the settings of the operator.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.parts.config
    }

    /// Returns the store, for tests that plant damage. Nothing else may bypass the rules of the domain.
    #[doc(hidden)]
    #[must_use]
    pub fn raw_store(&self) -> &Store {
        self.store()
    }

    fn wake_workers(&self) {
        self.inner.worker_wakeup.notify_one();
    }

    async fn worker_wakeup(&self) {
        self.inner.worker_wakeup.notified().await;
    }

    fn wake_scheduler(&self) {
        self.inner.scheduler_wakeup.notify_one();
    }

    async fn scheduler_wakeup(&self) {
        self.inner.scheduler_wakeup.notified().await;
    }

    fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    fn sandbox(&self) -> &Arc<Sandbox> {
        &self.inner.parts.sandbox
    }

    fn gate(&self) -> &Gate {
        &self.inner.parts.gate
    }

    fn key(&self) -> &MasterKey {
        &self.inner.parts.key
    }

    fn clock(&self) -> &dyn Clock {
        self.inner.parts.clock.as_ref()
    }

    fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    fn forced_shutdown(&self) -> &CancellationToken {
        &self.inner.forced_shutdown
    }

    fn runner(&self) -> &dyn Runner {
        self.inner.runner.as_ref()
    }

    fn random(&self) -> &dyn RandomSource {
        self.inner.random.as_ref()
    }

    fn worker_id(&self) -> &str {
        &self.inner.worker_id
    }

    fn vendor_host_cache(&self) -> &VendorHostCache {
        &self.inner.vendor_host_cache
    }

    fn running_jobs(&self) -> &RunningJobs {
        &self.inner.running_jobs
    }

    fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }
}
