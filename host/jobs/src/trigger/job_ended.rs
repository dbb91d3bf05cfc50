//! Effects of a job's end on its own trigger, and on the other triggers of its account, which would send the same
//! password.

use konnector_store::Changes;

use super::step::{JobEnd, JobOutcome, TriggerEvent};
use crate::Result;
use crate::Triggers;
use crate::job::{Job, JobErrorCode, JobFailure};
use konnector_documents::instance::Instance;

/// Cozy's code for an account that the vendor locked.
pub(super) const ACCOUNT_LOCKED_CODE: &str = "LOGIN_FAILED.TOO_MANY_ATTEMPTS";

impl JobOutcome {
    fn from_failure(verdict: Option<&JobFailure>) -> Self {
        match verdict {
            None => Self::Succeeded,
            Some(verdict)
                if matches!(
                    verdict.code,
                    JobErrorCode::NotInstalled | JobErrorCode::AccountNotFound | JobErrorCode::ForeignAccount
                ) =>
            {
                Self::Obsolete
            }
            Some(verdict) if verdict.pauses_schedule => {
                let code = verdict.code.to_string();
                Self::NeedsUser { locked: code == ACCOUNT_LOCKED_CODE, code }
            }
            Some(_) => Self::Failed,
        }
    }
}

impl Triggers {
    /// Stages the effects of a job's end on the triggers concerned; returns whether one of them is paused afterwards.
    pub(crate) fn stage_job_ended(
        &self,
        instance: &Instance,
        job: &Job,
        verdict: Option<&JobFailure>,
        changes: &mut Changes,
    ) -> Result<bool> {
        let mut is_paused = false;
        let mut ids = match job.argument("account") {
            Some(account) => self.list_of_account(instance, account)?,
            None => Vec::new(),
        };
        ids.extend(job.trigger_id.clone().filter(|own| !ids.contains(own)));
        for id in ids {
            let Some(transition) = self.load_transition(instance, &id)? else { continue };
            let own = job.trigger_id.as_deref() == Some(id.as_str());
            let end = JobEnd {
                is_own: own,
                account_generation: job.account_generation,
                outcome: JobOutcome::from_failure(verdict),
            };
            let applied = self.stage_transition(instance, transition, TriggerEvent::JobEnded(end), changes)?;
            if applied.removed {
                tracing::warn!(
                    trigger = id,
                    "deleted the trigger, because its konnector or account is missing or may not be used by it"
                );
            }
            is_paused |= !applied.removed && applied.trigger.runtime.paused.is_some();
        }
        Ok(is_paused)
    }

    /// Stages that the owner of an account changed its login with the revision `generation`. The account's schedules
    /// resume, and runs that began earlier can no longer pause them.
    pub(crate) fn stage_login_changed(
        &self,
        instance: &Instance,
        account: &str,
        generation: u64,
        changes: &mut Changes,
    ) -> Result<()> {
        for id in self.list_of_account(instance, account)? {
            if let Some(transition) = self.load_transition(instance, &id)? {
                self.stage_transition(instance, transition, TriggerEvent::LoginChanged(generation), changes)?;
            }
        }
        Ok(())
    }
}
