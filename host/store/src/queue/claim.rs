//! Claiming waiting jobs for a worker.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::future::join_all;

use super::{Holder, Lease, Queued, Standing};
use crate::Map;
use crate::changes::{Changes, Step};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Range, Space, Timeline};
use crate::store::Store;
use crate::view;

/// How many waiting jobs are looked at in one scan.
const PAGE: usize = 64;

/// Who claims what; see [`Store::claim`].
pub(crate) struct Claim<'a> {
    pub(crate) worker: &'a str,
    pub(crate) now: DateTime<Utc>,
    pub(crate) ttl: Duration,
    pub(crate) limit: usize,
    pub(crate) eligible: &'a (dyn Fn(&DocRef, &Document) -> bool + Send + Sync),
    pub(crate) started: &'a (dyn Fn(&mut Map) + Send + Sync),
}

/// Leases up to `limit` jobs, each in a commit of its own; those commits go to the disk together.
pub(crate) async fn claim(store: &Store, request: Claim<'_>) -> Result<Vec<Lease>> {
    let until = TimeDelta::from_std(request.ttl).ok().and_then(|ttl| request.now.checked_add_signed(ttl));
    let until = until.ok_or_else(|| Error::Invalid {
        field: "lease time",
        reason: format!("{:?} is beyond the calendar", request.ttl),
    })?;
    let mut search = Search {
        store,
        request: &request,
        until: until.trunc_subsecs(6),
        range: key::timeline(Timeline::Ready, Some(request.now)),
        locks: HashSet::new(),
    };
    let mut leases = Vec::new();
    while leases.len() < request.limit {
        let candidates = search.next(request.limit - leases.len())?;
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

/// A walk over the waiting jobs that are due.
struct Search<'a> {
    store: &'a Store,
    request: &'a Claim<'a>,
    until: DateTime<Utc>,
    range: Range,
    /// Locks found held or wanted by a candidate, so that each is looked up once.
    locks: HashSet<(InstanceId, String)>,
}

impl Search<'_> {
    /// The next jobs that can start, up to `limit`; empty at the end of the queue.
    fn next(&mut self, limit: usize) -> Result<Vec<(Lease, Changes)>> {
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.store.kv().scan(&self.range.from, &self.range.to, PAGE, false)?;
            if page.is_empty() {
                break;
            }
            for (place, entry) in page {
                if found.len() == limit {
                    break;
                }
                self.range.behind(&place);
                match view::decode(&place, &entry).and_then(|queued| self.candidate(queued)) {
                    Ok(candidate) => found.extend(candidate),
                    // One damaged job must not stop the others.
                    Err(error @ (Error::Corrupt { .. } | Error::Invalid { .. })) => {
                        tracing::error!(%error, "a waiting job cannot be read and is passed over");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    fn candidate(&mut self, queued: Queued) -> Result<Option<(Lease, Changes)>> {
        let Queued { job, run_at, lock } = queued;
        let wanted = lock.clone().map(|lock| (job.instance.clone(), lock));
        if let Some(wanted) = &wanted {
            if self.locks.contains(wanted) {
                return Ok(None);
            }
            if view::read::<Holder>(self.store.kv(), &key::of_lock(&wanted.0, &wanted.1))?.is_some() {
                self.locks.insert(wanted.clone());
                return Ok(None);
            }
        }
        let Some(document) = self.store.get(&job)? else { return Ok(None) };
        if !(self.request.eligible)(&job, &document) {
            return Ok(None);
        }
        let standing = view::read::<Standing>(self.store.kv(), &key::of_document(Space::Job, &job)?)?;
        let epoch = standing.map_or(0, |standing| standing.epoch).saturating_add(1);
        self.locks.extend(wanted);
        let lease = Lease { job: job.clone(), epoch, worker: self.request.worker.to_owned(), until: self.until, lock };
        let mut body = document.body;
        (self.request.started)(&mut body);
        let mut changes = Changes::new();
        changes.step(Step::Claim { lease: lease.clone(), run_at });
        changes.put(job, &document.rev, body);
        Ok(Some((lease, changes)))
    }
}
