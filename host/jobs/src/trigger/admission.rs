//! Check of jobs that were pushed before the vendor rejected the password or locked the account, and are about to run.

use crate::Result;
use crate::Triggers;
use crate::job::{Cause, Job, JobErrorCode, JobFailure, Retry};
use konnector_documents::instance::Instance;

impl Triggers {
    /// Returns the reason why a job must not contact the vendor. Either the vendor has locked the account, or the job
    /// was not requested manually and its konnector is in maintenance or its account waits for the user. The job ends
    /// with this error code, without a run.
    pub fn blocked_reason(&self, instance: &Instance, job: &Job) -> Result<Option<JobFailure>> {
        if job.cause != Cause::Manual
            && !job.is_clean_up()
            && let Some(maintenance) = self.context.konnectors().maintenance_for_job(instance, &job.message)?
        {
            return Ok(Some(JobFailure::from_maintenance(&maintenance)));
        }
        let mut triggers = match job.argument("account") {
            Some(account) => self.list_of_account(instance, account)?,
            None => Vec::new(),
        };
        triggers.extend(job.trigger_id.clone().filter(|own| !triggers.contains(own)));
        let is_automatic = job.cause != Cause::Manual && job.trigger_id.is_some();
        for id in triggers {
            let Ok(runtime) = self.get(instance, &id).map(|trigger| trigger.runtime) else { continue };
            if let Some(until) = runtime.active_lock(self.context.core.clock().now()) {
                let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                let sentence = format!("Not run: the vendor locked the account; nothing runs before {until}.");
                return Ok(Some(not_run(super::job_ended::ACCOUNT_LOCKED_CODE, sentence)));
            }
            if let Some(pause) = runtime.paused.filter(|_| is_automatic) {
                let sentence = "Not run: an earlier run failed, and only you can fix the cause. Change the account, or launch the konnector manually.";
                return Ok(Some(not_run(&pause.code, sentence.to_owned())));
            }
        }
        Ok(None)
    }
}

fn not_run(code: &str, message: String) -> JobFailure {
    JobFailure { code: JobErrorCode::Custom(code.to_owned()), message, retry: Retry::Never, pauses_schedule: false }
}
