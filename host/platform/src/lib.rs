//! The platform: assembles the layers of the domain, and does what concerns several of them.
//!
//! Each layer is a crate, and depends only on those before it: documents, auth, files, packages, accounts, jobs, runner.
//! [`Platform`] reaches their operations by noun: `platform.files()`, `platform.jobs()`, `platform.accounts()`. The layers
//! have no HTTP API; they store data in a [`konnector_store::Store`] and run components in a
//! [`konnector_sandbox::Sandbox`].

pub mod backup;
mod config;
mod instance_deletion;
pub mod key;
#[cfg(test)]
mod races;
mod schema;
mod sweep;
mod uninstall;

use std::sync::Arc;

use async_trait::async_trait;
use konnector_accounts::AccountState;
use konnector_auth::AuthState;
use konnector_documents::clock::Clock;
use konnector_documents::random::{RandomSource, SystemRandom};
use konnector_documents::{Core, CoreParts};
use konnector_egress::Gate;
use konnector_files::FileState;
use konnector_jobs::job::Runner;
use konnector_jobs::{JobContext, JobLayers, JobSettings, JobState};
use konnector_packages::{PackageSettings, PackageState};
use konnector_runner::{RunnerSettings, SandboxRunner};
use konnector_sandbox::Sandbox;
use konnector_sandbox::capability::InternalBody;
use konnector_store::{InstanceId, MasterKey, Store};

pub use konnector_accounts::{self as account, AccountTypes, Accounts, account_type};
pub use konnector_auth::{Auth, OauthClients, PermissionSets, grant, oauth_client, one_time_token, permission, token};
pub use konnector_documents::stored::Stored;
pub use konnector_documents::{
    Documents, Error, Instances, RateLimits, Realtime, Result, changes, clock, cursor, design, doctype, document, find,
    instance, offload, principal, random, rate, realtime, revalidating_cache, stored,
};
pub use konnector_files::{self as file, Files};
pub use konnector_jobs::{self as jobs, Jobs, Triggers, job, trigger};
pub use konnector_packages::{self as konnector, Konnectors, Registries};

pub use crate::config::Config;
pub use crate::schema::Schema;
pub use crate::uninstall::UninstallOutcome;

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
    context: JobContext,
    state: Arc<PlatformState>,
}

/// State of this layer.
struct PlatformState {
    config: Config,
    files: Arc<FileState>,
    /// Runs components; a simulation may give the jobs another runner.
    sandbox_runner: Arc<SandboxRunner>,
    last_backup_failure: backup::LastBackupFailure,
}

impl Platform {
    /// Assembles the parts. Nothing runs yet; see [`Platform::start`].
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if the data was sealed with another key; the server must not start.
    pub async fn new(parts: PlatformParts) -> Result<Self> {
        Self::assemble(parts, None, Arc::new(SystemRandom)).await
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
        Self::assemble(parts, Some(runner), random).await
    }

    async fn assemble(
        parts: PlatformParts,
        runner: Option<Arc<dyn Runner>>,
        random: Arc<dyn RandomSource>,
    ) -> Result<Self> {
        let PlatformParts { store, sandbox, gate, key, clock, config } = parts;
        let sandbox_runner = Arc::new(SandboxRunner::new(
            RunnerSettings { run_limits: config.run_limits.clone(), scheme: config.scheme },
            Arc::clone(&sandbox),
            gate.clone(),
        ));
        let files = Arc::new(FileState::new(config.disk_quota));
        let auth = Arc::new(AuthState::default());
        let packages = Arc::new(PackageState::new(
            PackageSettings {
                cache_dir: config.cache_dir.clone(),
                run_limits: config.run_limits.clone(),
                registries: config.registries.clone(),
                permissions_skip_verification: config.permissions_skip_verification,
                ssh_program: config.ssh_program.clone(),
            },
            sandbox,
            gate.clone(),
            Arc::clone(&auth),
        ));
        let accounts = Arc::new(AccountState::new(config.scheme, gate, Arc::clone(&auth), Arc::clone(&packages)));
        let jobs = Arc::new(JobState::new(
            JobSettings {
                workers: config.workers,
                lease_ttl: config.lease_ttl,
                retry_delay: config.retry_delay,
                vendor_concurrency: config.vendor_concurrency,
                konnector_concurrency: config.konnector_concurrency,
                job_retention: config.job_retention,
            },
            JobLayers { files: Arc::clone(&files), auth, packages, accounts },
            runner.unwrap_or_else(|| Arc::clone(&sandbox_runner) as Arc<dyn Runner>),
        ));
        let core = Core::new(CoreParts {
            store,
            key,
            clock,
            random,
            hourly_limits: config.hourly_limits,
            commit_hooks: jobs.commit_hooks(),
            document_rules: jobs.document_rules(),
        });
        key::check(core.store(), core.key()).await?;
        let state = PlatformState { config, files, sandbox_runner, last_backup_failure: Default::default() };
        let platform = Self { context: JobContext::new(core, jobs), state: Arc::new(state) };
        platform.files().ensure_reference_index().await;
        Ok(platform)
    }

