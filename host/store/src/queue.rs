//! The queue of jobs: waiting, leased to one worker, or neither. A job's document tells the rest.
//!
//! A job that waits for a time is on a timeline; one whose time has come is among the ready ones, ordered so that a claim finds the next
//! job of any class and any instance without looking at others ([`turn`]). What must not run at the same time shares a lock, what must not
//! run too often at the same time shares a permit; both are entries of their own, so that a claim conflicts with nothing else.
//!
//! A lease has an epoch, which grows with every lease of the job. Whoever writes for a run names its lease
//! ([`crate::Changes::fence`]); once the lease has ended or passed on, that write fails.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::document;
use crate::error::{Conflict, Error, Result};
use crate::id::DocRef;
use crate::key::{self, Space, Timeline};
use crate::kv::Kv;
use crate::view::{self, View};

mod check;
mod claim;
mod turn;

pub(crate) use check::{check_lease, check_lock, check_place, check_standing};
pub(crate) use claim::{Claim, claim};
pub(crate) use turn::Turns;

/// A job handed to a worker until that worker ends it, or is seen to renew it no more.
///
/// No clock is part of it: clocks of several machines differ, and jump. Its holder stops when it could not renew it for a time; somebody
/// else may end it after having seen the same number of beats for longer than that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The job.
    pub job: DocRef,
    /// How many leases this job has had, this one included.
    pub epoch: u64,
    /// Who holds it: a name that no other process, and no restart of this one, has.
    pub worker: String,
    /// How often it was renewed.
    #[serde(default)]
    pub beats: u64,
    /// The lock that comes with it: no other job of the instance with this lock runs meanwhile.
    pub lock: Option<String>,
    /// The permits that come with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// Something that only so many jobs of the whole server may use at the same time, such as a vendor's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// What it is for.
    pub name: String,
    /// How many jobs may hold it at the same time.
    pub limit: u32,
}

/// One of the places that a [`Permit`] has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Name of the permit.
    pub permit: String,
    /// Which of its places.
    pub number: u32,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The job.
    pub job: DocRef,
    /// How it waits.
    #[serde(flatten)]
    pub turn: Turn,
}

/// How a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// From when on it may be claimed; to the microsecond.
    #[serde(with = "ts_microseconds")]
    pub run_at: DateTime<Utc>,
    /// Whether that time has come. Who queues a job has a clock, the store has none.
    #[serde(default)]
    pub ready: bool,
    /// The lock that it needs.
    pub lock: Option<String>,
    /// Jobs of one class need the same permits: while those are taken, the class is passed over as a whole.
    #[serde(default)]
    pub class: String,
}

impl Turn {
    /// To be claimed from `run_at` on, which may have come by `now`; without a lock and a class.
    #[must_use]
    pub fn new(run_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { run_at: run_at.trunc_subsecs(6), ready: run_at <= now, lock: None, class: String::new() }
    }

    /// With this lock: not while another job of the instance holds it.
    #[must_use]
    pub fn lock(self, lock: Option<String>) -> Self {
        Self { lock, ..self }
    }

    /// In this class.
    #[must_use]
    pub fn class(self, class: impl Into<String>) -> Self {
        Self { class: class.into(), ..self }
    }

    /// The key of the entry that holds a waiting job.
    fn place(&self, job: &DocRef) -> Vec<u8> {
        if self.ready {
            key::of_ready(&self.class, self.lock.as_deref(), self.run_at, job)
        } else {
            key::on_timeline(Timeline::Later, self.run_at, job)
        }
    }
}

/// Where a job stands, beside its document. What a lease's renewal changes is elsewhere, so that renewals and the writes
/// of the run do not disturb each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Standing {
    epoch: u64,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Waiting(Turn),
    Leased {
        worker: String,
        lock: Option<String>,
        #[serde(default)]
        slots: Vec<Slot>,
    },
    Ended,
}

/// Who holds a lock, or a place of a permit.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    job: DocRef,
}

pub(crate) fn enqueue(view: &mut View<'_>, job: &DocRef, turn: &Turn) -> Result<()> {
    document::require(view, job)?;
    let (key, standing) = standing(view, job)?;
    match standing.state {
        State::Leased { .. } => return Err(Conflict::Running { job: job.clone() }.into()),
        State::Waiting(turn) => view.remove(turn.place(job)),
        State::Ended => {}
    }
    view.put(turn.place(job), &Queued { job: job.clone(), turn: turn.clone() })?;
    view.put(key, &Standing { state: State::Waiting(turn.clone()), ..standing })
}

/// Moves a job from the timeline to the ready ones.
pub(crate) fn promote(view: &mut View<'_>, Queued { job, turn }: &Queued) -> Result<()> {
    let (_, standing) = standing(view, job)?;
    if !matches!(standing.state, State::Waiting(current) if current == *turn) {
        // It was moved meanwhile, and this entry is no longer there. If it were, nobody would ever look at it again.
        view.remove(turn.place(job));
        return Ok(());
    }
    enqueue(view, job, &Turn { ready: true, ..turn.clone() })
}

pub(crate) fn dequeue(view: &mut View<'_>, job: &DocRef) -> Result<()> {
    let (key, standing) = standing(view, job)?;
    let State::Waiting(turn) = standing.state else {
        return Err(Conflict::NotWaiting { job: job.clone() }.into());
    };
    view.remove(turn.place(job));
    view.put(key, &Standing { state: State::Ended, ..standing })
}

