//! Claiming waiting jobs for a worker.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use super::turn::{Head, Walk};
use super::{Holder, Lease, Permit, Queued, Slot, Standing};
use crate::Map;
use crate::changes::{Changes, Step};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::id::DocRef;
use crate::key::{self, Space};
use crate::store::Store;
use crate::view;

/// How many jobs whose time has come are moved to the ready ones in one commit.
const PAGE: usize = 256;

/// Who claims what; see [`Store::claim`].
pub(crate) struct Claim<'a> {
    pub(crate) worker: &'a str,
    pub(crate) now: DateTime<Utc>,
    pub(crate) limit: usize,
    pub(crate) needs: &'a (dyn Fn(&DocRef, &Document) -> Vec<Permit> + Send + Sync),
    pub(crate) started: &'a (dyn Fn(&mut Map) + Send + Sync),
}

/// Leases up to `limit` jobs, each in a commit of its own; those commits go to the disk together.
pub(crate) async fn claim(store: &Store, request: Claim<'_>) -> Result<Vec<Lease>> {
    if request.limit == 0 {
        return Ok(Vec::new());
    }
    promote(store, request.now).await?;
    let mut leases = Vec::new();
    while leases.len() < request.limit {
        let candidates = Search::new(store, &request)?.candidates(request.limit - leases.len())?;
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
        // Leases already taken must reach the worker; what failed will fail again at its next call.
        match failure {
            Some(error) if leases.is_empty() => return Err(error),
            Some(_) => break,
            None => {}
        }
    }
    Ok(leases)
}

/// Moves the jobs whose time has come to the ready ones.
async fn promote(store: &Store, now: DateTime<Utc>) -> Result<()> {
    loop {
        let due = super::later(store.kv(), Some(now), PAGE)?;
        if due.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::new();
        for queued in &due {
            changes.step(Step::Promote { queued: queued.clone() });
        }
        match store.commit(changes).await {
            Ok(_) if due.len() < PAGE => return Ok(()),
            Ok(_) => {}
            // One damaged or vanished job must not stop the others.
            Err(Error::Corrupt { .. } | Error::Invalid { .. } | Error::NotFound { .. }) => {
                return promote_one_by_one(store, due).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn promote_one_by_one(store: &Store, due: Vec<Queued>) -> Result<()> {
    for queued in due {
        let mut changes = Changes::new();
        changes.step(Step::Promote { queued });
        match store.commit(changes).await {
            Err(error @ (Error::Corrupt { .. } | Error::Invalid { .. } | Error::NotFound { .. })) => {
                tracing::error!(%error, "a waiting job cannot be read and is passed over");
            }
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// Whether a job can start.
enum Start {
    Now(Box<(Lease, Changes)>),
    /// No job of its class can.
    NeedsPermit,
    Gone,
}

/// A walk over the ready jobs that finds what each needs.
struct Search<'a> {
    store: &'a Store,
    request: &'a Claim<'a>,
    walk: Walk<'a>,
    /// Places of permits given away by this walk.
    slots: HashSet<Slot>,
}

impl<'a> Search<'a> {
    fn new(store: &'a Store, request: &'a Claim<'a>) -> Result<Self> {
        let walk = Walk::new(store.kv(), store.turns())?;
        Ok(Self { store, request, walk, slots: HashSet::new() })
    }

    /// The next jobs that can start, up to `limit`; empty when there are none.
    fn candidates(mut self, limit: usize) -> Result<Vec<(Lease, Changes)>> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(Head { place, queued }) = self.walk.next() else { break };
            match self.candidate(queued) {
                Ok(Start::Now(started)) => {
                    let (lease, changes) = *started;
                    let lock = lease.lock.clone().map(|lock| (lease.job.instance.clone(), lock));
                    self.walk.take(&place, lock)?;
                    found.push((lease, changes));
                }
                Ok(Start::NeedsPermit) => {}
                Ok(Start::Gone) => self.walk.skip(&place)?,
                // One damaged job must not stop the others.
                Err(error @ (Error::Corrupt { .. } | Error::Invalid { .. })) => {
                    tracing::error!(%error, "a waiting job cannot be read and is passed over");
                    self.walk.skip(&place)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn candidate(&mut self, Queued { job, turn }: Queued) -> Result<Start> {
        let Some(document) = self.store.get(&job)? else { return Ok(Start::Gone) };
        let Some(slots) = self.slots_for(&(self.request.needs)(&job, &document))? else {
            return Ok(Start::NeedsPermit);
        };
        let standing = view::read::<Standing>(self.store.kv(), &key::of_document(Space::Job, &job)?)?;
        let epoch = standing.map_or(0, |standing| standing.epoch).saturating_add(1);
        let worker = self.request.worker.to_owned();
        self.slots.extend(slots.iter().cloned());
        let lease = Lease { job: job.clone(), epoch, worker, beats: 0, lock: turn.lock.clone(), slots };
        let mut body = document.body;
        (self.request.started)(&mut body);
        let mut changes = Changes::new();
        changes.step(Step::Claim { lease: lease.clone(), turn });
        changes.put(job, &document.rev, body);
        Ok(Start::Now(Box::new((lease, changes))))
    }

    /// A free place of each permit, `None` when one has none.
    fn slots_for(&self, permits: &[Permit]) -> Result<Option<Vec<Slot>>> {
        let mut slots = Vec::new();
        for Permit { name, limit } in permits {
            let mut free = None;
            for number in 0..*limit {
                let slot = Slot { permit: name.clone(), number };
                let taken = self.slots.contains(&slot)
                    || view::read::<Holder>(self.store.kv(), &key::of_slot(name, number))?.is_some();
                if !taken {
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
