//! Checks the queue: where jobs stand decides, and places, leases and locks follow.

use chrono::{SecondsFormat, SubsecRound, TimeDelta};

use super::{Holder, Lease, Queued, Standing, State};
use crate::error::Result;
use crate::fsck::{Checker, Primary, Problem};
use crate::id::DocRef;
use crate::key::{self, Space, Timeline};
use crate::view;

/// A lease ends within minutes; one that ends later than this was made with a wrong clock.
const LONGEST: TimeDelta = TimeDelta::days(1);

const STANDING: &str = "the state of a job in the queue";
const PLACE: &str = "the place in the queue";
const LEASE: &str = "the lease";
const LOCK: &str = "the lock";

/// Checks where a job stands, and that what follows from it is there.
pub(crate) fn check_standing(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let Some(Standing { epoch, state }) = check.primary(key, bytes, STANDING) else { return Ok(()) };
    let job = match check.document_at(&key::in_space(key, Space::Document))? {
        Primary::Is(job) => job,
        Primary::Unreadable => return Ok(()),
        Primary::Absent => {
            check.stray(key, bytes, STANDING, "its document is gone");
            return Ok(());
        }
    };
    match state {
        State::Ended => Ok(()),
        State::Waiting { run_at, lock } => {
            let queued = Queued { job: job.clone(), run_at, lock };
            check.expect(key::on_timeline(Timeline::Ready, run_at, &job), &queued, PLACE, &job)
        }
        State::Leased { worker, lock } => {
            let place = key::of_lease(&job);
            let until = check.now.trunc_subsecs(6);
            let mut lease = Lease { job: job.clone(), epoch, worker, until, lock };
            if let Primary::Is(Lease { until, .. }) = check.look::<Lease>(&place)? {
                lease.until = until;
            }
            check.expect(place, &lease, LEASE, &job)?;
            lease.lock.as_ref().map_or(Ok(()), |lock| expect_lock(check, &job, lock))
        }
    }
}

fn expect_lock(check: &mut Checker<'_>, job: &DocRef, lock: &str) -> Result<()> {
    let place = key::of_lock(&job.instance, lock);
    if let Primary::Is(Holder { job: holder }) = check.look::<Holder>(&place)?
        && holder != *job
        && holds(check, &holder, &place)?
    {
        let (what, of, holder) = (format!("the lock {lock:?}"), job.to_string(), holder.to_string());
        check.report(Problem::Contested { what, of, holder });
        return Ok(());
    }
    check.expect(place, &Holder { job: job.clone() }, LOCK, job)
}

/// Whether a job is leased with the lock at a key. One whose state cannot be read may be.
fn holds(check: &Checker<'_>, job: &DocRef, place: &[u8]) -> Result<bool> {
    Ok(match standing(check, job)? {
        Primary::Unreadable => true,
        Primary::Is(Standing { state: State::Leased { lock: Some(lock), .. }, .. }) => {
            key::of_lock(&job.instance, &lock) == place
        }
        Primary::Is(_) | Primary::Absent => false,
    })
}

fn standing(check: &Checker<'_>, job: &DocRef) -> Result<Primary<Standing>> {
    check.look(&key::of_document(Space::Job, job)?)
}

/// Checks a place in the order of time.
pub(crate) fn check_place(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = "a place in the queue";
    let Ok(queued) = view::decode::<Queued>(key, bytes) else {
        check.stray(key, bytes, what, "it cannot be read");
        return Ok(());
    };
    let waits = match standing(check, &queued.job)? {
        Primary::Unreadable => true,
        Primary::Is(Standing { state: State::Waiting { run_at, lock }, .. }) => {
            (run_at, lock) == (queued.run_at, queued.lock)
        }
        Primary::Is(_) | Primary::Absent => false,
    };
    if !waits || key::on_timeline(Timeline::Ready, queued.run_at, &queued.job) != key {
        check.stray(key, bytes, what, format!("{} does not wait there", queued.job));
    }
    Ok(())
}

/// Checks a lease.
pub(crate) fn check_lease(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = "a lease";
    let Ok(lease) = view::decode::<Lease>(key, bytes) else {
        check.stray(key, bytes, what, "it cannot be read");
        return Ok(());
    };
    let held = match standing(check, &lease.job)? {
        Primary::Unreadable => true,
        Primary::Is(Standing { epoch, state: State::Leased { worker, lock } }) => {
            (epoch, &worker, &lock) == (lease.epoch, &lease.worker, &lease.lock)
        }
        Primary::Is(_) | Primary::Absent => false,
    };
    if !held || key::of_lease(&lease.job) != key {
        check.stray(key, bytes, what, format!("{} is not leased so", lease.job));
        return Ok(());
    }
    if lease.until > check.now + LONGEST {
        let until = lease.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let problem = Problem::LongLease { job: lease.job.to_string(), until };
        let ended = Lease { until: check.now.trunc_subsecs(6), ..lease };
        check.replace(key, bytes, &ended, problem)?;
    }
    Ok(())
}

/// Checks a lock.
pub(crate) fn check_lock(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = "a lock";
    match view::decode::<Holder>(key, bytes) {
        Err(_) => check.stray(key, bytes, what, "it cannot be read"),
        Ok(Holder { job }) if !holds(check, &job, key)? => {
            check.stray(key, bytes, what, format!("{job} does not run with it"));
        }
        Ok(_) => {}
    }
    Ok(())
}