    /// Lets command components reach the public API under `COZY_URL`, in this process and without the network. Without
    /// it they cannot run. The API and the platform hold each other until [`Platform::stop`].
    pub fn set_internal_api(&self, api: Arc<dyn PublicApi>) {
        let bridge = InternalApiBridge { api, state: Arc::clone(&self.state) };
        self.state.sandbox_runner.set_public_api(Some(Arc::new(bridge)));
    }

    /// Requeues the jobs of processes that have ended, then starts to fire triggers and to run jobs.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn start(&self) -> Result<()> {
        self.resume_erasures().await?;
        self.jobs().recover().await?;
        let workers = self.clone();
        self.core().tasks().spawn(async move { workers.jobs().run_workers().await });
        let platform = self.clone();
        self.core().tasks().spawn(async move {
            // Fired triggers, requeued jobs and sweeps are stored; the rest is done after the next start.
            tokio::select! {
                biased;
                () = platform.core().draining().cancelled() => {}
                () = platform.triggers().run_scheduler() => {}
                () = platform.jobs().watch_leases() => {}
                () = platform.run_sweeps() => {}
            }
        });
        Ok(())
    }

    /// Stops firing triggers and claiming jobs, gives running jobs a few seconds to end, requeues the remaining ones,
    /// then closes the store.
    pub async fn stop(&self) {
        self.core().draining().cancel();
        self.core().tasks().close();
        self.core().tasks().wait().await;
        self.state.sandbox_runner.set_public_api(None);
        if let Err(error) = self.core().store().clone().close().await {
            tracing::error!(%error, "the store was not closed cleanly; the next start checks it");
        }
    }

    /// Resolves when the platform is asked to stop.
    pub fn shutdown_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core().draining().clone().cancelled_owned()
    }

    /// Ends the grace period of running jobs; see [`Platform::stop`].
    pub fn force_shutdown(&self) {
        self.core().forced_shutdown().cancel();
    }

    /// Checks that the store can be read.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn check_store(&self) -> Result<()> {
        self.core().store().doctypes(&InstanceId::global())?;
        Ok(())
    }

    /// Resolves with the reason when a write to the disk fails. After that, only a restart shows what is stored.
    pub fn store_failure(&self) -> impl Future<Output = String> + Send + use<> {
        let store = self.core().store().clone();
        async move { store.wait_for_failure().await }
    }

    /// Returns the settings of the operator.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Returns the store, for tests that plant damage. Nothing else may bypass the rules of the domain.
    #[doc(hidden)]
    #[must_use]
    pub fn raw_store(&self) -> &Store {
        self.core().store()
    }

    /// Returns the context of jobs, for tests of the layers below.
    #[doc(hidden)]
    #[must_use]
    pub const fn context(&self) -> &JobContext {
        &self.context
    }

    fn core(&self) -> &Core {
        self.context.core()
    }
}

macro_rules! accessors {
    ($($accessor:ident: $handle:ident = $($path:ident).+;)+) => {
        impl Platform {
            $(
                #[doc = concat!("Returns the handle of ", stringify!($accessor), ".")]
                #[must_use]
                pub fn $accessor(&self) -> &$handle {
                    self.context.$($path()).+
                }
            )+
        }
    };
}

accessors! {
    accounts: Accounts = accounts;
    account_types: AccountTypes = account_types;
    auth: Auth = auth;
    documents: Documents = core.documents;
    files: Files = files;
    instances: Instances = core.instances;
    jobs: Jobs = jobs;
    konnectors: Konnectors = konnectors;
    oauth_clients: OauthClients = oauth_clients;
    permissions: PermissionSets = permissions;
    rate_limits: RateLimits = core.rate_limits;
    realtime: Realtime = core.realtime;
    registries: Registries = registries;
    triggers: Triggers = triggers;
}

/// Gives requests of a run the platform with the lease of that run.
struct InternalApiBridge {
    api: Arc<dyn PublicApi>,
    state: Arc<PlatformState>,
}

#[async_trait]
impl konnector_runner::PublicApi for InternalApiBridge {
    async fn call(&self, context: &JobContext, request: http::Request<InternalBody>) -> http::Response<InternalBody> {
        let platform = Platform { context: context.clone(), state: Arc::clone(&self.state) };
        self.api.call(&platform, request).await
    }
}
