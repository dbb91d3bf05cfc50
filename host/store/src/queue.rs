//! The queue of jobs: waiting, leased to one worker, or neither. A job's document tells the rest.
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

pub(crate) use check::{check_lease, check_lock, check_place, check_standing};
pub(crate) use claim::{Claim, claim};

/// A job handed to a worker, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The job.
    pub job: DocRef,
    /// How many leases this job has had, this one included.
    pub epoch: u64,
    /// Who holds it: a name that no other process, and no restart of this one, has.
    pub worker: String,
    /// When it counts as lost unless renewed; to the microsecond.
    #[serde(with = "ts_microseconds")]
    pub until: DateTime<Utc>,
    /// The lock that comes with it: no other job of the instance with this lock runs meanwhile.
    pub lock: Option<String>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The job.
    pub job: DocRef,
    /// From when on it may be claimed; to the microsecond.
    #[serde(with = "ts_microseconds")]
    pub run_at: DateTime<Utc>,
    /// The lock that it needs.
    pub lock: Option<String>,
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
    Waiting {
        #[serde(with = "ts_microseconds")]
        run_at: DateTime<Utc>,
        lock: Option<String>,
    },
    Leased {
        worker: String,
        lock: Option<String>,
    },
    Ended,
}

/// Who holds a lock.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    job: DocRef,
}

pub(crate) fn enqueue(view: &mut View<'_>, job: &DocRef, run_at: DateTime<Utc>, lock: Option<&str>) -> Result<()> {
    document::require(view, job)?;
    let (key, standing) = standing(view, job)?;
    match standing.state {
        State::Leased { .. } => return Err(Conflict::Running { job: job.clone() }.into()),
        State::Waiting { run_at, .. } => view.remove(key::on_timeline(Timeline::Ready, run_at, job)),
        State::Ended => {}
    }
    let queued = Queued { job: job.clone(), run_at: run_at.trunc_subsecs(6), lock: lock.map(str::to_owned) };
    view.put(key::on_timeline(Timeline::Ready, queued.run_at, job), &queued)?;
    view.put(key, &Standing { state: State::Waiting { run_at: queued.run_at, lock: queued.lock }, ..standing })
}

pub(crate) fn dequeue(view: &mut View<'_>, job: &DocRef) -> Result<()> {
    let (key, standing) = standing(view, job)?;
    let State::Waiting { run_at, .. } = standing.state else {
        return Err(Conflict::NotWaiting { job: job.clone() }.into());
    };
    view.remove(key::on_timeline(Timeline::Ready, run_at, job));
    view.put(key, &Standing { state: State::Ended, ..standing })
}

/// Drops what the queue knows of a document that is being deleted.
pub(crate) fn forget(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let key = key::of_document(Space::Job, document)?;
    match view.get::<Standing>(&key)?.map(|standing| standing.state) {
        None => return Ok(()),
        Some(State::Leased { .. }) => return Err(Conflict::Running { job: document.clone() }.into()),
        Some(State::Waiting { run_at, .. }) => view.remove(key::on_timeline(Timeline::Ready, run_at, document)),
        Some(State::Ended) => {}
    }
    view.remove(key);
    Ok(())
}

/// Turns a waiting job into a leased one, with the next epoch.
pub(crate) fn start(view: &mut View<'_>, lease: &Lease, expected: DateTime<Utc>) -> Result<()> {
    let (key, standing) = standing(view, &lease.job)?;
    match standing.state {
        State::Waiting { run_at, lock }
            if run_at == expected && lock == lease.lock && standing.epoch.checked_add(1) == Some(lease.epoch) => {}
        _ => return Err(Conflict::NotWaiting { job: lease.job.clone() }.into()),
    }
    if let Some(lock) = &lease.lock {
        let place = key::of_lock(&lease.job.instance, lock);
        if let Some(holder) = view.get::<Holder>(&place)? {
            let (key, holder) = (lock.clone(), holder.job.to_string());
            return Err(Conflict::Taken { index: "lock".to_owned(), key, holder }.into());
        }
        view.put(place, &Holder { job: lease.job.clone() })?;
    }
    view.remove(key::on_timeline(Timeline::Ready, expected, &lease.job));
    let state = State::Leased { worker: lease.worker.clone(), lock: lease.lock.clone() };
    view.put(key, &Standing { epoch: lease.epoch, state })?;
    view.put(key::of_lease(&lease.job), lease)
}

/// Insists on a lease being held; returns the lock that came with it.
pub(crate) fn fence(view: &mut View<'_>, lease: &Lease) -> Result<Option<String>> {
    let (_, standing) = standing(view, &lease.job)?;
    match standing.state {
        State::Leased { worker, lock } if standing.epoch == lease.epoch && worker == lease.worker => Ok(lock),
        _ => Err(Error::StaleLease { job: lease.job.clone(), epoch: lease.epoch }),
    }
}

pub(crate) fn renew(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    let lock = fence(view, lease)?;
    view.put(key::of_lease(&lease.job), &Lease { lock, until: lease.until.trunc_subsecs(6), ..lease.clone() })
}

pub(crate) fn complete(view: &mut View<'_>, lease: &Lease) -> Result<()> {
    if let Some(lock) = fence(view, lease)? {
        view.remove(key::of_lock(&lease.job.instance, &lock));
    }
    view.remove(key::of_lease(&lease.job));
    view.put(key::of_document(Space::Job, &lease.job)?, &Standing { epoch: lease.epoch, state: State::Ended })
}

/// The first `limit` waiting jobs in the order of their time, up to and including `until`.
pub(crate) fn queued(kv: &dyn Kv, until: Option<DateTime<Utc>>, limit: usize) -> Result<Vec<Queued>> {
    view::scan_readable(kv, key::timeline(Timeline::Ready, until), limit)
}

/// The place of one waiting job.
pub(crate) fn waiting(kv: &dyn Kv, job: &DocRef) -> Result<Option<Queued>> {
    let standing = view::read::<Standing>(kv, &key::of_document(Space::Job, job)?)?;
    Ok(match standing.map(|standing| standing.state) {
        Some(State::Waiting { run_at, lock }) => Some(Queued { job: job.clone(), run_at, lock }),
        _ => None,
    })
}

/// All leases. There are as many as runs at a time, so no order by expiry is kept.
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
