//! One turn of a trigger: read it, take a step, and put what follows into one commit.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, DocRef, Rev};

use super::document::Trigger;
use super::step::{Command, Event, Rules, State, step};
use crate::account::Place;
use crate::doctype::{JOBS, TRIGGERS};
use crate::instance::Instance;
use crate::job::{Job, JobRequest};
use crate::realtime::Happened;
use crate::stored::{Stored, object};
use crate::{Error, Platform, Result};

/// How often a turn is taken again with fresh data when somebody else was quicker.
const TRIES: usize = 8;

/// A trigger as it was read.
pub(super) struct Turn {
    pub at: DocRef,
    pub rev: Rev,
    pub trigger: Trigger,
    pub due: Option<DateTime<Utc>>,
}

/// What is staged, and what follows once it is committed.
#[derive(Debug)]
pub(super) struct Taken {
    /// The trigger as it is then.
    pub trigger: Trigger,
    /// The jobs that were pushed.
    pub jobs: Vec<Job>,
    /// Its pause began or ended.
    pub told: bool,
    /// It is removed.
    pub removed: bool,
}

impl Platform {
    /// Reads a trigger with its cursor.
    pub(super) fn read_turn(&self, instance: &Instance, id: &str) -> Result<Option<Turn>> {
        let at = instance.doc(&TRIGGERS, id);
        let Some(Stored { id, rev, value }) = self.stored::<Trigger>(&at)? else { return Ok(None) };
        // After the document: whoever moves the cursor also changes the document, and then the commit conflicts.
        let due = self.store.due_at(&at)?;
        Ok(Some(Turn { at, rev, trigger: Trigger { id, ..value }, due }))
    }

    /// Takes a step and stages what follows: the trigger, its cursor and its jobs.
    ///
    /// # Errors
    ///
    /// [`Error::NotYet`] when a person asks for a job while the vendor has locked the account, [`Error::ForeignAccount`] when the konnector may
    /// not use the account, [`Error::Unavailable`] while the konnector is in
    /// a maintenance that lets nobody run it; what the trigger's arguments or its
    /// jobs' message are refused for.
    pub(super) fn stage_step(
        &self,
        instance: &Instance,
        turn: Turn,
        event: Event,
        changes: &mut Changes,
    ) -> Result<Taken> {
        let Turn { at, rev, mut trigger, due } = turn;
        let fires = matches!(event, Event::Due(_));
        let before = State { due, life: trigger.life.clone() };
        let maintenance = self.maintenance_of(instance, &trigger.message)?;
        if matches!(event, Event::Launched(_)) {
            self.check_account(instance, &trigger.message, Place::Message)?;
            if let Some(maintenance) = &maintenance {
                maintenance.admit(true)?;
            }
        }
        let rules = Rules { maintenance: maintenance.is_some(), ..trigger.rules(instance)? };
        let (after, commands) = step(&rules, before.clone(), event, self.clock.now(), &mut || self.random().share());
        let told = before.life.paused != after.life.paused;
        let (mut jobs, mut removed) = (Vec::new(), false);
        for command in commands {
            match command {
                Command::Push { run_at, cause, occasion } => {
                    let request = JobRequest {
                        worker: trigger.worker.clone(),
                        message: trigger.message.clone(),
                        options: trigger.options,
                        cause,
                        trigger: Some(trigger.id.clone()),
                        occasion,
                    };
                    jobs.push(self.stage_job(instance, request, run_at, changes)?);
                }
                Command::Refuse(until) => {
                    return Err(Error::NotYet {
                        until,
                        message: format!(
                            "The vendor locked the account after too many attempts, so nothing runs before {}. Sign in at the vendor's site first.",
                            until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                        ),
                    });
                }
                Command::Delete => removed = true,
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
        let changed = after.life != before.life || after.due != before.due;
        trigger.life = after.life;
        if removed {
            trigger.remove(instance, &rev, changes);
        } else if changed {
            changes.put(at, &rev, object(&trigger)?);
        }
        Ok(Taken { trigger, jobs, told, removed })
    }

    /// Takes a step in a commit of its own; `None` when the trigger is gone.
    pub(super) async fn take_step(&self, instance: &Instance, id: &str, event: &Event) -> Result<Option<Taken>> {
        match self.read_turn(instance, id)? {
            Some(turn) => self.take_turn(instance, turn, event).await,
            None => Ok(None),
        }
    }

    /// The same for a trigger that was read already, and is read again when it has changed.
    pub(super) async fn take_turn(&self, instance: &Instance, turn: Turn, event: &Event) -> Result<Option<Taken>> {
        let id = turn.trigger.id.clone();
        let mut read = Some(turn);
        for tries in 1.. {
            let turn = match read.take() {
                Some(turn) => turn,
                None => match self.read_turn(instance, &id)? {
                    Some(turn) => turn,
                    None => return Ok(None),
                },
            };
            let mut changes = Changes::new();
            let taken = self.stage_step(instance, turn, event.clone(), &mut changes)?;
            if changes.is_empty() {
                return Ok(Some(taken));
            }
            match self.commit(changes).await {
                Ok(_) => {
                    self.tell(instance, &taken)?;
                    return Ok(Some(taken));
                }
                Err(error) if error.is_conflict() && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Tells listeners and workers about a turn that was committed.
    pub(super) fn tell(&self, instance: &Instance, taken: &Taken) -> Result<()> {
        for job in &taken.jobs {
            self.publish(&instance.doc(&JOBS, job.id.as_str()), Happened::Created, job);
            self.wake_workers();
        }
        let at = instance.doc(&TRIGGERS, taken.trigger.id.as_str());
        if taken.removed {
            self.publish(&at, Happened::Deleted, &taken.trigger);
        } else if taken.told {
            self.publish(&at, Happened::Updated, &taken.trigger);
        }
        Ok(())
    }
}
