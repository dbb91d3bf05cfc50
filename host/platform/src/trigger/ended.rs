//! What the end of a job means for its trigger.

use konnector_store::Changes;

use super::{Pause, Trigger};
use crate::doctype::TRIGGERS;
use crate::instance::Instance;
use crate::job::{Code, Job, Verdict};
use crate::stored::{Stored, object};
use crate::{Platform, Result};

impl Platform {
    /// A success lets the schedule go on, an error that only the user can mend makes it wait; a trigger that makes no sense is deleted.
    pub(crate) fn stage_job_ended(
        &self,
        instance: &Instance,
        job: &Job,
        verdict: Option<&Verdict>,
        changes: &mut Changes,
    ) -> Result<()> {
        let Some(id) = &job.trigger_id else { return Ok(()) };
        let at = instance.doc(&TRIGGERS, id.as_str());
        let Some(Stored { rev, value: mut trigger, .. }) = self.stored::<Trigger>(&at)? else { return Ok(()) };
        let senseless =
            verdict.is_some_and(|verdict| matches!(verdict.code, Code::NotInstalled | Code::AccountNotFound));
        let pause = verdict
            .filter(|verdict| verdict.pause)
            .map(|verdict| Pause { code: verdict.code.to_string(), since: self.clock.now() });
        if senseless {
            tracing::warn!(trigger = at.id, "the trigger is removed: what it would run is gone");
            changes.delete(at.clone(), &rev);
            changes.schedule(at, None);
        } else if pause.is_some() || (verdict.is_none() && trigger.paused.is_some()) {
            trigger.paused = pause;
            changes.put(at, &rev, object(&trigger)?);
        }
        Ok(())
    }
}
