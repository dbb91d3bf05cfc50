//! The queue of jobs: waiting, leased to one worker, or neither. The rest of a job's state is in its document.
//!
//! A job that waits for a time is on a timeline. A job whose time has come is ready; ready jobs are ordered so that a
//! claim finds the next job of any class and any instance without reading others ([`round_robin`]). Jobs that must not
//! run at the same time share a lock; jobs whose concurrency is limited share a permit. Locks and permits are separate
//! entries, so a claim conflicts with nothing else.
//!
//! A lease has an epoch, which increases with every lease of the job. Each write on behalf of a run names its lease
//! ([`crate::Changes::fence`]); once the lease has ended or passed to another worker, that write fails.

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

/// A job assigned to a worker until that worker ends it or stops renewing the lease.
///
/// The lease contains no clock value, because the clocks of several machines differ, and jump. The holder stops when it
/// has failed to renew the lease for a time. Another process may end the lease after it has seen the same number of
/// heartbeats for longer than that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The leased job.
    pub job: DocRef,
    /// Number of leases that this job has had, including this one.
    pub epoch: u64,
    /// Name of the holder, which differs for each process and each restart.
    pub worker: String,
    /// Number of renewals.
    #[serde(default)]
    #[serde(rename = "beats")]
    pub heartbeats: u64,
    /// The lock that the lease holds; no other job of the instance with this lock runs in the meantime.
    pub lock: Option<String>,
    /// The permits that the lease holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<PermitSlot>,
}

/// Limit on how many jobs of the whole server may use something at the same time, such as a vendor's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPermit {
    /// Name of the limited resource.
    pub name: String,
    /// Maximum number of jobs that may hold it at the same time.
    pub limit: u32,
}

/// One of the slots of a [`JobPermit`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PermitSlot {
    /// Name of the permit.
    pub permit: String,
    /// Number of the slot.
    pub number: u32,
}

/// A waiting job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedJob {
    /// The waiting job.
    pub job: DocRef,
    /// Entry of the job in the queue.
    #[serde(flatten)]
    pub entry: QueueEntry,
}

/// State of a waiting job in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Earliest time at which the job may be claimed, with microsecond precision.
    #[serde(with = "ts_microseconds")]
    pub run_at: DateTime<Utc>,
    /// Whether that time has come. The caller that enqueues a job has a clock; the store does not.
    #[serde(default)]
    pub ready: bool,
    /// The lock that the job requires.
    pub lock: Option<String>,
    /// Jobs of one class need the same permits; while those are taken, the whole class is skipped.
    #[serde(default)]
    pub class: String,
}

impl QueueEntry {
    /// Creates an entry that can be claimed from `run_at` on, which may have passed at `now`; without a lock and a
    /// class.
    #[must_use]
    pub fn new(run_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { run_at: run_at.trunc_subsecs(6), ready: run_at <= now, lock: None, class: String::new() }
    }

    /// Sets the lock. The job does not run while another job of the instance holds it.
    #[must_use]
    pub fn lock(self, lock: Option<String>) -> Self {
        Self { lock, ..self }
    }

    /// Sets the class.
    #[must_use]
    pub fn class(self, class: impl Into<String>) -> Self {
        Self { class: class.into(), ..self }
    }

    /// Returns the key of the entry of a waiting job.
    fn key(&self, job: &DocRef) -> Vec<u8> {
        if self.ready {
            key::of_ready(&self.class, self.lock.as_deref(), self.run_at, job)
        } else {
            key::of_timeline(Timeline::Delayed, self.run_at, job)
        }
    }
}

/// State of a job in the queue, stored alongside its document. The fields that a renewal changes are stored elsewhere,
/// so renewals and the writes of the run do not conflict.
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

/// The holder of a lock or of a permit slot.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LockHolder {
    job: DocRef,
}

pub(crate) fn enqueue(view: &mut View<'_>, job: &DocRef, entry: &QueueEntry) -> Result<()> {
    document::require(view, job)?;
    let (key, record) = read_record(view, job)?;
    match record.state {
        JobQueueState::Leased { .. } => return Err(Conflict::Running { job: job.clone() }.into()),
        JobQueueState::Waiting(entry) => view.remove(entry.key(job)),
        JobQueueState::Ended => {}
    }
    view.put(entry.key(job), &QueuedJob { job: job.clone(), entry: entry.clone() })?;
    view.put(key, &QueueRecord { state: JobQueueState::Waiting(entry.clone()), ..record })
}

/// Moves a job from the timeline to the ready ones.
pub(crate) fn promote(view: &mut View<'_>, QueuedJob { job, entry }: &QueuedJob) -> Result<()> {
    let (_, record) = read_record(view, job)?;
    if !matches!(record.state, JobQueueState::Waiting(current) if current == *entry) {
        // The job was moved in the meantime, so this entry no longer exists. If it did, no claim would ever read it
        // again.
        view.remove(entry.key(job));
        return Ok(());
    }
    enqueue(view, job, &QueueEntry { ready: true, ..entry.clone() })
}

