//! Runners, which carry out jobs in the sandbox, or as a script in a simulation.

use std::pin::Pin;

use async_trait::async_trait;
use konnector_manifest::Slug;
use konnector_sandbox::{AbortReason, Outcome, Report, RunOutput};
use konnector_store::Lease;
use tokio_util::sync::CancellationToken;

use super::failure::JobFailure;
use super::transition::RunArtifacts;
use super::{Cause, Job};
use crate::account::{Account, AccountAccess};
use crate::instance::Instance;
use crate::run::Run;
use crate::{Error, Platform, Result};

/// A job assigned to a runner.
pub struct Assignment {
    /// Instance of the job.
    pub instance: Instance,
    /// Job to carry out.
    pub job: Job,
    /// The lease fence that must accompany every write ([`konnector_store::Changes::fence`]).
    pub lease: Lease,
    /// Cancelled when the run must end soon.
    pub cancel: CancellationToken,
}

/// Result of an assignment.
pub struct RunResult {
    /// Failure of the run; `None` if it succeeded.
    pub failure: Option<JobFailure>,
    /// Artifacts of the run.
    pub artifacts: RunArtifacts,
}

/// All work of a worker for one job.
pub type JobTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Carries out jobs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Spawns the task of a job on the appropriate threads.
    fn spawn(&self, platform: &Platform, task: JobTask);

    /// Carries out a job. The future is polled only while the lease is known to be valid; dropping it stops all its
    /// work.
    ///
    /// # Errors
    ///
    /// [`Error::StaleLease`] if another worker turns out to own the job.
    async fn run(&self, platform: &Platform, assignment: Assignment) -> Result<RunResult>;
}

/// Runs konnectors in the sandbox.
pub(crate) struct SandboxRunner;

#[async_trait]
impl Runner for SandboxRunner {
    fn spawn(&self, platform: &Platform, task: JobTask) {
        platform.sandbox().spawn(task).detach();
    }

    async fn run(&self, platform: &Platform, assignment: Assignment) -> Result<RunResult> {
        let Assignment { instance, mut job, lease, cancel } = assignment;
        let run = match prepare_run(platform, &instance, &mut job, &lease).await {
            Ok(run) => run,
            Err(verdict) => return Ok(RunResult { failure: Some(verdict), artifacts: RunArtifacts::default() }),
        };
        let RunOutput { outcome, receipt } = run.execute(cancel).await;
        let verdict = JobFailure::from_outcome(&outcome).or_else(|| JobFailure::from_lost_files(&receipt));
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
    platform: &Platform,
    instance: &Instance,
    job: &mut Job,
    lease: &Lease,
) -> Result<Run, JobFailure> {
    let slug = job.argument("konnector").unwrap_or_default();
    let parsed: Slug = slug.parse().map_err(|_| JobFailure::not_installed(slug))?;
    platform.konnectors().refresh(instance, &parsed).await;
    let konnector = match platform.konnectors().activate(instance, &parsed).await {
        Ok(konnector) => konnector,
        Err(Error::NotFound(_)) => return Err(JobFailure::not_installed(slug)),
        Err(error) => return Err(JobFailure::setup_failed(&error)),
    };
    if !job.is_clean_up()
        && let Some(maintenance) = platform.registries().maintenance_of(instance, &konnector).await
        && maintenance.check_start(job.cause == Cause::Manual).is_err()
    {
        return Err(maintenance.to_outcome());
    }
    let account = match platform.accounts().resolve_message(instance, &job.message) {
        None => None,
        Some((_, Ok(account))) => Some(check_grant(account, &parsed)?),
        Some((id, Err(Error::NotFound(_)))) => return Err(JobFailure::account_not_found(id)),
        Some((_, Err(error))) => return Err(JobFailure::setup_failed(&error)),
    };
    let account = match account {
        None => None,
        Some(grant) => Some(match platform.accounts().ensure_fresh_token(instance, (*grant).clone()).await {
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
    Run::new(platform, instance, job, konnector, account, lease).await.map_err(|error| JobFailure::setup_failed(&error))
}

/// Checks that the konnector may use the account, regardless of the origin of the job.
fn check_grant(account: Account, konnector: &Slug) -> Result<AccountAccess, JobFailure> {
    account.authorize(konnector).map_err(|foreign| JobFailure::foreign_account(&foreign))
}
