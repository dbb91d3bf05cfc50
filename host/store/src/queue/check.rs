//! Checks the queue. The queue states of jobs are authoritative; queue entries, leases and locks are derived from them.

use super::{JobQueueState, Lease, LockHolder, PermitSlot, QueueRecord, QueuedJob};
use crate::error::Result;
use crate::fsck::{Checker, FsckProblem, SourceEntry};
use crate::id::DocRef;
use crate::key::{self, Keyspace};
use crate::view;

const QUEUE_RECORD: &str = "the state of a job in the queue";
const QUEUE_ENTRY: &str = "the queue entry";
const LEASE: &str = "the lease";
const LOCK: &str = "the lock";
const SLOT: &str = "the permit";

/// Checks the queue state of a job, and that its derived entries exist.
pub(crate) fn check_record(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let Some(QueueRecord { epoch, state }) = check.read_or_report(key, bytes, QUEUE_RECORD) else { return Ok(()) };
    let job = match check.document_at(&key::with_keyspace(key, Keyspace::Document))? {
        SourceEntry::Found(job) => job,
        SourceEntry::Unreadable => return Ok(()),
        SourceEntry::Absent => {
            check.report_stray(key, bytes, QUEUE_RECORD, "its document is missing");
            return Ok(());
        }
    };
    match state {
        JobQueueState::Ended => Ok(()),
        JobQueueState::Waiting(entry) => {
            let entry_key = entry.key(&job);
            check.expect_entry(entry_key, &QueuedJob { job: job.clone(), entry }, QUEUE_ENTRY, &job)
        }
        JobQueueState::Leased { worker, lock, slots } => {
            let lease_key = key::of_lease(&job);
            let mut lease = Lease { job: job.clone(), epoch, worker, heartbeats: 0, lock, slots };
            if let SourceEntry::Found(Lease { heartbeats, .. }) = check.read_source::<Lease>(&lease_key)? {
                lease.heartbeats = heartbeats;
            }
            check.expect_entry(lease_key, &lease, LEASE, &job)?;
            if let Some(lock) = &lease.lock {
                expect_lock(check, &job, key::of_lock(&job.instance, lock), (LOCK, format!("the lock {lock:?}")))?;
            }
            for PermitSlot { permit, number } in &lease.slots {
                let what = format!("slot {number} of the permit {permit:?}");
                expect_lock(check, &job, key::of_slot(permit, *number), (SLOT, what))?;
            }
            Ok(())
        }
    }
}

fn expect_lock(
    check: &mut Checker<'_>,
    job: &DocRef,
    lock_key: Vec<u8>,
    (kind, what): (&'static str, String),
) -> Result<()> {
    if let SourceEntry::Found(LockHolder { job: holder }) = check.read_source::<LockHolder>(&lock_key)?
        && holder != *job
        && is_lock_holder(check, &holder, &lock_key)?
    {
        check.report(FsckProblem::Contested { what, of: job.to_string(), holder: holder.to_string() });
        return Ok(());
    }
    check.expect_entry(lock_key, &LockHolder { job: job.clone() }, kind, job)
}

/// Returns whether a job is leased with the lock or permit slot at a key. A job with an unreadable state may be.
fn is_lock_holder(check: &Checker<'_>, job: &DocRef, lock_key: &[u8]) -> Result<bool> {
    Ok(match read_record(check, job)? {
        SourceEntry::Unreadable => true,
        SourceEntry::Found(QueueRecord { state: JobQueueState::Leased { lock, slots, .. }, .. }) => {
            lock.is_some_and(|lock| key::of_lock(&job.instance, &lock) == lock_key)
                || slots.iter().any(|slot| key::of_slot(&slot.permit, slot.number) == lock_key)
        }
        SourceEntry::Found(_) | SourceEntry::Absent => false,
    })
}

fn read_record(check: &Checker<'_>, job: &DocRef) -> Result<SourceEntry<QueueRecord>> {
    check.read_source(&key::of_document(Keyspace::Job, job)?)
}

/// Checks an entry of a waiting job.
pub(crate) fn check_queue_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let description = "a queue entry";
    let Ok(queued) = view::decode::<QueuedJob>(key, bytes) else {
        check.report_stray(key, bytes, description, "it cannot be read");
        return Ok(());
    };
    let is_waiting = match read_record(check, &queued.job)? {
        SourceEntry::Unreadable => true,
        SourceEntry::Found(QueueRecord { state: JobQueueState::Waiting(entry), .. }) => entry == queued.entry,
        SourceEntry::Found(_) | SourceEntry::Absent => false,
    };
    if !is_waiting || queued.entry.key(&queued.job) != key {
        check.report_stray(key, bytes, description, format!("{} is not waiting at this place", queued.job));
    }
    Ok(())
}

/// Checks a lease.
pub(crate) fn check_lease(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let description = "a lease";
    let Ok(lease) = view::decode::<Lease>(key, bytes) else {
        check.report_stray(key, bytes, description, "it cannot be read");
        return Ok(());
    };
    let is_held = match read_record(check, &lease.job)? {
        SourceEntry::Unreadable => true,
        SourceEntry::Found(QueueRecord { epoch, state: JobQueueState::Leased { worker, lock, slots } }) => {
            (epoch, &worker, &lock, &slots) == (lease.epoch, &lease.worker, &lease.lock, &lease.slots)
        }
        SourceEntry::Found(_) | SourceEntry::Absent => false,
    };
    if !is_held || key::of_lease(&lease.job) != key {
        check.report_stray(key, bytes, description, format!("{} does not have this lease", lease.job));
    }
    Ok(())
}

/// Checks a lock or a permit slot.
pub(crate) fn check_lock(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let description = if key.first() == Some(&2) { "a permit" } else { "a lock" };
    match view::decode::<LockHolder>(key, bytes) {
        Err(_) => check.report_stray(key, bytes, description, "it cannot be read"),
        Ok(LockHolder { job }) if !is_lock_holder(check, &job, key)? => {
            check.report_stray(key, bytes, description, format!("{job} does not hold it"));
        }
        Ok(_) => {}
    }
    Ok(())
}