pub(crate) fn dequeue(view: &mut View<'_>, job: &DocRef) -> Result<()> {
    let (key, record) = read_record(view, job)?;
    let JobQueueState::Waiting(entry) = record.state else {
        return Err(Conflict::NotWaiting { job: job.clone() }.into());
    };
    view.remove(entry.key(job));
    view.put(key, &QueueRecord { state: JobQueueState::Ended, ..record })
}

/// Removes the queue's entries of a document that is being deleted.
pub(crate) fn remove(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let key = key::of_document(Keyspace::Job, document)?;
    match view.get::<QueueRecord>(&key)?.map(|record| record.state) {
        None => return Ok(()),
        Some(JobQueueState::Leased { .. }) => return Err(Conflict::Running { job: document.clone() }.into()),
        Some(JobQueueState::Waiting(entry)) => view.remove(entry.key(document)),
        Some(JobQueueState::Ended) => {}
    }
    view.remove(key);
    Ok(())
}

/// Turns a waiting job into a leased one, with the next epoch.
pub(crate) fn start_lease(view: &mut View<'_>, lease: &Lease, expected: &QueueEntry) -> Result<()> {
    let (key, record) = read_record(view, &lease.job)?;
    match record.state {
        JobQueueState::Waiting(entry) if entry == *expected && record.epoch.checked_add(1) == Some(lease.epoch) => {}
        _ => return Err(Conflict::NotWaiting { job: lease.job.clone() }.into()),
    }
    let lock = lease.lock.iter().map(|lock| ("lock", lock, key::of_lock(&lease.job.instance, lock)));
    let slots = lease.slots.iter().map(|slot| ("permit", &slot.permit, key::of_slot(&slot.permit, slot.number)));
    for (index, name, lock_key) in lock.chain(slots) {
        if let Some(holder) = view.get::<LockHolder>(&lock_key)? {
            let (index, key, holder) = (index.to_owned(), name.clone(), holder.job.to_string());
            return Err(Conflict::Taken { index, key, holder }.into());
        }
        view.put(lock_key, &LockHolder { job: lease.job.clone() })?;
    }
    view.remove(expected.key(&lease.job));
    let state =
        JobQueueState::Leased { worker: lease.worker.clone(), lock: lease.lock.clone(), slots: lease.slots.clone() };
    view.put(key, &QueueRecord { epoch: lease.epoch, state })?;
    view.put(key::of_lease(&lease.job), lease)
}

/// Requires a lease to be held; returns its lock and its permits.
pub(crate) fn fence(view: &mut View<'_>, lease: &Lease) -> Result<(Option<String>, Vec<PermitSlot>)> {
    let (_, record) = read_record(view, &lease.job)?;
    match record.state {
        JobQueueState::Leased { worker, lock, slots } if record.epoch == lease.epoch && worker == lease.worker => {
            Ok((lock, slots))
        }
        _ => Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch }),
    }
}

pub(crate) fn renew(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    fence(view, lease)?;
    let lease_key = key::of_lease(&lease.job);
    let stored = view.get::<Lease>(&lease_key)?.unwrap_or_else(|| lease.clone());
    view.put(lease_key, &Lease { heartbeats: stored.heartbeats.wrapping_add(1), ..stored })
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

/// Returns up to `limit` waiting jobs: those that are ready, then the others in the order of their time.
pub(crate) fn list(kv: &dyn Kv, limit: usize) -> Result<Vec<QueuedJob>> {
    let mut queued: Vec<QueuedJob> = view::scan_readable(kv, key::ready(), limit)?;
    let remaining = limit.saturating_sub(queued.len());
    queued.extend(view::scan_readable::<QueuedJob>(kv, key::timeline(Timeline::Delayed, None), remaining)?);
    Ok(queued)
}

/// Returns the jobs on the timeline up to and including `until`, or all, at most `limit`.
pub(crate) fn list_delayed(kv: &dyn Kv, until: Option<DateTime<Utc>>, limit: usize) -> Result<Vec<QueuedJob>> {
    view::scan_readable(kv, key::timeline(Timeline::Delayed, until), limit)
}

/// Returns the state of one waiting job.
pub(crate) fn get(kv: &dyn Kv, job: &DocRef) -> Result<Option<QueuedJob>> {
    let record = view::read::<QueueRecord>(kv, &key::of_document(Keyspace::Job, job)?)?;
    Ok(match record.map(|record| record.state) {
        Some(JobQueueState::Waiting(entry)) => Some(QueuedJob { job: job.clone(), entry }),
        _ => None,
    })
}

/// Returns all leases.
pub(crate) fn leases(kv: &dyn Kv) -> Result<Vec<Lease>> {
    view::scan_readable(kv, key::leases(), usize::MAX)
}

/// Returns the lease of one job.
pub(crate) fn lease(kv: &dyn Kv, job: &DocRef) -> Result<Option<Lease>> {
    view::read(kv, &key::of_lease(job))
}

fn read_record(view: &mut View<'_>, job: &DocRef) -> Result<(Vec<u8>, QueueRecord)> {
    let key = key::of_document(Keyspace::Job, job)?;
    let record = view.get(&key)?.unwrap_or(QueueRecord { epoch: 0, state: JobQueueState::Ended });
    Ok((key, record))
}

#[cfg(test)]
mod tests;
