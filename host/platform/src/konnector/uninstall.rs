//! Uninstalling. Where people still have accounts for the konnector, they are deleted first, and the konnector cleans up after each at its vendor
//! (Cozy API, konnectors, uninstall; §2.9).

use std::time::Duration;

use konnector_manifest::Slug;
use konnector_store::Changes;
use tokio::sync::oneshot;

use super::at;
use crate::doctype::JOBS;
use crate::instance::Instance;
use crate::job::{Job, State};
use crate::realtime::Happened;
use crate::token::Principal;
use crate::trigger::Trigger;
use crate::{Error, Platform, Result};

/// How long one account's cleaning is waited for; afterwards the konnector goes all the same.
const PATIENCE: Duration = Duration::from_secs(600);
/// A job's end is heard of; this is for one that ended on another node.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What became of a request to delete a konnector.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone.
    Now,
    /// It had accounts: they are deleted first, then it goes. Deleting goes on when this is dropped; when the server stops, nothing comes.
    AfterItsAccounts(oneshot::Receiver<Result<()>>),
}

impl Platform {
    /// Uninstalls a konnector. Where people have accounts for it, they and their triggers are deleted first, in the background; if the konnector
    /// fails to clean up after one of them, it stays installed, unless `force` is set; whoever deletes it again has it try again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is not installed.
    pub async fn delete_konnector(&self, instance: &Instance, slug: &Slug, force: bool) -> Result<Deleted> {
        self.konnector(instance, slug)?;
        // Its own, and not those that a trigger names or that are shared with it.
        let accounts: Vec<String> =
            self.accounts(instance, Some(slug.as_ref()))?.into_iter().map(|account| account.id).collect();
        if accounts.is_empty() && self.copies(instance, Some(slug))?.is_empty() {
            self.uninstall(instance, slug).await?;
            return Ok(Deleted::Now);
        }
        let (platform, instance, slug) = (self.clone(), instance.clone(), slug.clone());
        let (sender, outcome) = oneshot::channel();
        self.tasks().spawn(async move {
            let done = platform.clean_and_uninstall(&instance, &slug, &accounts, force).await;
            if let Err(error) = &done {
                tracing::error!(%slug, %error, "the konnector stays installed: its accounts could not be cleaned");
            }
            // Most clients do not wait for it.
            drop(sender.send(done));
        });
        Ok(Deleted::AfterItsAccounts(outcome))
    }

    async fn clean_and_uninstall(
        &self,
        instance: &Instance,
        slug: &Slug,
        accounts: &[String],
        force: bool,
    ) -> Result<()> {
        // Each once: what failed keeps the konnector, so that its owner can look at why.
        for job in self.clean_up(instance, accounts, Some(slug)).await? {
            match self.wait_for_clean_up(instance, &job).await {
                Err(error) if !force => return Err(error),
                _ => {}
            }
        }
        let copies = self.copies(instance, Some(slug))?;
        self.uninstall(instance, slug).await?;
        for id in copies.iter().map(|copy| &copy.id).chain(accounts) {
            let mut changes = Changes::new();
            self.stage_account_gone(instance, id, &mut changes)?;
            self.commit(changes).await?;
        }
        Ok(())
    }

    /// Waits for a job that cleans up after an account; one that takes too long counts as done.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it fails, or the server stops.
    pub(crate) async fn wait_for_clean_up(&self, instance: &Instance, job: &Job) -> Result<()> {
        let mut events = self.bus.subscribe(&instance.id);
        let ended = async {
            loop {
                let job = self.job(instance, &job.id)?;
                match job.state {
                    State::Done => return Ok(()),
                    State::Errored => {
                        let reason = job.error_message.unwrap_or_default();
                        let reason = reason.trim_end_matches('.');
                        return Err(Error::Unavailable(format!("the job {} that cleans up failed: {reason}", job.id)));
                    }
                    State::Queued | State::Running => {
                        let changed = async {
                            // After missed events nobody knows, so the job is looked at.
                            while events.recv().await.is_ok_and(|event| event.doctype != *JOBS || event.id != job.id) {}
                        };
                        // Both are good reasons to look again.
                        let _ = tokio::time::timeout(RECHECK_INTERVAL, changed).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.stopping().cancelled() => Err(Error::Unavailable("the server stops".to_owned())),
            ended = tokio::time::timeout(PATIENCE, ended) => ended.unwrap_or_else(|_| {
                tracing::warn!(job = job.id, "the konnector did not clean up in time; it is not waited for any longer");
                Ok(())
            }),
        }
    }

    /// Ends what a konnector made and what is planned for it: triggers, jobs that wait or run, shares. Each may end by itself meanwhile.
    async fn end_reach(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let gone = |done: Result<()>| match done {
            Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(()),
            done => done,
        };
        let concerned = |trigger: &Trigger| trigger.runs(slug.as_ref(), None) || trigger.made_by.as_ref() == Some(slug);
        for trigger in self.triggers(instance)?.into_iter().filter(concerned) {
            gone(self.delete_trigger(instance, &trigger.id).await)?;
        }
        for job in self.live_jobs_of_konnector(instance, slug)? {
            gone(self.cancel_job(instance, &job).await.map(drop))?;
        }
        self.revoke_shares_of(instance, &Principal::source_of_konnector(slug)).await
    }

    async fn uninstall(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let found = self.stored_konnector(instance, slug)?;
        self.end_reach(instance, slug).await?;
        // Whatever is installed under this name later is another program.
        self.end_sharing(instance, slug).await?;
        let at = at(instance, slug);
        let mut changes = Changes::new();
        changes.delete(at.clone(), &found.rev);
        self.stage_no_permissions(instance, slug, &mut changes)?;
        self.commit(changes).await?;
        // What a run of it made while all this went on.
        self.end_reach(instance, slug).await?;
        self.discard(found.value.contents()).await;
        self.publish(&at, Happened::Deleted, &found.value);
        Ok(())
    }
}
