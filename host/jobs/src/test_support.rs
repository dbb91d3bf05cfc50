//! A context for tests of this crate: nothing runs, because the tests call the functions directly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use konnector_accounts::AccountState;
use konnector_auth::AuthState;
use konnector_documents::clock::ManualClock;
use konnector_documents::random::SystemRandom;
use konnector_documents::rate::HourlyLimits;
use konnector_documents::{Core, CoreParts};
use konnector_egress::{Gate, GateOptions};
use konnector_files::FileState;
use konnector_packages::{PackageSettings, PackageState};
use konnector_sandbox::{LimitPolicy, Sandbox};
use konnector_store::{MasterKey, Store};

use crate::job::{Assignment, JobRetention, JobTask, RunResult, Runner};
use crate::{Error, JobContext, JobLayers, JobSettings, JobState, Result};

/// Runs nothing.
struct NoRunner;

#[async_trait]
impl Runner for NoRunner {
    fn spawn(&self, _: &JobContext, _: JobTask) {}

    async fn run(&self, _: &JobContext, _: Assignment) -> Result<RunResult> {
        Err(Error::Unavailable("this test runs no jobs".to_owned()))
    }
}

pub(crate) fn sandbox() -> Arc<Sandbox> {
    let options = konnector_sandbox::SandboxOptions { max_runs: 1, memory_ceiling: 16 << 20, ..Default::default() };
    Arc::new(Sandbox::new(options).expect("a sandbox"))
}

/// Creates a context over a store; the key lies in `folder`.
pub(crate) fn context(store: Store, folder: &Path, clock: &Arc<ManualClock>, sandbox: Arc<Sandbox>) -> JobContext {
    let gate = Gate::new(GateOptions::default()).expect("a gate");
    let key = folder.join("key");
    let auth = Arc::new(AuthState::default());
    let settings = PackageSettings {
        cache_dir: folder.join("cache"),
        run_limits: LimitPolicy::default(),
        registries: Vec::new(),
        permissions_skip_verification: false,
        ssh_program: PathBuf::from("ssh"),
    };
    let packages = Arc::new(PackageState::new(settings, sandbox, gate.clone(), Arc::clone(&auth)));
    let accounts = Arc::new(AccountState::new("http", gate, Arc::clone(&auth), Arc::clone(&packages)));
    let settings = JobSettings {
        workers: 4,
        lease_ttl: Duration::from_secs(45),
        retry_delay: Duration::from_secs(300),
        vendor_concurrency: 1,
        konnector_concurrency: 0,
        job_retention: JobRetention::default(),
    };
    let layers = JobLayers { files: Arc::new(FileState::new(10 << 30)), auth, packages, accounts };
    let state = Arc::new(JobState::new(settings, layers, Arc::new(NoRunner)));
    let core = Core::new(CoreParts {
        store,
        key: MasterKey::load(&key).expect("read").unwrap_or_else(|| MasterKey::create(&key).expect("a key")),
        clock: Arc::clone(clock) as _,
        random: Arc::new(SystemRandom),
        hourly_limits: HourlyLimits::default(),
        commit_hooks: state.commit_hooks(),
        document_rules: state.document_rules(),
    });
    JobContext::new(core, state)
}
