//! Turns due instants and changes of documents into jobs. Timers are hints, because the due triggers are read from the
//! store's index each time.

use std::collections::BTreeMap;
use std::time::Duration;

use konnector_store::{Changes, DocRef};
use tokio::task::JoinSet;

use super::Trigger;
use super::runtime_state::Pause;
use super::step::{LiveJobs, TriggerEvent, is_plausible};
use crate::Result;
use crate::Triggers;
use konnector_documents::doctype::{JOBS, PENDING_EVENTS, TRIGGERS};
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Stored, to_object};

/// Number of due documents handled before the index is read again. Different accounts share the store's commits.
const DUE_BATCH_SIZE: usize = 256;
/// Maximum sleep, so that a jump of the wall clock is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Minimum sleep, so that a trigger that cannot fire now is not retried in a busy loop.
const MIN_SLEEP: Duration = Duration::from_millis(10);
/// A trigger that fires later than this is logged.
const LATE_THRESHOLD: Duration = Duration::from_secs(10);

impl Triggers {
    /// Fires due triggers forever. Cancel-safe between two triggers, because fired ones are stored.
    pub async fn run_scheduler(&self) {
        loop {
            if let Err(error) = self.fire_due().await {
                tracing::error!(%error, "the scheduler cannot fire the due triggers; it retries in a second");
                tokio::time::sleep(MAX_SLEEP).await;
            }
            let sleep = match self.context.core.store().next_due_at() {
                Ok(Some(due)) if is_plausible(self.context.core.clock().now()) => {
                    (due - self.context.core.clock().now()).to_std().unwrap_or_default().clamp(MIN_SLEEP, MAX_SLEEP)
                }
                Ok(_) | Err(_) => MAX_SLEEP,
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(sleep) => {}
                () = self.context.core.schedule_changed() => {}
            }
        }
    }

    /// Fires everything that is due now; returns the number of jobs pushed.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn fire_due(&self) -> Result<usize> {
        let mut jobs = 0;
        while is_plausible(self.context.core.clock().now()) {
            let due = self.context.core.store().due_triggers(self.context.core.clock().now(), DUE_BATCH_SIZE)?;
            let last = due.len() < DUE_BATCH_SIZE;
            let mut accounts: BTreeMap<String, Vec<DocRef>> = BTreeMap::new();
            for (at, instant) in due {
                if at.doctype != *PENDING_EVENTS
                    && (self.context.core.clock().now() - instant).to_std().unwrap_or_default() > LATE_THRESHOLD
                {
                    tracing::debug!(trigger = at.id, %instant, "trigger fires late");
                }
                accounts.entry(self.ordering_key(&at)).or_default().push(at);
            }
            let mut turns = JoinSet::new();
            for documents in accounts.into_values() {
                let triggers = self.clone();
                turns.spawn(async move {
                    let mut jobs = 0;
                    for at in documents {
                        jobs += triggers.fire_or_disable(&at).await?;
                    }
                    Ok::<_, crate::Error>(jobs)
                });
            }
            while let Some(result) = turns.join_next().await {
                match result {
                    Ok(fired) => jobs += fired?,
                    Err(error) => tracing::error!(%error, "a step of a trigger was interrupted; it will be retried"),
                }
            }
            if last {
                break;
            }
        }
        Ok(jobs)
    }

    /// Returns the key within which due documents are handled in order: the account if there is one, else the trigger.
    fn ordering_key(&self, at: &DocRef) -> String {
        let trigger = if at.doctype == *PENDING_EVENTS { self.pending_event_trigger(at) } else { Some(at.id.clone()) };
        let trigger = trigger.unwrap_or_else(|| at.id.clone());
        let found =
            self.context.core.store().get(&DocRef::new(&at.instance, &TRIGGERS, trigger.as_str())).ok().flatten();
        let account = found.as_ref().and_then(|found| found.body.get("message")?.get("account")?.as_str());
        format!("{}/{}", at.instance.as_ref(), account.unwrap_or(&trigger))
    }

    async fn fire_or_disable(&self, at: &DocRef) -> Result<usize> {
        match self.fire(at).await {
            Ok(jobs) => Ok(jobs),
            // The trigger was changed concurrently; it is still in the index and will be retried.
            Err(error) if error.is_conflict() => Ok(0),
            Err(error @ crate::Error::Store(_)) => Err(error),
            Err(error) => {
                tracing::error!(trigger = at.id, %error, "the trigger cannot fire; it is paused until it is changed");
                self.disable_unusable(at).await?;
                Ok(0)
            }
        }
    }

    /// Unschedules a document that cannot be used. The trigger's state then says so; a pending event is lost.
    async fn disable_unusable(&self, at: &DocRef) -> Result<()> {
        let trigger = if at.doctype == *PENDING_EVENTS { self.pending_event_trigger(at) } else { Some(at.id.clone()) };
        let mut changes = Changes::new();
        match self.context.core.store().get(at)? {
            Some(note) if at.doctype == *PENDING_EVENTS => drop(changes.purge(at.clone(), &note.rev)),
            _ => drop(changes.schedule(at.clone(), None)),
        }
        if at.doctype != *JOBS
            && let Some(id) = trigger
        {
            let at = DocRef::new(&at.instance, &TRIGGERS, id.as_str());
            // If the trigger cannot be read, the reason cannot be stored in it.
            if let Ok(Some(Stored { rev, value: mut trigger, .. })) = self.context.core.load::<Trigger>(&at) {
                trigger.runtime.paused =
                    Some(Pause { code: Pause::UNUSABLE.to_owned(), since: self.context.core.clock().now() });
                changes.put(at, &rev, to_object(&trigger)?);
            }
        }
        match self.context.core.commit(changes).await {
            // It was changed concurrently and will be retried.
            Err(error) if error.is_conflict() => Ok(()),
            done => done.map(drop),
        }
    }

    async fn fire(&self, at: &DocRef) -> Result<usize> {
        let instance = self.instance_of(at)?;
        if at.doctype == *PENDING_EVENTS {
            return self.process_pending_event(&instance, at).await;
        }
        if at.doctype == *JOBS {
            return self.context.jobs().time_out_client_job(&instance, &at.id).await.map(|()| 0);
        }
        let Some(transition) = self.load_transition(&instance, &at.id)? else { return Ok(0) };
        let live = self.count_live_jobs(&instance, &transition.trigger)?;
        let applied = self.apply_transition(&instance, transition, &TriggerEvent::Due(live)).await?;
        Ok(applied.map_or(0, |applied| applied.jobs.len()))
    }

    fn count_live_jobs(&self, instance: &Instance, trigger: &Trigger) -> Result<LiveJobs> {
        let own = self.context.jobs().count_live_of_trigger(instance, &trigger.id, 2)?;
        let mut account = own;
        for other in trigger.account().map_or(Ok(Vec::new()), |account| self.list_of_account(instance, account))? {
            if other != trigger.id {
                account += self.context.jobs().count_live_of_trigger(instance, &other, 1)?;
            }
        }
        Ok(LiveJobs { own, account })
    }
}