/// Drops what the queue knows of a document that is being deleted.
pub(crate) fn forget(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let key = key::of_document(Space::Job, document)?;
    match view.get::<Standing>(&key)?.map(|standing| standing.state) {
        None => return Ok(()),
        Some(State::Leased { .. }) => return Err(Conflict::Running { job: document.clone() }.into()),
        Some(State::Waiting(turn)) => view.remove(turn.place(document)),
        Some(State::Ended) => {}
    }
    view.remove(key);
    Ok(())
}

/// Turns a waiting job into a leased one, with the next epoch.
pub(crate) fn start(view: &mut View<'_>, lease: &Lease, expected: &Turn) -> Result<()> {
    let (key, standing) = standing(view, &lease.job)?;
    match standing.state {
        State::Waiting(turn) if turn == *expected && standing.epoch.checked_add(1) == Some(lease.epoch) => {}
        _ => return Err(Conflict::NotWaiting { job: lease.job.clone() }.into()),
    }
    let lock = lease.lock.iter().map(|lock| ("lock", lock, key::of_lock(&lease.job.instance, lock)));
    let slots = lease.slots.iter().map(|slot| ("permit", &slot.permit, key::of_slot(&slot.permit, slot.number)));
    for (index, name, place) in lock.chain(slots) {
        if let Some(holder) = view.get::<Holder>(&place)? {
            let (index, key, holder) = (index.to_owned(), name.clone(), holder.job.to_string());
            return Err(Conflict::Taken { index, key, holder }.into());
        }
        view.put(place, &Holder { job: lease.job.clone() })?;
    }
    view.remove(expected.place(&lease.job));
    let state = State::Leased { worker: lease.worker.clone(), lock: lease.lock.clone(), slots: lease.slots.clone() };
    view.put(key, &Standing { epoch: lease.epoch, state })?;
    view.put(key::of_lease(&lease.job), lease)
}

/// Insists on a lease being held; returns the lock and the permits that came with it.
pub(crate) fn fence(view: &mut View<'_>, lease: &Lease) -> Result<(Option<String>, Vec<Slot>)> {
    let (_, standing) = standing(view, &lease.job)?;
    match standing.state {
        State::Leased { worker, lock, slots } if standing.epoch == lease.epoch && worker == lease.worker => {
            Ok((lock, slots))
        }
        _ => Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch }),
    }
}

pub(crate) fn renew(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    fence(view, lease)?;
    let place = key::of_lease(&lease.job);
    let stored = view.get::<Lease>(&place)?.unwrap_or_else(|| lease.clone());
    view.put(place, &Lease { beats: stored.beats.wrapping_add(1), ..stored })
}

pub(crate) fn complete(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    let (lock, slots) = fence(view, lease)?;
    if let Some(lock) = lock {
        view.remove(key::of_lock(&lease.job.instance, &lock));
    }
    for slot in slots {
        view.remove(key::of_slot(&slot.permit, slot.number));
    }
    view.remove(key::of_lease(&lease.job));
    view.put(key::of_document(Space::Job, &lease.job)?, &Standing { epoch: lease.epoch, state: State::Ended })
}

pub(crate) fn take_over(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    if view.get::<Lease>(&key::of_lease(&lease.job))?.is_some_and(|now| now.beats != lease.beats) {
        return Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch });
    }
    complete(view, lease)
}

/// Up to `limit` waiting jobs: those that are ready, then the others in the order of their time.
pub(crate) fn queued(kv: &dyn Kv, limit: usize) -> Result<Vec<Queued>> {
    let mut queued: Vec<Queued> = view::scan_readable(kv, key::ready(), limit)?;
    let left = limit.saturating_sub(queued.len());
    queued.extend(view::scan_readable::<Queued>(kv, key::timeline(Timeline::Later, None), left)?);
    Ok(queued)
}

/// The jobs on the timeline up to and including `until`, or all, at most `limit`.
pub(crate) fn later(kv: &dyn Kv, until: Option<DateTime<Utc>>, limit: usize) -> Result<Vec<Queued>> {
    view::scan_readable(kv, key::timeline(Timeline::Later, until), limit)
}

/// The place of one waiting job.
pub(crate) fn waiting(kv: &dyn Kv, job: &DocRef) -> Result<Option<Queued>> {
    let standing = view::read::<Standing>(kv, &key::of_document(Space::Job, job)?)?;
    Ok(match standing.map(|standing| standing.state) {
        Some(State::Waiting(turn)) => Some(Queued { job: job.clone(), turn }),
        _ => None,
    })
}

/// All leases.
pub(crate) fn leases(kv: &dyn Kv) -> Result<Vec<Lease>> {
    view::scan_readable(kv, key::leases(), usize::MAX)
}

/// The lease of one job.
pub(crate) fn lease(kv: &dyn Kv, job: &DocRef) -> Result<Option<Lease>> {
    view::read(kv, &key::of_lease(job))
}

fn standing(view: &mut View<'_>, job: &DocRef) -> Result<(Vec<u8>, Standing)> {
    let key = key::of_document(Space::Job, job)?;
    let standing = view.get(&key)?.unwrap_or(Standing { epoch: 0, state: State::Ended });
    Ok((key, standing))
}

#[cfg(test)]
mod tests;
