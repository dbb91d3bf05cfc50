//! Retention of finished jobs.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use konnector_store::{BlobId, Changes};

use super::{BY_TRIGGER, Job, JobStatus, trigger_index_key};
use crate::Jobs;
use crate::{Error, Result};
use konnector_documents::doctype::JOBS;
use konnector_documents::instance::Instance;
use konnector_documents::stored::Stored;

/// How many finished jobs are retained, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRetention {
    /// Maximum number of jobs of each trigger; those without a trigger count as one group.
    pub max_per_trigger: usize,
    /// Maximum age of a finished job.
    pub max_age: Duration,
}

impl Default for JobRetention {
    fn default() -> Self {
        Self { max_per_trigger: 50, max_age: Duration::from_secs(90 * 24 * 3_600) }
    }
}

/// Number of jobs that are examined in one step.
const PAGE_SIZE: usize = 100;
/// Number of jobs of each state and worker that `purge` retains regardless of age (Cozy API, jobs, §5.8).
const PURGE_KEEP_COUNT: usize = 50;
/// How long a run may take before `clean` ends it (Cozy API, jobs, §5.8).
const CLEAN_TIMEOUT: TimeDelta = TimeDelta::hours(1);

impl Jobs {
    /// Removes the jobs that exceed [`crate::Config::job_retention`], with their logs, in small steps. The newest
    /// successful and the newest failed job of a trigger stay regardless of age. Returns the number of removed jobs.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn delete_old(&self) -> Result<usize> {
        let mut forgotten = 0;
        for instance in self.context.core.instances().list()? {
            let mut after: Option<String> = None;
            while let Some((key, _)) =
                self.context.core.store().lookup_prefix(&instance.id, BY_TRIGGER, "", after.as_deref(), 1)?.pop()
            {
                let group = key.split('/').next().unwrap_or_default().to_owned();
                forgotten += self.delete_old_of_trigger(&instance, &group).await?;
                // Sorts after all keys of this group.
                after = Some(format!("{group}/~"));
            }
        }
        Ok(forgotten)
    }

    async fn delete_old_of_trigger(&self, instance: &Instance, group: &str) -> Result<usize> {
        let JobRetention { max_per_trigger: per_trigger, max_age: age } = self.context.state.settings.job_retention;
        let oldest = cutoff(self.context.core.clock().now(), age);
        let (mut rank, mut forgotten, mut newest) = (0, 0, LatestByStatus::default());
        let mut after: Option<String> = None;
        loop {
            let page = self.context.core.store().lookup_prefix(
                &instance.id,
                BY_TRIGGER,
                &format!("{group}/"),
                after.as_deref(),
                PAGE_SIZE,
            )?;
            let Some((last, _)) = page.last() else { return Ok(forgotten) };
            after = Some(last.clone());
            let mut old = Vec::new();
            for (_, id) in page {
                let Some(job) = self.context.core.load::<Job>(&instance.doc(&JOBS, id))? else { continue };
                rank += 1;
                // A retry that never ran says nothing about the health of the trigger.
                let newest = job.value.superseded_by.is_none() && newest.is_latest(job.value.state);
                if has_ended(&job.value) && !newest && (rank > per_trigger || job.value.queued_at < oldest) {
                    old.push(job);
                }
            }
            forgotten += self.delete(instance, old).await?;
            tokio::task::yield_now().await;
        }
    }

    /// Removes finished jobs older than `age`, of some workers or all. The newest fifty of each worker and state stay.
    /// Returns the number of removed jobs.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn purge(&self, instance: &Instance, age: Duration, workers: &[String]) -> Result<usize> {
        let oldest = cutoff(self.context.core.clock().now(), age);
        let mut seen: HashMap<(String, JobStatus), usize> = HashMap::new();
        let (mut removed, mut last) = (0, None::<String>);
        loop {
            let page =
                self.context.core.store().page_backward(&instance.id, &JOBS, last.as_deref(), PAGE_SIZE)?.documents;
            let Some(end) = page.last() else { return Ok(removed) };
            last = Some(end.id.clone());
            let mut old = Vec::new();
            for document in page {
                let job: Stored<Job> = Stored::from_document(&JOBS, document)?;
                if !has_ended(&job.value) || !(workers.is_empty() || workers.contains(&job.value.worker)) {
                    continue;
                }
                let count = seen.entry((job.value.worker.clone(), job.value.state)).or_default();
                *count += 1;
                if *count > PURGE_KEEP_COUNT && job.value.queued_at < oldest {
                    old.push(job);
                }
            }
            removed += self.delete(instance, old).await?;
            tokio::task::yield_now().await;
        }
    }

    /// Ends the runs that have taken more than an hour. Returns their number.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn clean(&self, instance: &Instance) -> Result<usize> {
        let since = self.context.core.clock().now() - CLEAN_TIMEOUT;
        let mut cleaned = 0;
        for lease in self.context.core.store().leases()?.into_iter().filter(|lease| lease.job.instance == instance.id) {
            let job = match self.get(instance, &lease.job.id) {
                Err(Error::NotFound(_)) => continue,
                job => job?,
            };
            if job.state == JobStatus::Running && job.started_at.is_some_and(|started| started < since) {
                match self.cancel(instance, &job.id).await {
                    Ok(_) => cleaned += 1,
                    // The run ended concurrently.
                    Err(Error::Conflict(_) | Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(cleaned)
    }

    /// Removes all of these jobs in one commit. If one was changed concurrently, removes each separately and leaves the
    /// changed one for the next time.
    async fn delete(&self, instance: &Instance, jobs: Vec<Stored<Job>>) -> Result<usize> {
        match self.delete_atomically(instance, &jobs).await {
            Err(Error::Conflict(_)) => {}
            removed => return removed.map(|()| jobs.len()),
        }
        let mut removed = 0;
        for job in jobs.chunks(1) {
            match self.delete_atomically(instance, job).await {
                Ok(()) => removed += 1,
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    async fn delete_atomically(&self, instance: &Instance, jobs: &[Stored<Job>]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::new();
        let mut logs: Vec<BlobId> = Vec::new();
        for Stored { id, rev, value } in jobs {
            let job = Job { id: id.clone(), ..value.clone() };
            changes.remove_unique(&instance.id, BY_TRIGGER, trigger_index_key(&job));
            changes.purge(super::doc_ref(instance, &job), rev);
            logs.extend(job.log);
        }
        self.context.core.commit(changes).await?;
        self.context.core.delete_blobs(logs).await;
        Ok(())
    }
}

/// Whether the newest successful job and the newest failed job have been seen.
#[derive(Default)]
struct LatestByStatus {
    done: bool,
    errored: bool,
}

impl LatestByStatus {
    /// Returns whether this is the first job of its state.
    const fn is_latest(&mut self, state: JobStatus) -> bool {
        let has_seen = match state {
            JobStatus::Done => &mut self.done,
            JobStatus::Errored => &mut self.errored,
            JobStatus::Queued | JobStatus::Running => return false,
        };
        !std::mem::replace(has_seen, true)
    }
}

const fn has_ended(job: &Job) -> bool {
    matches!(job.state, JobStatus::Done | JobStatus::Errored)
}

fn cutoff(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}
