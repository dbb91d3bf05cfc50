//! Workers: take jobs from the queue, have them carried out, and see to what follows.
//!
//! A worker holds a lease on its job and renews it. Everything that the run writes is fenced by that lease, so a worker that lost it can
//! no longer write; before that it has stopped to talk to the vendor.

use std::sync::Arc;
use std::time::Duration;

use konnector_store::{Lease, Map};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::end::{Hold, Remains};
use super::held::{Held, Keeper};
use super::runner::{Assignment, Finished};
use super::step::Event;
use super::{Job, State};
use crate::realtime::Happened;
use crate::stored::Stored;
use crate::{Error, Platform, Result};

/// How long a run may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long a worker sleeps at the most when nothing wakes it.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Platform {
    /// Claims and runs jobs until told to stop, at most [`crate::Config::workers`] at a time.
    pub(crate) async fn worker_loop(&self) {
        let slots = Arc::new(Semaphore::new(self.config.workers.max(1) as usize));
        while !self.stopping().is_cancelled() {
            if let Err(error) = self.take_work(&slots).await {
                tracing::error!(%error, "no job could be claimed; trying again");
            }
            let sleep = match self.store.next_run_at() {
                Ok(Some(ready)) => (ready - self.clock.now()).to_std().unwrap_or_default().min(LONGEST_SLEEP),
                Ok(None) | Err(_) => LONGEST_SLEEP,
            };
            tokio::select! {
                biased;
                () = self.stopping().cancelled() => {}
                () = self.workers_woken() => {}
                // Not at once again: a clock that was set back may just have made a job wait anew.
                () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// Begins with as many jobs as there are free places.
    async fn take_work(&self, slots: &Arc<Semaphore>) -> Result<()> {
        let free = slots.available_permits();
        if free == 0 {
            return Ok(());
        }
        let asked_at = self.clock.elapsed();
        for lease in self.claim(free).await? {
            // Only this loop takes places, so there is one.
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { break };
            let held = Arc::new(Held::new(lease, asked_at, self.config.lease));
            let cancel = self.running().begin(&held.lease.job);
            let keeper = self.start_keeping(&held, &cancel);
            let platform = self.clone();
            let work = async move { platform.work(&held, &cancel, keeper, slot).await };
            self.runner().spawn(self, Box::pin(self.tasks().track_future(work)));
        }
        Ok(())
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>> {
        let now = self.clock.now();
        let started = move |body: &mut Map| {
            body.insert("state".to_owned(), json!(State::Running));
            body.insert("started_at".to_owned(), json!(now));
        };
        let needs = |job: &_, document: &_| self.permits(job, document);
        Ok(self.store.claim(self.worker(), now, limit, &needs, &started).await?)
    }

    /// Has a claimed job carried out.
    async fn work(&self, held: &Held, cancel: &CancellationToken, keeper: Keeper, slot: OwnedSemaphorePermit) {
        let lease = &held.lease;
        let result = tokio::select! {
            biased;
            () = held.lost().cancelled() => Err(Error::StaleLease),
            result = self.execute(held, cancel) => result,
        };
        drop(keeper);
        self.running().end(&lease.job);
        match result {
            Ok(()) => {}
            Err(Error::StaleLease) => {
                tracing::warn!(
                    job = lease.job.id,
                    epoch = lease.epoch,
                    event = "lease_lost",
                    "this worker lost its lease and stopped the run"
                );
                // If the job is nobody else's yet, it need not wait until others have noticed.
                drop(self.settle(&lease.job, Hold::Own(lease), Event::Lost, None).await);
            }
            Err(error) => {
                tracing::error!(job = lease.job.id, %error, "the end of the job could not be stored; it is given to another worker later");
            }
        }
        drop(slot);
        self.wake_workers();
    }

    async fn execute(&self, held: &Held, cancel: &CancellationToken) -> Result<()> {
        let at = &held.lease.job;
        let instance = self.instance_of(at)?;
        let Some(Stored { id, value, .. }) = self.stored::<Job>(at)? else {
            return Err(Error::NotFound(format!("the job '{}' is gone", at.id)));
        };
        let job = Job { id, ..value };
        self.publish(at, Happened::Updated, &job);
        tracing::debug!(job = job.id, wait_ms = (self.clock.now() - job.queued_at).num_milliseconds(), "started");
        if let Some(verdict) = self.held_back(&instance, &job)? {
            return self.end(held, Event::Ended(Some(verdict)), None).await;
        }
        if job.needs_room && !self.has_room(&instance).await? {
            return self.end(held, Event::NoRoom, None).await;
        }
        let assignment = Assignment { instance, job, lease: held.lease.clone(), cancel: cancel.clone() };
        let (event, remains) = tokio::select! {
            biased;
            finished = self.while_sure(held, self.runner().run(self, assignment)) => {
                let Finished { verdict, remains } = finished?;
                (Event::Ended(verdict), remains)
            }
            // The run is dropped, and with it its connections.
            () = self.grace_over() => (Event::Stopped, Remains::default()),
        };
        self.end(held, event, Some(remains)).await
    }

    async fn end(&self, held: &Held, event: Event, remains: Option<Remains>) -> Result<()> {
        held.begin_to_end();
        self.settle(&held.lease.job, Hold::Own(&held.lease), event, remains).await
    }

    /// Waits until the server is told to stop, and then as long as a run is given to end by itself.
    async fn grace_over(&self) {
        self.stopping().cancelled().await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(GRACE) => {}
            () = self.hurrying().cancelled() => {}
        }
    }
}
