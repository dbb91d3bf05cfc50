//! Deletion of an account (Cozy API, accounts, deletion, §7.3). Its konnector may have to clean up at the vendor, and
//! still needs to log in for that, so a copy of the account outlives it until the konnector has cleaned up. Without a
//! konnector that cleans up there is no copy, because no account data is stored without a use.

use konnector_manifest::Slug;
use konnector_store::{Changes, DocRef, Document};
use serde_json::{Value, json};

use super::Account;
use crate::doctype::{ACCOUNTS, DELETED_ACCOUNTS, JOBS};
use crate::handles::Accounts;
use crate::instance::Instance;
use crate::job::{Cause, Job, JobOptions, JobRequest, JobStatus, KONNECTOR_WORKER, TriggerPayload};
use crate::realtime::ChangeKind;
use crate::stored::Object;
use crate::{Error, Result};

/// Field of the copy for the revision that the account had.
const SOFT_DELETED_REV_FIELD: &str = "soft_deleted_rev";
/// Field of an account whose client cleans up itself.
const MANUAL_CLEANING_FIELD: &str = "manual_cleaning";

fn deleted_account_ref(instance: &Instance, id: &str) -> DocRef {
    instance.doc(&DELETED_ACCOUNTS, id)
}

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

impl Accounts {
    /// Adds to the deletion of an account the job that cleans up at the vendor, and the copy that it needs. Returns
    /// `None` if there is nothing to clean up.
    pub(crate) fn stage_clean_up(
        &self,
        instance: &Instance,
        account: &Document,
        options: Option<JobOptions>,
        changes: &mut Changes,
    ) -> Result<Option<Job>> {
        let Document { id, rev, body } = account;
        let Some(slug) = self.clean_up_konnector(instance, body)? else { return Ok(None) };
        let mut copy = body.clone();
        copy.insert(SOFT_DELETED_REV_FIELD.to_owned(), json!(rev));
        match self.platform.store().get(&deleted_account_ref(instance, id))? {
            Some(earlier) => changes.put(deleted_account_ref(instance, id), &earlier.rev, copy),
            None => changes.create(deleted_account_ref(instance, id), copy),
        };
        let request = JobRequest { options, ..clean_up_request(id, &json!(rev), &slug) };
        self.platform.jobs().stage(instance, request, self.platform.clock().now(), changes).map(Some)
    }

