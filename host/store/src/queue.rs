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
use crate::key::{self, Keyspace, Timeline};
use crate::kv::Kv;
use crate::view::{self, View};

mod check;
mod claim;
mod round_robin;

pub(crate) use check::{check_lease, check_lock, check_queue_entry, check_record};
pub(crate) use claim::{ClaimRequest, claim};
pub(crate) use round_robin::RoundRobin;

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
    #[serde(rename = "beats")]
    pub heartbeats: u64,
    /// The lock that comes with it: no other job of the instance with this lock runs meanwhile.
    pub lock: Option<String>,
    /// The permits that come with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<PermitSlot>,
}

/// Something that only so many jobs of the whole server may use at the same time, such as a vendor's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPermit {
    /// What it is for.
    pub name: String,
    /// How many jobs may hold it at the same time.
    pub limit: u32,
}

/// One of the places that a [`JobPermit`] has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PermitSlot {
    /// Name of the permit.
    pub permit: String,
    /// Which of its places.
    pub number: u32,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedJob {
    /// The job.
    pub job: DocRef,
    /// How it waits.
    #[serde(flatten)]
    pub entry: QueueEntry,
}

/// How a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
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

impl QueueEntry {
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
    fn key(&self, job: &DocRef) -> Vec<u8> {
        if self.ready {
            key::of_ready(&self.class, self.lock.as_deref(), self.run_at, job)
        } else {
            key::of_timeline(Timeline::Delayed, self.run_at, job)
        }
    }
}

/// Where a job stands, beside its document. What a lease's renewal changes is elsewhere, so that renewals and the writes
/// of the run do not disturb each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct QueueRecord {
    epoch: u64,
    state: JobQueueState,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JobQueueState {
    Waiting(QueueEntry),
    Leased {
        worker: String,
        lock: Option<String>,
        #[serde(default)]
        slots: Vec<PermitSlot>,
    },
    Ended,
}

/// Who holds a lock, or a place of a permit.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LockHolder {
    job: DocRef,
}

pub(crate) fn enqueue(view: &mut View<'_>, job: &DocRef, turn: &QueueEntry) -> Result<()> {
    document::require(view, job)?;
    let (key, standing) = read_record(view, job)?;
    match standing.state {
        JobQueueState::Leased { .. } => return Err(Conflict::Running { job: job.clone() }.into()),
        JobQueueState::Waiting(turn) => view.remove(turn.key(job)),
        JobQueueState::Ended => {}
    }
    view.put(turn.key(job), &QueuedJob { job: job.clone(), entry: turn.clone() })?;
    view.put(key, &QueueRecord { state: JobQueueState::Waiting(turn.clone()), ..standing })
}

/// Moves a job from the timeline to the ready ones.
pub(crate) fn promote(view: &mut View<'_>, QueuedJob { job, entry: turn }: &QueuedJob) -> Result<()> {
    let (_, standing) = read_record(view, job)?;
    if !matches!(standing.state, JobQueueState::Waiting(current) if current == *turn) {
        // It was moved meanwhile, and this entry is no longer there. If it were, nobody would ever look at it again.
        view.remove(turn.key(job));
        return Ok(());
    }
    enqueue(view, job, &QueueEntry { ready: true, ..turn.clone() })
}

pub(crate) fn dequeue(view: &mut View<'_>, job: &DocRef) -> Result<()> {
    let (key, standing) = read_record(view, job)?;
    let JobQueueState::Waiting(turn) = standing.state else {
        return Err(Conflict::NotWaiting { job: job.clone() }.into());
    };
    view.remove(turn.key(job));
    view.put(key, &QueueRecord { state: JobQueueState::Ended, ..standing })
}

/// Drops what the queue knows of a document that is being deleted.
pub(crate) fn remove(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let key = key::of_document(Keyspace::Job, document)?;
    match view.get::<QueueRecord>(&key)?.map(|standing| standing.state) {
        None => return Ok(()),
        Some(JobQueueState::Leased { .. }) => return Err(Conflict::Running { job: document.clone() }.into()),
        Some(JobQueueState::Waiting(turn)) => view.remove(turn.key(document)),
        Some(JobQueueState::Ended) => {}
    }
    view.remove(key);
    Ok(())
}

