//! Runs the konnector of a job in the sandbox.

use std::sync::Arc;

use async_trait::async_trait;
use konnector_accounts::{Account, AccountAccess};
use konnector_documents::instance::Instance;
use konnector_egress::Gate;
use konnector_jobs::JobContext;
use konnector_jobs::job::{Assignment, Cause, Job, JobFailure, JobTask, RunArtifacts, RunResult, Runner};
use konnector_manifest::Slug;
use konnector_sandbox::capability::InternalBody;
use konnector_sandbox::{AbortReason, LimitPolicy, Outcome, Report, RunOutput, Sandbox};
use konnector_store::Lease;
use parking_lot::RwLock;

use crate::{Error, Result, Run};

/// Settings of the operator about runs.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Resource limits of runs.
    pub run_limits: LimitPolicy,
    /// URL scheme under which clients reach the public API, for `COZY_URL`.
    pub scheme: &'static str,
}

/// The public API, called inside the process. It is built on the platform, so it is set later; see
/// [`SandboxRunner::set_public_api`].
#[async_trait]
pub trait PublicApi: Send + Sync {
    /// Handles a request in origin form whose `Host` names the instance, with the lease of `context`. Cancel-safe.
    async fn call(&self, context: &JobContext, request: http::Request<InternalBody>) -> http::Response<InternalBody>;
}

/// Runs konnectors in the sandbox.
pub struct SandboxRunner {
    pub(crate) settings: RunnerSettings,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) gate: Gate,
    public_api: RwLock<Option<Arc<dyn PublicApi>>>,
}

impl SandboxRunner {
    /// Creates the runner. Command components cannot run before [`SandboxRunner::set_public_api`].
    #[must_use]
    pub fn new(settings: RunnerSettings, sandbox: Arc<Sandbox>, gate: Gate) -> Self {
        Self { settings, sandbox, gate, public_api: RwLock::default() }
    }

    /// Sets the API that command components reach under `COZY_URL`, or removes it.
    pub fn set_public_api(&self, api: Option<Arc<dyn PublicApi>>) {
        *self.public_api.write() = api;
    }

    pub(crate) fn public_api(&self) -> Option<Arc<dyn PublicApi>> {
        self.public_api.read().clone()
    }
}

#[async_trait]
impl Runner for SandboxRunner {
    fn spawn(&self, _context: &JobContext, task: JobTask) {
        self.sandbox.spawn(task).detach();
    }

    async fn run(&self, domain: &JobContext, assignment: Assignment) -> Result<RunResult> {
        let Assignment { instance, mut job, lease, cancel } = assignment;
        let run = match prepare_run(self, domain, &instance, &mut job, &lease).await {
            Ok(run) => run,
            Err(verdict) => return Ok(RunResult { failure: Some(verdict), artifacts: RunArtifacts::default() }),
        };
        let RunOutput { outcome, receipt, file_quota } = run.execute(cancel).await;
        let verdict =
            JobFailure::from_outcome_with_quota(&outcome, file_quota).or_else(|| JobFailure::from_lost_files(&receipt));
        let report = match outcome {
            Outcome::Aborted(AbortReason::LeaseLost) => return Err(Error::StaleLease),
            Outcome::Completed(report) => report,
            Outcome::Failed(_) | Outcome::Aborted(_) => Report::default(),
        };
        let remains = RunArtifacts {
            receipt: Some(receipt),
            problems: report.problems,
            problem_count: report.problem_count,
            log: run.store_log().await,
            account_generation: job.account_generation,
        };
        Ok(RunResult { failure: verdict, artifacts: remains })
    }
}

async fn prepare_run(
    runner: &SandboxRunner,
    domain: &JobContext,
    instance: &Instance,
    job: &mut Job,
    lease: &Lease,
) -> Result<Run, JobFailure> {
    let slug = job.argument("konnector").unwrap_or_default();
    let parsed: Slug = slug.parse().map_err(|_| JobFailure::not_installed(slug))?;
    domain.konnectors().refresh(instance, &parsed).await;
    let konnector = match domain.konnectors().activate(instance, &parsed).await {
        Ok(konnector) => konnector,
        Err(Error::NotFound(_)) => return Err(JobFailure::not_installed(slug)),
        Err(error) => return Err(JobFailure::setup_failed(&error)),
    };
    if !job.is_clean_up()
        && let Some(maintenance) = domain.registries().maintenance_of(instance, &konnector).await
        && maintenance.check_start(job.cause == Cause::Manual).is_err()
    {
        return Err(JobFailure::from_maintenance(&maintenance));
    }
    let account = match domain.accounts().resolve_message(instance, &job.message) {
        None => None,
        Some((_, Ok(account))) => Some(check_grant(account, &parsed)?),
        Some((id, Err(Error::NotFound(_)))) => return Err(JobFailure::account_not_found(id)),
        Some((_, Err(error))) => return Err(JobFailure::setup_failed(&error)),
    };
    let account = match account {
        None => None,
        Some(grant) => Some(match domain.accounts().ensure_fresh_token(instance, (*grant).clone()).await {
            // The reloaded account may belong to another konnector.
            Ok(account) => check_grant(account, &parsed)?,
            Err(Error::ReconnectRequired) => return Err(JobFailure::reconnect()),
            // The konnector may still succeed; otherwise it reports the reason.
            Err(error @ Error::Provider(_)) => {
                tracing::warn!(%error, "the token of an account could not be refreshed before its run");
                grant
            }
            Err(error) => return Err(JobFailure::setup_failed(&error)),
        }),
    };
    job.account_generation = account.as_ref().map(|account| account.rev.generation());
    Run::new(runner, domain, instance, job, konnector, account, lease)
        .await
        .map_err(|error| JobFailure::setup_failed(&error))
}

/// Checks that the konnector may use the account, regardless of the origin of the job.
fn check_grant(account: Account, konnector: &Slug) -> Result<AccountAccess, JobFailure> {
    account.authorize(konnector).map_err(|foreign| JobFailure::foreign_account(&foreign))
}
