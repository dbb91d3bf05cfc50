//! Turns due instants into jobs. Timers are hints: what is due is read from the store's index each time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_store::{Changes, DocRef};

use super::Trigger;
use crate::job::{Cause, JobRequest, Occasion};
use crate::realtime::Happened;
use crate::stored::{Stored, object};
use crate::{Error, Platform, Result};

/// How many due triggers are handled before the index is read again.
const BATCH: usize = 100;

/// The longest sleep, so that a jump of the wall clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Platform {
    /// Fires what is due, for ever. Cancel-safe between two triggers: what fired is stored.
    pub(crate) async fn schedule_loop(&self) {
        loop {
            if let Err(error) = self.fire_due().await {
                tracing::error!(%error, "the scheduler could not fire what is due; it tries again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let sleep = match self.store.next_due() {
                Ok(Some(due)) => (due - self.clock.now()).to_std().unwrap_or_default().min(LONGEST_SLEEP),
                Ok(None) | Err(_) => LONGEST_SLEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.scheduler_woken() => {}
            }
        }
    }

    /// Fires every trigger that is due now; answers how many jobs that made.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn fire_due(&self) -> Result<usize> {
        let mut jobs = 0;
        loop {
            let due = self.store.due(self.clock.now(), BATCH)?;
            let last = due.len() < BATCH;
            for (at, instant) in due {
                match self.fire(&at, instant).await {
                    Ok(fired) => jobs += usize::from(fired),
                    // Somebody changed the trigger meanwhile; it is still in the index and comes again.
                    Err(error) if error.is_conflict() => {}
                    Err(error) => {
                        tracing::error!(trigger = at.id, %error, "the trigger cannot fire and is taken off the schedule");
                        self.unschedule(&at).await?;
                    }
                }
            }
            if last {
                return Ok(jobs);
            }
        }
    }

    /// One due instant: a job, or a recorded reason why there is none. Instants that passed while the server was down become one job.
    async fn fire(&self, at: &DocRef, instant: DateTime<Utc>) -> Result<bool> {
        let now = self.clock.now();
        let Some(Stored { rev, value: mut trigger, .. }) = self.stored::<Trigger>(at)? else {
            return Err(Error::NotFound(format!("there is no trigger '{}'", at.id)));
        };
        trigger.id.clone_from(&at.id);
        let instance = self.instance_of(at)?;
        let zone = trigger.time_zone.unwrap_or(instance.tz);
        let schedule = trigger.schedule()?;

        let before = trigger.missed;
        let mut next = schedule.next(instant, zone);
        // Everything else that is due by now is coalesced into this job. The count is bounded; a schedule of every second over a year
        // is not walked through.
        let mut walked = 0;
        while let Some(following) = next.filter(|following| *following <= now) {
            walked += 1;
            trigger.missed.coalesced += 1;
            next = if walked < 10_000 { schedule.next(following, zone) } else { schedule.next(now, zone) };
        }

        let mut changes = Changes::new();
        let job = if trigger.paused.is_some() {
            trigger.missed.paused += 1;
            None
        } else if self.has_live_job(&instance, &trigger.id)? {
            trigger.missed.overlapped += 1;
            None
        } else {
            let request = JobRequest {
                worker: trigger.worker.clone(),
                message: trigger.message.clone(),
                options: trigger.options,
                cause: Cause::Schedule,
                trigger: Some(trigger.id.clone()),
                occasion: Occasion::default(),
            };
            Some(self.stage_job(&instance, request, now, &mut changes)?)
        };
        changes.fire(at, instant, next);
        if next.is_none() && trigger.kind != "@cron" {
            changes.delete(at.clone(), &rev);
        } else if before != trigger.missed {
            changes.put(at.clone(), &rev, object(&trigger)?);
        }
        self.store.commit(changes).await?;
        if let Some(job) = &job {
            self.publish(&instance.doc(&crate::doctype::JOBS, job.id.as_str()), Happened::Created, object(job)?);
            self.wake_workers();
        }
        Ok(job.is_some())
    }

    /// Takes a trigger that cannot fire off the schedule, so that it does not keep the others from firing. Its document stays.
    async fn unschedule(&self, at: &DocRef) -> Result<()> {
        let mut changes = Changes::new();
        changes.schedule(at.clone(), None);
        self.store.commit(changes).await?;
        Ok(())
    }
}
