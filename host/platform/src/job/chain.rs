//! Chains of retries. Work that is the same has one: while a retry of it waits, no other failure starts a second, and a success ends it.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, Rev};
use sha2::{Digest as _, Sha256};

use super::retry::Retry;
use super::step::JobEvent;
use super::{Job, JobStatus, KONNECTOR_WORKER, doc_ref, remove_from_live_index};
use crate::doctype::JOBS;
use crate::instance::Instance;
use crate::stored::{Stored, to_object};
use crate::{Platform, Result};

/// Index from a chain to the retry that waits or runs.
pub(super) const RETRY_BY_CHAIN: &str = "jobs.retry";

/// A retry that is there already.
pub(super) struct PendingRetry {
    job: Job,
    rev: Rev,
    /// From when on it may be claimed; `None` while it runs.
    run_at: Option<DateTime<Utc>>,
}

impl Job {
    /// The name of the work that it does: that of its trigger for its account, or for its konnector where it has none. Jobs without a trigger
    /// do the same when they are told the same. What a webhook or an event brought is done only by the job that has it.
    pub(super) fn chain_key(&self) -> Option<String> {
        if self.worker != KONNECTOR_WORKER || self.payload.has_content() {
            return None;
        }
        let subject = match (self.argument("account"), self.argument("konnector")) {
            (Some(account), _) => format!("account/{account}"),
            (None, slug) => format!("konnector/{}", slug.unwrap_or_default()),
        };
        Some(match &self.trigger_id {
            Some(trigger) => format!("{trigger}/{subject}"),
            None => format!("-/{subject}/{}", hex::encode(Sha256::digest(self.message.to_string()))),
        })
    }

    /// Its key in [`RETRY_BY_CHAIN`] until it has ended.
    pub(super) fn retry_index_key(&self) -> Option<String> {
        self.retry_of.as_ref().and_then(|_| self.chain_key())
    }
}

impl Platform {
    /// The retry of the same work that another job left.
    pub(super) fn pending_retry(&self, instance: &Instance, job: &Job) -> Result<Option<PendingRetry>> {
        let Some(chain) = job.chain_key() else { return Ok(None) };
        let found = self.store.lookup(&instance.id, RETRY_BY_CHAIN, &chain)?;
        let Some(id) = found.filter(|id| *id != job.id) else { return Ok(None) };
        let document = instance.doc(&JOBS, id);
        let Some(Stored { id, rev, value }) = self.load::<Job>(&document)? else { return Ok(None) };
        let run_at = self.store.get_queued(&document)?.map(|queued| queued.entry.run_at);
        Ok(Some(PendingRetry { job: Job { id, ..value }, rev, run_at }))
    }

    /// Has a job that failed wait for the retry that is there already, and returns when that is. A vendor that asks for more time gets it.
    pub(super) fn stage_join_retry(
        &self,
        instance: &Instance,
        job: &mut Job,
        pending: &PendingRetry,
        event: &JobEvent,
        changes: &mut Changes,
    ) -> Option<DateTime<Utc>> {
        let asked = match event {
            JobEvent::Ended(Some(verdict)) => match verdict.retry {
                Retry::BackOff { at_least } => chrono::TimeDelta::from_std(at_least).ok(),
                _ => None,
            },
            _ => None,
        };
        let mut run_at = pending.run_at;
        if let (Some(planned), Some(asked)) = (pending.run_at, asked) {
            let earliest = self.clock.now() + asked;
            if planned < earliest {
                changes
                    .enqueue(doc_ref(instance, &pending.job), self.job_queue_entry(instance, &pending.job, earliest));
                run_at = Some(earliest);
            }
        }
        job.retried_as = Some(pending.job.id.clone());
        job.next_attempt_at = run_at;
        run_at
    }

    /// Ends the retry of work that a job has done now. It ends well, for what it was to do is done.
    pub(super) fn stage_supersede_retry(
        &self,
        instance: &Instance,
        by: &Job,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<Option<Job>> {
        let pending = self.pending_retry(instance, by)?;
        // One that runs comes to its own end.
        let Some(PendingRetry { mut job, rev, .. }) = pending.filter(|pending| pending.run_at.is_some()) else {
            return Ok(None);
        };
        let at = doc_ref(instance, &job);
        changes.dequeue(&at);
        remove_from_live_index(instance, &job, changes);
        job.state = JobStatus::Done;
        job.finished_at = Some(now);
        job.superseded_by = Some(by.id.clone());
        job.payload.clear();
        changes.put(at, &rev, to_object(&job)?);
        Ok(Some(job))
    }
}

#[cfg(test)]
mod tests;
