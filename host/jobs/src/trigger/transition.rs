//! Transition of a trigger, which reads it, computes a step, and commits the result at once.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, DocRef, Rev};
use parking_lot::Mutex;

use super::document::Trigger;
use super::step::{StepState, TriggerCommand, TriggerEvent, TriggerSpec, step};
use crate::Triggers;
use crate::job::{Job, JobRequest};
use crate::{Error, Result};
use konnector_accounts::AccountLocation;
use konnector_documents::doctype::{JOBS, TRIGGERS};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Stored, retry_on_conflict, to_object};

/// A trigger and its cursor, as read from the store.
pub(super) struct Transition {
    pub doc_ref: DocRef,
    pub rev: Rev,
    pub trigger: Trigger,
    pub due: Option<DateTime<Utc>>,
}

/// Result of a staged transition, valid once it is committed.
#[derive(Debug)]
pub(super) struct AppliedTransition {
    /// The trigger after the transition.
    pub trigger: Trigger,
    /// The jobs that were pushed.
    pub jobs: Vec<Job>,
    /// Whether the pause of the trigger began or ended.
    pub pause_changed: bool,
    /// Whether the trigger is deleted.
    pub removed: bool,
}

impl Triggers {
    /// Reads a trigger with its cursor.
    pub(super) fn load_transition(&self, instance: &Instance, id: &str) -> Result<Option<Transition>> {
        let at = instance.doc(&TRIGGERS, id);
        let Some(Stored { id, rev, value }) = self.context.core.load::<Trigger>(&at)? else { return Ok(None) };
        // Read after the document. Moving the cursor also changes the document, so the commit would conflict.
        let due = self.context.core.store().due_at(&at)?;
        Ok(Some(Transition { doc_ref: at, rev, trigger: Trigger { id, ..value }, due }))
    }

    /// Computes a step and stages the results: the trigger, its cursor and its jobs.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] if a person requests a job while the vendor has locked the account,
    /// [`Error::ForeignAccount`] if the konnector may not use the account, [`Error::Unavailable`] during a
    /// maintenance that allows no runs of the konnector; errors of the trigger's arguments or its jobs' message.
    pub(super) fn stage_transition(
        &self,
        instance: &Instance,
        transition: Transition,
        event: TriggerEvent,
        changes: &mut Changes,
    ) -> Result<AppliedTransition> {
        let Transition { doc_ref: at, rev, mut trigger, due } = transition;
        let fires = matches!(event, TriggerEvent::Due(_));
        let before = StepState { due, runtime: trigger.runtime.clone() };
        let maintenance = self.context.konnectors().maintenance_for_job(instance, &trigger.message)?;
        if matches!(event, TriggerEvent::Launched(_)) {
            self.context.accounts().check(instance, &trigger.message, AccountLocation::Message)?;
            if let Some(maintenance) = &maintenance {
                maintenance.check_start(true)?;
            }
        }
        let rules = TriggerSpec { maintenance: maintenance.is_some(), ..trigger.spec(instance)? };
        let (after, commands) = step(&rules, before.clone(), event, self.context.core.clock().now(), &mut || {
            self.context.core.random().jitter()
        });
        let pause_changed = before.runtime.paused != after.runtime.paused;
        let (mut jobs, mut removed) = (Vec::new(), false);
        for command in commands {
            match command {
                TriggerCommand::Push { run_at, cause, occasion } => {
                    let request = JobRequest {
                        worker: trigger.worker.clone(),
                        message: trigger.message.clone(),
                        options: trigger.options,
                        cause,
                        trigger: Some(trigger.id.clone()),
                        payload: occasion,
                    };
                    jobs.push(self.context.jobs().stage(instance, request, run_at, changes)?);
                }
                TriggerCommand::Reject(until) => {
                    return Err(Error::RetryLater {
                        until,
                        message: format!(
                            "The vendor locked the account after too many attempts, so nothing runs before {}. Sign in at the vendor's site first.",
                            until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                        ),
                    });
                }
                TriggerCommand::Delete => removed = true,
            }
        }
        match before.due {
            Some(instant) if fires && after.due != before.due => {
                changes.fire(&at, instant, after.due);
            }
            _ if after.due != before.due => {
                changes.schedule(at.clone(), after.due);
            }
            _ => {}
        }
        let changed = after.runtime != before.runtime || after.due != before.due;
        trigger.runtime = after.runtime;
        if removed {
            trigger.stage_delete(instance, &rev, changes);
        } else if changed {
            changes.put(at, &rev, to_object(&trigger)?);
        }
        Ok(AppliedTransition { trigger, jobs, pause_changed, removed })
    }

    /// Applies an event in its own commit; `None` if the trigger does not exist.
    pub(super) async fn apply(
        &self,
        instance: &Instance,
        id: &str,
        event: &TriggerEvent,
    ) -> Result<Option<AppliedTransition>> {
        match self.load_transition(instance, id)? {
            Some(transition) => self.apply_transition(instance, transition, event).await,
            None => Ok(None),
        }
    }

    /// Like [`Triggers::apply`], for a trigger that was already read; it is read again after a conflict.
    pub(super) async fn apply_transition(
        &self,
        instance: &Instance,
        transition: Transition,
        event: &TriggerEvent,
    ) -> Result<Option<AppliedTransition>> {
        let id = transition.trigger.id.clone();
        let read = Mutex::new(Some(transition));
        retry_on_conflict(|| async {
            let read = read.lock().take();
            let Some(transition) = read.map_or_else(|| self.load_transition(instance, &id), |read| Ok(Some(read)))?
            else {
                return Ok(None);
            };
            let mut changes = Changes::new();
            let applied = self.stage_transition(instance, transition, event.clone(), &mut changes)?;
            if !changes.is_empty() {
                self.context.core.commit(changes).await?;
                self.notify_applied(instance, &applied)?;
            }
            Ok(Some(applied))
        })
        .await
    }

    /// Notifies listeners and workers about a committed transition.
    pub(super) fn notify_applied(&self, instance: &Instance, applied: &AppliedTransition) -> Result<()> {
        for job in &applied.jobs {
            self.context.core.publish(&instance.doc(&JOBS, job.id.as_str()), ChangeKind::Created, job);
            self.context.wake_workers();
        }
        let at = instance.doc(&TRIGGERS, applied.trigger.id.as_str());
        if applied.removed {
            self.context.core.publish(&at, ChangeKind::Deleted, &applied.trigger);
        } else if applied.pause_changed {
            self.context.core.publish(&at, ChangeKind::Updated, &applied.trigger);
        }
        Ok(())
    }
}
