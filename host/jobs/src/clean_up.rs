//! Clean-up after deleted accounts: the konnector of an account may have to clean up at the vendor, in a job of its own
//! (Cozy API, accounts, deletion, §7.3).

use std::time::Duration;

use konnector_accounts::SOFT_DELETED_REV_FIELD;
use konnector_documents::doctype::{ACCOUNTS, JOBS};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_manifest::Slug;
use konnector_store::{Changes, Document};
use serde_json::{Value, json};

use crate::job::{Cause, Job, JobOptions, JobRequest, JobStatus, KONNECTOR_WORKER, TriggerPayload};
use crate::{Error, Jobs, Result};

/// Timeout for the clean-up of one account; afterwards the konnector counts as done.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(600);
/// Interval of polling a job; normally an event reports its end, but not if it ended on another node.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Builds the job in which a konnector cleans up after an account.
fn clean_up_request(account: &str, rev: &Value, slug: &Slug) -> JobRequest {
    JobRequest {
        worker: KONNECTOR_WORKER.to_owned(),
        message: json!({ "account": account, "account_rev": rev, "konnector": slug, "account_deleted": true }),
        options: None,
        cause: Cause::AccountDeleted,
        trigger: None,
        payload: TriggerPayload::default(),
    }
}

impl Jobs {
    /// Adds to the deletion of an account the job that cleans up at the vendor, and the copy that it needs. Returns
    /// `None` if there is nothing to clean up.
    pub(crate) fn stage_clean_up(
        &self,
        instance: &Instance,
        account: &Document,
        options: Option<JobOptions>,
        changes: &mut Changes,
    ) -> Result<Option<Job>> {
        let Some(slug) = self.context.accounts().stage_deleted_copy(instance, account, changes)? else {
            return Ok(None);
        };
        let request = JobRequest { options, ..clean_up_request(&account.id, &json!(account.rev), &slug) };
        self.stage(instance, request, self.context.core.clock().now(), changes).map(Some)
    }

    /// Deletes accounts and returns the jobs that clean up after them. Also cleans up now, for one konnector or for
    /// all, after accounts that were deleted earlier.
    pub async fn clean_up_accounts(
        &self,
        instance: &Instance,
        accounts: &[String],
        of: Option<&Slug>,
    ) -> Result<Vec<Job>> {
        let mut jobs = self.cancel_retries_and_list_clean_ups(instance, of).await?;
        for id in accounts {
            jobs.extend(self.delete_account(instance, id, Some(JobOptions::ONCE)).await?);
        }
        for copy in self.context.accounts().list_deleted(instance, of)? {
            if jobs.iter().any(|job| job.argument("account") == Some(copy.id.as_str())) {
                continue;
            }
            let Some(slug) = self.context.accounts().clean_up_konnector(instance, &copy.body)? else { continue };
            let rev = copy.body.get(SOFT_DELETED_REV_FIELD).unwrap_or(&Value::Null);
            let request = JobRequest { options: Some(JobOptions::ONCE), ..clean_up_request(&copy.id, rev, &slug) };
            let mut changes = Changes::new();
            let job = self.stage(instance, request, self.context.core.clock().now(), &mut changes)?;
            self.context.core.commit(changes).await?;
            self.notify_clean_up_job(instance, Some(&job))?;
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Returns the jobs that are currently cleaning up. Cancels jobs that would retry hours later, because the caller
    /// is waiting now.
    async fn cancel_retries_and_list_clean_ups(&self, instance: &Instance, of: Option<&Slug>) -> Result<Vec<Job>> {
        let concerned = |job: &Job| of.is_none_or(|slug| job.argument("konnector") == Some(slug.as_ref()));
        let mut jobs = self.list_live(instance, KONNECTOR_WORKER)?;
        jobs.retain(|job| job.is_clean_up() && concerned(job));
        let put_off = jobs.extract_if(.., |job| job.retry_of.is_some() && job.state == JobStatus::Queued);
        for job in put_off.collect::<Vec<_>>() {
            match self.cancel(instance, &job.id).await {
                Ok(_) | Err(Error::NotFound(_) | Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(jobs)
    }

    /// Deletes an account with its triggers on behalf of the platform; returns the job that cleans up.
    pub async fn delete_account(
        &self,
        instance: &Instance,
        id: &str,
        options: Option<JobOptions>,
    ) -> Result<Option<Job>> {
        self.context.triggers().delete_of_account(instance, id).await?;
        let at = instance.doc(&ACCOUNTS, id);
        let Some(account) = self.context.core.store().get(&at)? else { return Ok(None) };
        let mut changes = Changes::new();
        changes.delete(at.clone(), &account.rev);
        let job = self.stage_clean_up(instance, &account, options, &mut changes)?;
        self.context.core.commit(changes).await?;
        self.context.core.publish(&at, ChangeKind::Deleted, account.body);
        self.notify_clean_up_job(instance, job.as_ref())?;
        Ok(job)
    }

    /// Announces a job that was staged with the deletion of an account, once that is committed.
    pub(crate) fn notify_clean_up_job(&self, instance: &Instance, job: Option<&Job>) -> Result<()> {
        if let Some(job) = job {
            self.context.core.publish(&instance.doc(&JOBS, job.id.as_str()), ChangeKind::Created, job);
            self.context.wake_workers();
        }
        Ok(())
    }

    /// Waits for a job that cleans up after an account; a job that times out counts as done.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it fails, or the server stops.
    pub async fn wait_for_clean_up(&self, instance: &Instance, job: &Job) -> Result<()> {
        let mut events = self.context.core.bus().subscribe(&instance.id);
        let ended = async {
            loop {
                let job = self.get(instance, &job.id)?;
                match job.state {
                    JobStatus::Done => return Ok(()),
                    JobStatus::Errored => {
                        let reason = job.error_message.unwrap_or_default();
                        let reason = reason.trim_end_matches('.');
                        return Err(Error::Unavailable(format!("the clean-up failed (job {}): {reason}", job.id)));
                    }
                    JobStatus::Queued | JobStatus::Running => {
                        let changed = async {
                            // Missed events leave the state unknown, so the job is read again.
                            while events.recv().await.is_ok_and(|event| event.doctype != *JOBS || event.id != job.id) {}
                        };
                        // Both are reasons to read the job again.
                        let _ = tokio::time::timeout(RECHECK_INTERVAL, changed).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.context.core.draining().cancelled() => Err(Error::Unavailable("the server is shutting down".to_owned())),
            ended = tokio::time::timeout(CLEAN_UP_TIMEOUT, ended) => ended.unwrap_or_else(|_| {
                tracing::warn!(job = job.id, "the konnector did not clean up in time; continuing without it");
                Ok(())
            }),
        }
    }
}
