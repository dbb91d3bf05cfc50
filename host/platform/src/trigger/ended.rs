//! What the end of a job means for triggers: its own, and the others of its account, which would post the same password.

use konnector_store::Changes;

use super::step::{End, Ended, Event};
use crate::instance::Instance;
use crate::job::{Code, Job, Verdict};
use crate::{Platform, Result};

/// Cozy's code for an account that the vendor locked.
pub(super) const LOCKED: &str = "LOGIN_FAILED.TOO_MANY_ATTEMPTS";

impl Ended {
    fn of(verdict: Option<&Verdict>) -> Self {
        match verdict {
            None => Self::Well,
            Some(verdict)
                if matches!(verdict.code, Code::NotInstalled | Code::AccountNotFound | Code::ForeignAccount) =>
            {
                Self::Senseless
            }
            Some(verdict) if verdict.pause => {
                let code = verdict.code.to_string();
                Self::NeedsUser { locked: code == LOCKED, code }
            }
            Some(_) => Self::Badly,
        }
    }
}

impl Platform {
    /// Stages what the end of a job means for the triggers that it concerns.
    pub(crate) fn stage_job_ended(
        &self,
        instance: &Instance,
        job: &Job,
        verdict: Option<&Verdict>,
        changes: &mut Changes,
    ) -> Result<()> {
        let mut ids = match job.argument("account") {
            Some(account) => self.triggers_of_account(instance, account)?,
            None => Vec::new(),
        };
        ids.extend(job.trigger_id.clone().filter(|own| !ids.contains(own)));
        for id in ids {
            let Some(turn) = self.read_turn(instance, &id)? else { continue };
            let own = job.trigger_id.as_deref() == Some(id.as_str());
            let end = End { own, began_with: job.account_generation, verdict: Ended::of(verdict) };
            let taken = self.stage_step(instance, turn, Event::JobEnded(end), changes)?;
            if taken.removed {
                tracing::warn!(trigger = id, "the trigger is removed: what it would run is gone");
            }
        }
        Ok(())
    }

    /// Stages that the owner of an account changed its login with the revision `generation`: its schedules may go on, and runs that began
    /// before can no longer hold them up.
    pub(crate) fn stage_login_changed(
        &self,
        instance: &Instance,
        account: &str,
        generation: u64,
        changes: &mut Changes,
    ) -> Result<()> {
        for id in self.triggers_of_account(instance, account)? {
            if let Some(turn) = self.read_turn(instance, &id)? {
                self.stage_step(instance, turn, Event::AccountChanged(generation), changes)?;
            }
        }
        Ok(())
    }
}
