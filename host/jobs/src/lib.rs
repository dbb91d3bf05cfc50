//! Jobs and triggers: a durable queue with leases, retries and a history, and the schedules, events and webhooks that
//! fill it.
//!
//! Workers claim jobs under a lease and hand them to a [`Runner`](job::Runner), which this crate does not implement.
//! [`JobContext`] reaches everything that a job needs: files, accounts, konnectors, tokens.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

mod account_rule;
mod clean_up;
pub mod job;
#[cfg(test)]
mod test_support;
pub mod trigger;

use std::sync::Arc;
use std::time::Duration;

use konnector_accounts::{AccountContext, AccountState, AccountTypes, Accounts};
use konnector_auth::{Auth, AuthContext, AuthState, OauthClients, PermissionSets};
use konnector_documents::doctype::ACCOUNTS;
use konnector_documents::hook::{CommitGuard, CommitHook, DocumentRule};
use konnector_documents::stored::new_id;
use konnector_documents::{Core, handles};
pub use konnector_documents::{Error, Result};
use konnector_files::{FileHook, FileState, Files};
use konnector_manifest::Doctype;
use konnector_packages::{Konnectors, PackageContext, PackageState, Registries};
use konnector_store::Changes;
use ref_cast::RefCast;
use tokio::sync::Notify;

use crate::account_rule::AccountRule;
use crate::job::{JobRetention, Runner, RunningJobs, VendorHostCache};

/// Settings of the operator about jobs.
#[derive(Debug, Clone)]
pub struct JobSettings {
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
}

/// The lower layers whose state a job reaches.
pub struct JobLayers {
    /// State of the files.
    pub files: Arc<FileState>,
    /// State of tokens and permissions.
    pub auth: Arc<AuthState>,
    /// State of the konnectors.
    pub packages: Arc<PackageState>,
    /// State of the accounts.
    pub accounts: Arc<AccountState>,
}

/// State of this layer, shared by all its contexts.
pub struct JobState {
    settings: JobSettings,
    layers: JobLayers,
    runner: Arc<dyn Runner>,
    /// Name of this process among the workers: unique across processes and restarts.
    worker_id: String,
    running_jobs: RunningJobs,
    vendor_host_cache: VendorHostCache,
    worker_wakeup: Notify,
}

impl JobState {
    /// Creates the state; `runner` carries out the jobs.
    #[must_use]
    pub fn new(settings: JobSettings, layers: JobLayers, runner: Arc<dyn Runner>) -> Self {
        Self {
            settings,
            layers,
            runner,
            worker_id: new_id(),
            running_jobs: RunningJobs::default(),
            vendor_host_cache: VendorHostCache::default(),
            worker_wakeup: Notify::new(),
        }
    }

    /// Returns the hooks that the core must call at each commit.
    #[must_use]
    pub fn commit_hooks(self: &Arc<Self>) -> Vec<Arc<dyn CommitHook>> {
        vec![Arc::new(FileHook(Arc::clone(&self.layers.files))), Arc::new(TriggerHook(Arc::clone(self)))]
    }

    /// Returns the rules of doctypes that the core must apply.
    #[must_use]
    pub fn document_rules(self: &Arc<Self>) -> Vec<(Doctype, Arc<dyn DocumentRule>)> {
        vec![(ACCOUNTS.clone(), Arc::new(AccountRule(Arc::clone(self))))]
    }
}

/// What the handles of this layer and runs work with. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    core: Core,
    auth: AuthContext,
    files: Files,
    packages: PackageContext,
    accounts: AccountContext,
    state: Arc<JobState>,
}

impl JobContext {
    /// Creates a context over a core.
    #[must_use]
    pub fn new(core: Core, state: Arc<JobState>) -> Self {
        let JobLayers { files, auth, packages, accounts } = &state.layers;
        Self {
            auth: AuthContext::new(core.clone(), Arc::clone(auth)),
            files: Files::new(core.clone(), Arc::clone(files)),
            packages: PackageContext::new(core.clone(), Arc::clone(packages)),
            accounts: AccountContext::new(core.clone(), Arc::clone(accounts)),
            core,
            state,
        }
    }

    /// Returns the context for the run of a job. Once another worker holds the lease, every write through it fails.
    #[must_use]
    pub fn fenced(&self, lease: &konnector_store::Lease) -> Self {
        Self::new(self.core.fenced(lease), Arc::clone(&self.state))
    }

    /// Returns the core.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// Returns the handle of files.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// Returns the handle of tokens and grants.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        self.auth.auth()
    }

    /// Returns the handle of permission sets.
    #[must_use]
    pub fn permissions(&self) -> &PermissionSets {
        self.auth.permissions()
    }

    /// Returns the handle of OAuth clients.
    #[must_use]
    pub fn oauth_clients(&self) -> &OauthClients {
        self.auth.oauth_clients()
    }

    /// Returns the handle of installed konnectors.
    #[must_use]
    pub fn konnectors(&self) -> &Konnectors {
        self.packages.konnectors()
    }

    /// Returns the handle of registries.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        self.packages.registries()
    }

    /// Returns the handle of accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        self.accounts.accounts()
    }

    /// Returns the handle of account types.
    #[must_use]
    pub fn account_types(&self) -> &AccountTypes {
        self.accounts.account_types()
    }

    /// Makes the workers look for jobs at once.
    pub(crate) fn wake_workers(&self) {
        self.state.worker_wakeup.notify_one();
    }
}

handles! {
    JobContext, context;
    /// The queue, its workers and the history of jobs.
    jobs: Jobs;
    /// Triggers and their scheduler.
    triggers: Triggers;
}

/// Stores an event for each trigger that waits for a written document, in the same commit.
struct TriggerHook(Arc<JobState>);

impl CommitHook for TriggerHook {
    fn stage(&self, core: &Core, changes: &mut Changes) -> Result<Option<Box<dyn CommitGuard>>> {
        JobContext::new(core.clone(), Arc::clone(&self.0)).triggers().stage_events(changes)?;
        Ok(None)
    }
}
