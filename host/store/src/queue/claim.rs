//! Claiming waiting jobs for a worker.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use super::round_robin::{ClassHead, ReadyScan};
use super::{JobPermit, Lease, LockHolder, PermitSlot, QueueRecord, QueuedJob};
use crate::Map;
use crate::changes::{ChangeOp, Changes};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::id::DocRef;
use crate::key::{self, Keyspace};
use crate::store::Store;
use crate::view;

/// Number of due jobs that one commit moves to the ready ones.
const PROMOTE_BATCH_SIZE: usize = 256;

/// The parameters of a claim; see [`Store::claim`].
pub(crate) struct ClaimRequest<'a> {
    pub(crate) worker: &'a str,
    pub(crate) now: DateTime<Utc>,
    pub(crate) limit: usize,
    pub(crate) permits_of: &'a (dyn Fn(&DocRef, &Document) -> Vec<JobPermit> + Send + Sync),
    pub(crate) on_start: &'a (dyn Fn(&mut Map) + Send + Sync),
}

/// Leases up to `limit` jobs, each in a commit of its own; those commits are written to disk together.
pub(crate) async fn claim(store: &Store, request: ClaimRequest<'_>) -> Result<Vec<Lease>> {
    if request.limit == 0 {
        return Ok(Vec::new());
    }
    promote(store, request.now).await?;
    let mut leases = Vec::new();
    while leases.len() < request.limit {
        let candidates = CandidateSearch::new(store, &request)?.candidates(request.limit - leases.len())?;
        if candidates.is_empty() {
            break;
        }
        let commits = candidates.into_iter().map(async |(lease, changes)| (store.commit(changes).await, lease));
        let mut failure = None;
        for (outcome, lease) in join_all(commits).await {
            match outcome {
                Ok(_) => leases.push(lease),
                // Another worker was faster, or the job was changed or cancelled.
                Err(error) if error.is_conflict() => {}
                Err(error) => failure = Some(error),
            }
        }
        // Leases already taken must reach the worker; a persistent failure will occur again at its next call.
        match failure {
            Some(error) if leases.is_empty() => return Err(error),
            Some(_) => break,
            None => {}
        }
    }
    Ok(leases)
}

/// Moves the due jobs to the ready ones.
async fn promote(store: &Store, now: DateTime<Utc>) -> Result<()> {
    loop {
        let due = super::list_delayed(store.kv(), Some(now), PROMOTE_BATCH_SIZE)?;
        if due.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::new();
        for queued in &due {
            changes.push(ChangeOp::Promote { queued: queued.clone() });
        }
        match store.commit(changes).await {
            Ok(_) if due.len() < PROMOTE_BATCH_SIZE => return Ok(()),
            Ok(_) => {}
            // One damaged or missing job must not block the others.
            Err(Error::Corrupt { .. } | Error::Invalid { .. } | Error::NotFound { .. }) => {
                return promote_one_by_one(store, due).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn promote_one_by_one(store: &Store, due: Vec<QueuedJob>) -> Result<()> {
    for queued in due {
        let mut changes = Changes::new();
        changes.push(ChangeOp::Promote { queued });
        match store.commit(changes).await {
            Err(error @ (Error::Corrupt { .. } | Error::Invalid { .. } | Error::NotFound { .. })) => {
                tracing::error!(%error, "skipped a waiting job that cannot be read");
            }
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// Whether a job can start.
enum ClaimCandidate {
    Startable(Box<(Lease, Changes)>),
    /// No job of its class can start.
    NeedsPermit,
    Missing,
}

/// Scans the ready jobs and determines the permits that each needs.
struct CandidateSearch<'a> {
    store: &'a Store,
    request: &'a ClaimRequest<'a>,
    scan: ReadyScan<'a>,
    /// Permit slots assigned during this scan.
    slots: HashSet<PermitSlot>,
}

impl<'a> CandidateSearch<'a> {
    fn new(store: &'a Store, request: &'a ClaimRequest<'a>) -> Result<Self> {
        let scan = ReadyScan::new(store.kv(), store.round_robin())?;
        Ok(Self { store, request, scan, slots: HashSet::new() })
    }

    /// Returns the next jobs that can start, up to `limit`; empty if there are none.
    fn candidates(mut self, limit: usize) -> Result<Vec<(Lease, Changes)>> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(ClassHead { key: ready_key, queued }) = self.scan.next() else { break };
            match self.candidate(queued) {
                Ok(ClaimCandidate::Startable(started)) => {
                    let (lease, changes) = *started;
                    let lock = lease.lock.clone().map(|lock| (lease.job.instance.clone(), lock));
                    self.scan.accept(&ready_key, lock)?;
                    found.push((lease, changes));
                }
                Ok(ClaimCandidate::NeedsPermit) => {}
                Ok(ClaimCandidate::Missing) => self.scan.skip(&ready_key)?,
                // One damaged job must not block the others.
                Err(error @ (Error::Corrupt { .. } | Error::Invalid { .. })) => {
                    tracing::error!(%error, "skipped a waiting job that cannot be read");
                    self.scan.skip(&ready_key)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn candidate(&mut self, QueuedJob { job, entry }: QueuedJob) -> Result<ClaimCandidate> {
        let Some(document) = self.store.get(&job)? else { return Ok(ClaimCandidate::Missing) };
        let Some(slots) = self.free_slots(&(self.request.permits_of)(&job, &document))? else {
            return Ok(ClaimCandidate::NeedsPermit);
        };
        let record = view::read::<QueueRecord>(self.store.kv(), &key::of_document(Keyspace::Job, &job)?)?;
        let epoch = record.map_or(0, |record| record.epoch).saturating_add(1);
        let worker = self.request.worker.to_owned();
        self.slots.extend(slots.iter().cloned());
        let lease = Lease { job: job.clone(), epoch, worker, heartbeats: 0, lock: entry.lock.clone(), slots };
        let mut body = document.body;
        (self.request.on_start)(&mut body);
        let mut changes = Changes::new();
        changes.push(ChangeOp::Claim { lease: lease.clone(), entry });
        changes.put(job, &document.rev, body);
        Ok(ClaimCandidate::Startable(Box::new((lease, changes))))
    }

    /// Returns a free slot of each permit, `None` if a permit has no free slot.
    fn free_slots(&self, permits: &[JobPermit]) -> Result<Option<Vec<PermitSlot>>> {
        let mut slots = Vec::new();
        for JobPermit { name, limit } in permits {
            let mut free = None;
            for number in 0..*limit {
                let slot = PermitSlot { permit: name.clone(), number };
                let is_taken = self.slots.contains(&slot)
                    || view::read::<LockHolder>(self.store.kv(), &key::of_slot(name, number))?.is_some();
                if !is_taken {
                    free = Some(slot);
                    break;
                }
            }
            match free {
                Some(slot) => slots.push(slot),
                None => return Ok(None),
            }
        }
        Ok(Some(slots))
    }
}
