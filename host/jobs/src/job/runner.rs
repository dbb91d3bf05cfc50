//! Runners, which carry out jobs in the sandbox, or as a script in a simulation.

use std::pin::Pin;

use async_trait::async_trait;
use konnector_store::Lease;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::failure::JobFailure;
use super::transition::RunArtifacts;
use crate::{JobContext, Result};
use konnector_documents::instance::Instance;

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
    fn spawn(&self, context: &JobContext, task: JobTask);

    /// Carries out a job. The future is polled only while the lease is known to be valid; dropping it stops all its
    /// work.
    ///
    /// # Errors
    ///
    /// [`Error::StaleLease`](crate::Error::StaleLease) if another worker turns out to own the job.
    async fn run(&self, context: &JobContext, assignment: Assignment) -> Result<RunResult>;
}
