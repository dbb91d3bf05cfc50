//! Uninstallation. If users still have accounts for the konnector, the accounts are deleted first, and the konnector
//! cleans up after each at its vendor (Cozy API, konnectors, uninstall; §2.9).

use std::time::Duration;

use konnector_manifest::Slug;
use konnector_store::Changes;
use tokio::sync::oneshot;

use super::doc_ref;
use crate::doctype::JOBS;
use crate::handles::Konnectors;
use crate::instance::Instance;
use crate::job::{Job, JobStatus};
use crate::realtime::ChangeKind;
use crate::token::Principal;
use crate::trigger::Trigger;
use crate::{Error, Result};

/// Timeout for the clean-up of one account; afterwards the konnector is deleted anyway.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(600);
/// Interval of polling a job; normally an event reports its end, but not if it ended on another node.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Result of a request to delete a konnector.
#[derive(Debug)]
pub enum UninstallOutcome {
    /// The konnector is uninstalled.
    Uninstalled,
    /// The konnector had accounts, which are deleted first, then the konnector. Deletion continues when the receiver is
    /// dropped; the receiver gets no result when the server stops.
    CleaningUp(oneshot::Receiver<Result<()>>),
}

impl Konnectors {
    /// Uninstalls a konnector. Its accounts and their triggers are deleted first, in the background. If the konnector
    /// fails to clean up after one of them, it stays installed, unless `force` is set; deleting it again retries the
    /// clean-up.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not installed.
    pub async fn delete(&self, instance: &Instance, slug: &Slug, force: bool) -> Result<UninstallOutcome> {
        self.get(instance, slug)?;
        // Its own accounts, not those that a trigger names or that are shared with it.
        let accounts: Vec<String> = self
            .platform
            .accounts()
            .list(instance, Some(slug.as_ref()))?
            .into_iter()
            .map(|account| account.id)
            .collect();
        if accounts.is_empty() && self.platform.accounts().list_deleted(instance, Some(slug))?.is_empty() {
            self.uninstall(instance, slug).await?;
            return Ok(UninstallOutcome::Uninstalled);
        }
        let (platform, instance, slug) = (self.clone(), instance.clone(), slug.clone());
        let (sender, outcome) = oneshot::channel();
        self.platform.tasks().spawn(async move {
            let done = platform.clean_up_and_uninstall(&instance, &slug, &accounts, force).await;
            if let Err(error) = &done {
                tracing::error!(%slug, %error, "the konnector stays installed: cleaning up its accounts failed");
            }
            // Most clients do not wait for it.
            drop(sender.send(done));
        });
        Ok(UninstallOutcome::CleaningUp(outcome))
    }

    async fn clean_up_and_uninstall(
        &self,
        instance: &Instance,
        slug: &Slug,
        accounts: &[String],
        force: bool,
    ) -> Result<()> {
        // One attempt each. A failure leaves the konnector installed, so its owner can find the cause.
        for job in self.platform.accounts().clean_up(instance, accounts, Some(slug)).await? {
            match self.wait_for_clean_up(instance, &job).await {
                Err(error) if !force => return Err(error),
                _ => {}
            }
        }
        let copies = self.platform.accounts().list_deleted(instance, Some(slug))?;
        self.uninstall(instance, slug).await?;
        for id in copies.iter().map(|copy| &copy.id).chain(accounts) {
            let mut changes = Changes::new();
            self.platform.accounts().stage_purge_deleted(instance, id, &mut changes)?;
            self.platform.commit(changes).await?;
        }
        Ok(())
    }

    /// Waits for a job that cleans up after an account; a job that times out counts as done.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it fails, or the server stops.
    pub(crate) async fn wait_for_clean_up(&self, instance: &Instance, job: &Job) -> Result<()> {
        let mut events = self.platform.bus().subscribe(&instance.id);
        let ended = async {
            loop {
                let job = self.platform.jobs().get(instance, &job.id)?;
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
            () = self.platform.draining().cancelled() => Err(Error::Unavailable("the server is shutting down".to_owned())),
            ended = tokio::time::timeout(CLEAN_UP_TIMEOUT, ended) => ended.unwrap_or_else(|_| {
                tracing::warn!(job = job.id, "the konnector did not clean up in time; continuing without it");
                Ok(())
            }),
        }
    }

    /// Removes everything that acts for a konnector: triggers, waiting and running jobs, shares. Each may end on
    /// its own meanwhile.
    async fn revoke_access(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let ignore_missing = |done: Result<()>| match done {
            Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(()),
            done => done,
        };
        let is_affected = |trigger: &Trigger| {
            trigger.runs_konnector(slug.as_ref(), None) || trigger.created_by_konnector.as_ref() == Some(slug)
        };
        for trigger in self.platform.triggers().list(instance)?.into_iter().filter(is_affected) {
            ignore_missing(self.platform.triggers().delete(instance, &trigger.id).await)?;
        }
        for job in self.platform.jobs().list_live_of_konnector(instance, slug)? {
            ignore_missing(self.platform.jobs().cancel(instance, &job).await.map(drop))?;
        }
        self.platform.permissions().revoke_shares_by_source(instance, &Principal::konnector_source(slug)).await
    }

    async fn uninstall(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let found = self.get_stored(instance, slug)?;
        self.revoke_access(instance, slug).await?;
        // A program that is installed under this name later is a different one.
        self.platform.accounts().revoke_sharing(instance, slug).await?;
        let document = doc_ref(instance, slug);
        let mut changes = Changes::new();
        changes.delete(document.clone(), &found.rev);
        self.platform.permissions().stage_delete(instance, slug, &mut changes)?;
        self.platform.commit(changes).await?;
        // For anything that one of its runs created in the meantime.
        self.revoke_access(instance, slug).await?;
        self.platform.blob_sweeper().delete_blobs(found.value.blobs()).await;
        self.platform.publish(&document, ChangeKind::Deleted, &found.value);
        Ok(())
    }
}
