//! Checks the queue: where jobs stand decides, and places, leases and locks follow.

use super::{Holder, Lease, Queued, Slot, Standing, State};
use crate::error::Result;
use crate::fsck::{Checker, Primary, Problem};
use crate::id::DocRef;
use crate::key::{self, Space};
use crate::view;

const STANDING: &str = "the state of a job in the queue";
const PLACE: &str = "the place in the queue";
const LEASE: &str = "the lease";
const LOCK: &str = "the lock";
const SLOT: &str = "the permit";

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
        State::Waiting(turn) => {
            let place = turn.place(&job);
            check.expect(place, &Queued { job: job.clone(), turn }, PLACE, &job)
        }
        State::Leased { worker, lock, slots } => {
            let place = key::of_lease(&job);
            let mut lease = Lease { job: job.clone(), epoch, worker, beats: 0, lock, slots };
            if let Primary::Is(Lease { beats, .. }) = check.look::<Lease>(&place)? {
                lease.beats = beats;
            }
            check.expect(place, &lease, LEASE, &job)?;
            if let Some(lock) = &lease.lock {
                expect_held(check, &job, key::of_lock(&job.instance, lock), (LOCK, format!("the lock {lock:?}")))?;
            }
            for Slot { permit, number } in &lease.slots {
                let what = format!("place {number} of the permit {permit:?}");
                expect_held(check, &job, key::of_slot(permit, *number), (SLOT, what))?;
            }
            Ok(())
        }
    }
}

fn expect_held(
    check: &mut Checker<'_>,
    job: &DocRef,
    place: Vec<u8>,
    (kind, what): (&'static str, String),
) -> Result<()> {
    if let Primary::Is(Holder { job: holder }) = check.look::<Holder>(&place)?
        && holder != *job
        && holds(check, &holder, &place)?
    {
        check.report(Problem::Contested { what, of: job.to_string(), holder: holder.to_string() });
        return Ok(());
    }
    check.expect(place, &Holder { job: job.clone() }, kind, job)
}

/// Whether a job is leased with the lock, or the place of a permit, at a key. One whose state cannot be read may be.
fn holds(check: &Checker<'_>, job: &DocRef, place: &[u8]) -> Result<bool> {
    Ok(match standing(check, job)? {
        Primary::Unreadable => true,
        Primary::Is(Standing { state: State::Leased { lock, slots, .. }, .. }) => {
            lock.is_some_and(|lock| key::of_lock(&job.instance, &lock) == place)
                || slots.iter().any(|slot| key::of_slot(&slot.permit, slot.number) == place)
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
        Primary::Is(Standing { state: State::Waiting(turn), .. }) => turn == queued.turn,
        Primary::Is(_) | Primary::Absent => false,
    };
    if !waits || queued.turn.place(&queued.job) != key {
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
        Primary::Is(Standing { epoch, state: State::Leased { worker, lock, slots } }) => {
            (epoch, &worker, &lock, &slots) == (lease.epoch, &lease.worker, &lease.lock, &lease.slots)
        }
        Primary::Is(_) | Primary::Absent => false,
    };
    if !held || key::of_lease(&lease.job) != key {
        check.stray(key, bytes, what, format!("{} is not leased so", lease.job));
    }
    Ok(())
}

/// Checks a lock, or a place of a permit.
pub(crate) fn check_lock(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = if key.first() == Some(&2) { "a permit" } else { "a lock" };
    match view::decode::<Holder>(key, bytes) {
        Err(_) => check.stray(key, bytes, what, "it cannot be read"),
        Ok(Holder { job }) if !holds(check, &job, key)? => {
            check.stray(key, bytes, what, format!("{job} does not run with it"));
        }
        Ok(_) => {}
    }
    Ok(())
}