    /// Returns the accounts after which a konnector cleans up.
    pub(crate) fn accounts_to_clean(&self, instance: &Instance) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for account in self.list(instance, None)? {
            if self.clean_up_konnector(instance, &account.body)?.is_some() {
                ids.push(account.id);
            }
        }
        Ok(ids)
    }

    /// Deletes accounts and returns the jobs that clean up after them. Also cleans up now, for one konnector or for
    /// all, after accounts that were deleted earlier.
    pub(crate) async fn clean_up(
        &self,
        instance: &Instance,
        accounts: &[String],
        of: Option<&Slug>,
    ) -> Result<Vec<Job>> {
        let mut jobs = self.cancel_retries_and_list_clean_ups(instance, of).await?;
        for id in accounts {
            jobs.extend(self.delete(instance, id, Some(JobOptions::ONCE)).await?);
        }
        for copy in self.list_deleted(instance, of)? {
            if jobs.iter().any(|job| job.argument("account") == Some(copy.id.as_str())) {
                continue;
            }
            let Some(slug) = self.clean_up_konnector(instance, &copy.body)? else { continue };
            let rev = copy.body.get(SOFT_DELETED_REV_FIELD).unwrap_or(&Value::Null);
            let request = JobRequest { options: Some(JobOptions::ONCE), ..clean_up_request(&copy.id, rev, &slug) };
            let mut changes = Changes::new();
            let job = self.platform.jobs().stage(instance, request, self.platform.clock().now(), &mut changes)?;
            self.platform.commit(changes).await?;
            self.notify_clean_up_job(instance, Some(&job))?;
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Returns the jobs that are currently cleaning up. Cancels jobs that would retry hours later, because the caller
    /// is waiting now.
    async fn cancel_retries_and_list_clean_ups(&self, instance: &Instance, of: Option<&Slug>) -> Result<Vec<Job>> {
        let concerned = |job: &Job| of.is_none_or(|slug| job.argument("konnector") == Some(slug.as_ref()));
        let mut jobs = self.platform.jobs().list_live(instance, KONNECTOR_WORKER)?;
        jobs.retain(|job| job.is_clean_up() && concerned(job));
        let put_off = jobs.extract_if(.., |job| job.retry_of.is_some() && job.state == JobStatus::Queued);
        for job in put_off.collect::<Vec<_>>() {
            match self.platform.jobs().cancel(instance, &job.id).await {
                Ok(_) | Err(Error::NotFound(_) | Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(jobs)
    }

    /// Returns the copies of deleted accounts that wait for this konnector, or for any konnector, to clean up.
    pub(crate) fn list_deleted(&self, instance: &Instance, of: Option<&Slug>) -> Result<Vec<Document>> {
        let mut copies = self.platform.store().list(&instance.id, &DELETED_ACCOUNTS, None, usize::MAX)?;
        if let Some(slug) = of {
            copies.retain(|copy| copy.body.get("account_type").and_then(Value::as_str) == Some(slug.as_ref()));
        }
        Ok(copies)
    }

    /// Returns the konnector of an account if it cleans up after it.
    fn clean_up_konnector(&self, instance: &Instance, account: &Object) -> Result<Option<Slug>> {
        if account.get(MANUAL_CLEANING_FIELD) == Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let slug = account.get("account_type").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
        let Some(slug) = slug else { return Ok(None) };
        match self.platform.konnectors().get(instance, &slug) {
            Ok(konnector) => Ok(konnector.manifest()?.on_delete_account.map(|_| slug)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes an account with its triggers on behalf of the platform; returns the job that cleans up.
    pub(crate) async fn delete(
        &self,
        instance: &Instance,
        id: &str,
        options: Option<JobOptions>,
    ) -> Result<Option<Job>> {
        self.platform.triggers().delete_of_account(instance, id).await?;
        let at = instance.doc(&ACCOUNTS, id);
        let Some(account) = self.platform.store().get(&at)? else { return Ok(None) };
        let mut changes = Changes::new();
        changes.delete(at.clone(), &account.rev);
        let job = self.stage_clean_up(instance, &account, options, &mut changes)?;
        self.platform.commit(changes).await?;
        self.platform.publish(&at, ChangeKind::Deleted, account.body);
        self.notify_clean_up_job(instance, job.as_ref())?;
        Ok(job)
    }

    /// Announces a job that was staged with the deletion of an account, once that is committed.
    pub(crate) fn notify_clean_up_job(&self, instance: &Instance, job: Option<&Job>) -> Result<()> {
        if let Some(job) = job {
            self.platform.publish(&instance.doc(&JOBS, job.id.as_str()), ChangeKind::Created, job);
            self.platform.wake_workers();
        }
        Ok(())
    }

    /// Returns a deleted account whose konnector has not cleaned up yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no deleted account has this id.
    pub(crate) fn get_deleted(&self, instance: &Instance, id: &str) -> Result<Account> {
        let not_found = || Error::NotFound(format!("there is no deleted account '{id}'"));
        let Document { id, mut body, .. } =
            self.platform.store().get(&deleted_account_ref(instance, id))?.ok_or_else(not_found)?;
        let unreadable = || Error::CorruptDocument {
            document: format!("{}/{id}", *DELETED_ACCOUNTS),
            message: "it has no revision".to_owned(),
        };
        let rev =
            body.shift_remove(SOFT_DELETED_REV_FIELD).as_ref().and_then(Value::as_str).and_then(|rev| rev.parse().ok());
        Ok(Account { rev: rev.ok_or_else(unreadable)?, id, body })
    }

    /// Adds to `changes` the removal of the copy of a deleted account that is no longer needed.
    pub(crate) fn stage_purge_deleted(&self, instance: &Instance, id: &str, changes: &mut Changes) -> Result<()> {
        if let Some(copy) = self.platform.store().get(&deleted_account_ref(instance, id))? {
            changes.purge(deleted_account_ref(instance, id), &copy.rev);
        }
        Ok(())
    }
}