/// Turns a waiting job into a leased one, with the next epoch.
pub(crate) fn start_lease(view: &mut View<'_>, lease: &Lease, expected: &QueueEntry) -> Result<()> {
    let (key, standing) = read_record(view, &lease.job)?;
    match standing.state {
        JobQueueState::Waiting(turn) if turn == *expected && standing.epoch.checked_add(1) == Some(lease.epoch) => {}
        _ => return Err(Conflict::NotWaiting { job: lease.job.clone() }.into()),
    }
    let lock = lease.lock.iter().map(|lock| ("lock", lock, key::of_lock(&lease.job.instance, lock)));
    let slots = lease.slots.iter().map(|slot| ("permit", &slot.permit, key::of_slot(&slot.permit, slot.number)));
    for (index, name, place) in lock.chain(slots) {
        if let Some(holder) = view.get::<LockHolder>(&place)? {
            let (index, key, holder) = (index.to_owned(), name.clone(), holder.job.to_string());
            return Err(Conflict::Taken { index, key, holder }.into());
        }
        view.put(place, &LockHolder { job: lease.job.clone() })?;
    }
    view.remove(expected.key(&lease.job));
    let state =
        JobQueueState::Leased { worker: lease.worker.clone(), lock: lease.lock.clone(), slots: lease.slots.clone() };
    view.put(key, &QueueRecord { epoch: lease.epoch, state })?;
    view.put(key::of_lease(&lease.job), lease)
}

/// Insists on a lease being held; returns the lock and the permits that came with it.
pub(crate) fn fence(view: &mut View<'_>, lease: &Lease) -> Result<(Option<String>, Vec<PermitSlot>)> {
    let (_, standing) = read_record(view, &lease.job)?;
    match standing.state {
        JobQueueState::Leased { worker, lock, slots } if standing.epoch == lease.epoch && worker == lease.worker => {
            Ok((lock, slots))
        }
        _ => Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch }),
    }
}

pub(crate) fn renew(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    fence(view, lease)?;
    let place = key::of_lease(&lease.job);
    let stored = view.get::<Lease>(&place)?.unwrap_or_else(|| lease.clone());
    view.put(place, &Lease { heartbeats: stored.heartbeats.wrapping_add(1), ..stored })
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
    view.put(
        key::of_document(Keyspace::Job, &lease.job)?,
        &QueueRecord { epoch: lease.epoch, state: JobQueueState::Ended },
    )
}

pub(crate) fn expire(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    if view.get::<Lease>(&key::of_lease(&lease.job))?.is_some_and(|now| now.heartbeats != lease.heartbeats) {
        return Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch });
    }
    complete(view, lease)
}

/// Up to `limit` waiting jobs: those that are ready, then the others in the order of their time.
pub(crate) fn list(kv: &dyn Kv, limit: usize) -> Result<Vec<QueuedJob>> {
    let mut queued: Vec<QueuedJob> = view::scan_readable(kv, key::ready(), limit)?;
    let left = limit.saturating_sub(queued.len());
    queued.extend(view::scan_readable::<QueuedJob>(kv, key::timeline(Timeline::Delayed, None), left)?);
    Ok(queued)
}

/// The jobs on the timeline up to and including `until`, or all, at most `limit`.
pub(crate) fn list_delayed(kv: &dyn Kv, until: Option<DateTime<Utc>>, limit: usize) -> Result<Vec<QueuedJob>> {
    view::scan_readable(kv, key::timeline(Timeline::Delayed, until), limit)
}

/// The place of one waiting job.
pub(crate) fn get(kv: &dyn Kv, job: &DocRef) -> Result<Option<QueuedJob>> {
    let standing = view::read::<QueueRecord>(kv, &key::of_document(Keyspace::Job, job)?)?;
    Ok(match standing.map(|standing| standing.state) {
        Some(JobQueueState::Waiting(turn)) => Some(QueuedJob { job: job.clone(), entry: turn }),
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

fn read_record(view: &mut View<'_>, job: &DocRef) -> Result<(Vec<u8>, QueueRecord)> {
    let key = key::of_document(Keyspace::Job, job)?;
    let standing = view.get(&key)?.unwrap_or(QueueRecord { epoch: 0, state: JobQueueState::Ended });
    Ok((key, standing))
}

#[cfg(test)]
mod tests;
