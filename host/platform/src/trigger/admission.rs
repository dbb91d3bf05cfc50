//! Check of jobs that were pushed before the vendor rejected the password or locked the account, and are about to run.

use crate::instance::Instance;
use crate::job::{Cause, Job, JobErrorCode, JobFailure, Retry};
use crate::{Platform, Result};

impl Platform {
    /// Returns the reason why a job must not contact the vendor: it was not requested manually and its konnector is in
    /// maintenance or its account waits for the user; or the vendor has locked the account. The job ends with this
    /// error code and is not tried.
    pub(crate) fn blocked_reason(&self, instance: &Instance, job: &Job) -> Result<Option<JobFailure>> {
        if job.cause != Cause::Manual
            && !job.is_clean_up()
            && let Some(maintenance) = self.maintenance_for_job(instance, &job.message)?
        {
            return Ok(Some(maintenance.to_outcome()));
        }
        let mut triggers = match job.argument("account") {
            Some(account) => self.triggers_of_account(instance, account)?,
            None => Vec::new(),
        };
        triggers.extend(job.trigger_id.clone().filter(|own| !triggers.contains(own)));
        let by_itself = job.cause != Cause::Manual && job.trigger_id.is_some();
        for id in triggers {
            let Ok(life) = self.trigger(instance, &id).map(|trigger| trigger.runtime) else { continue };
            if let Some(until) = life.active_lock(self.clock.now()) {
                let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                let sentence = format!("Not tried: the vendor locked the account, and nothing runs before {until}.");
                return Ok(Some(not_tried(super::job_ended::ACCOUNT_LOCKED_CODE, sentence)));
            }
            if let Some(pause) = life.paused.filter(|_| by_itself) {
                let sentence = "Not tried: an earlier run ended so that only you can mend it. Change the account, or launch it by hand.";
                return Ok(Some(not_tried(&pause.code, sentence.to_owned())));
            }
        }
        Ok(None)
    }
}

fn not_tried(code: &str, message: String) -> JobFailure {
    JobFailure { code: JobErrorCode::Custom(code.to_owned()), message, retry: Retry::Never, pauses_schedule: false }
}
