//! Chains of retries. Jobs that do the same work share a chain: while one retry waits, another failure does not start a
//! second, and a success ends it.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, Rev};
use sha2::{Digest as _, Sha256};

use super::retry::Retry;
use super::step::JobEvent;
use super::{Job, JobStatus, KONNECTOR_WORKER, doc_ref, remove_from_live_index};
use crate::Jobs;
use crate::Result;
use konnector_documents::doctype::JOBS;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Stored, to_object};

/// Index from a chain to its waiting or running retry.
pub(super) const RETRY_BY_CHAIN: &str = "jobs.retry";

/// Retry of a chain that waits or runs, as read from the store.
pub(super) struct PendingRetry {
    job: Job,
    rev: Rev,
    /// Time from which it may be claimed; `None` while it runs.
    run_at: Option<DateTime<Utc>>,
}

impl Job {
    /// Returns the key of the job's work: trigger and account, or trigger and konnector if the job has no account. Jobs
    /// without a trigger do the same work if they have the same message. The payload of a webhook or an event is
    /// handled only by its own job.
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

    /// Returns the key of a retry in [`RETRY_BY_CHAIN`] until the retry has ended.
    pub(super) fn retry_index_key(&self) -> Option<String> {
        self.retry_of.as_ref().and_then(|_| self.chain_key())
    }
}

impl Jobs {
    /// Returns the pending retry that another job for the same work left.
    pub(super) fn pending_retry(&self, instance: &Instance, job: &Job) -> Result<Option<PendingRetry>> {
        let Some(chain) = job.chain_key() else { return Ok(None) };
        let found = self.context.core.store().lookup(&instance.id, RETRY_BY_CHAIN, &chain)?;
        let Some(id) = found.filter(|id| *id != job.id) else { return Ok(None) };
        let document = instance.doc(&JOBS, id);
        let Some(Stored { id, rev, value }) = self.context.core.load::<Job>(&document)? else { return Ok(None) };
        let run_at = self.context.core.store().get_queued(&document)?.map(|queued| queued.entry.run_at);
        Ok(Some(PendingRetry { job: Job { id, ..value }, rev, run_at }))
    }

    /// Makes a failed job wait for an existing retry, and returns the time of that retry. The retry is postponed if the
    /// vendor asks for more time.
    pub(super) fn stage_join_retry(
        &self,
        instance: &Instance,
        job: &mut Job,
        pending: &PendingRetry,
        event: &JobEvent,
        changes: &mut Changes,
    ) -> Option<DateTime<Utc>> {
        let requested_delay = match event {
            JobEvent::Ended(Some(verdict)) => match verdict.retry {
                Retry::BackOff { at_least } => chrono::TimeDelta::from_std(at_least).ok(),
                _ => None,
            },
            _ => None,
        };
        let mut run_at = pending.run_at;
        if let (Some(planned), Some(requested_delay)) = (pending.run_at, requested_delay) {
            let earliest = self.context.core.clock().now() + requested_delay;
            if planned < earliest {
                changes.enqueue(doc_ref(instance, &pending.job), self.queue_entry(instance, &pending.job, earliest));
                run_at = Some(earliest);
            }
        }
        job.retried_as = Some(pending.job.id.clone());
        job.next_attempt_at = run_at;
        run_at
    }

    /// Ends the retry of work that a job has just done. The retry ends as done, because its work is done.
    pub(super) fn stage_supersede_retry(
        &self,
        instance: &Instance,
        by: &Job,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<Option<Job>> {
        let pending = self.pending_retry(instance, by)?;
        // A running retry is left alone, because it ends the chain itself.
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
