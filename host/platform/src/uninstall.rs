//! Uninstallation. If users still have accounts for the konnector, the accounts are deleted first, and the konnector
//! cleans up after each at its vendor (Cozy API, konnectors, uninstall; §2.9).

use konnector_manifest::Slug;
use konnector_store::Changes;
use tokio::sync::oneshot;

use konnector_documents::instance::Instance;
use konnector_documents::principal::Principal;
use konnector_documents::realtime::ChangeKind;
use konnector_jobs::trigger::Trigger;
use konnector_packages::doc_ref;

use crate::{Error, Platform, Result};
use tracing::Instrument as _;

/// Result of a request to delete a konnector.
#[derive(Debug)]
pub enum UninstallOutcome {
    /// The konnector is uninstalled.
    Uninstalled,
    /// The konnector had accounts, which are deleted first, then the konnector. Deletion continues when the receiver is
    /// dropped; the receiver gets no result when the server stops.
    CleaningUp(oneshot::Receiver<Result<()>>),
}

impl Platform {
    /// Uninstalls a konnector. Its accounts and their triggers are deleted first, in the background. If the konnector
    /// fails to clean up after one of them, it stays installed, unless `force` is set; deleting it again retries the
    /// clean-up.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not installed.
    pub async fn uninstall_konnector(&self, instance: &Instance, slug: &Slug, force: bool) -> Result<UninstallOutcome> {
        self.konnectors().get(instance, slug)?;
        // Its own accounts, not those that a trigger names or that are shared with it.
        let accounts: Vec<String> =
            self.accounts().list(instance, Some(slug.as_ref()))?.into_iter().map(|account| account.id).collect();
        if accounts.is_empty() && self.accounts().list_deleted(instance, Some(slug))?.is_empty() {
            self.uninstall(instance, slug).await?;
            return Ok(UninstallOutcome::Uninstalled);
        }
        let (platform, instance, slug) = (self.clone(), instance.clone(), slug.clone());
        let (sender, outcome) = oneshot::channel();
        self.core().tasks().spawn(
            async move {
                let done = platform.clean_up_and_uninstall(&instance, &slug, &accounts, force).await;
                if let Err(error) = &done {
                    tracing::error!(%slug, %error, "the konnector stays installed: cleaning up its accounts failed");
                }
                // Most clients do not wait for it.
                drop(sender.send(done));
            }
            .in_current_span(),
        );
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
        for job in self.jobs().clean_up_accounts(instance, accounts, Some(slug)).await? {
            match self.jobs().wait_for_clean_up(instance, &job).await {
                Err(error) if !force => return Err(error),
                _ => {}
            }
        }
        let copies = self.accounts().list_deleted(instance, Some(slug))?;
        self.uninstall(instance, slug).await?;
        for id in copies.iter().map(|copy| &copy.id).chain(accounts) {
            let mut changes = Changes::new();
            self.accounts().stage_purge_deleted(instance, id, &mut changes)?;
            self.core().commit(changes).await?;
        }
        Ok(())
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
        for trigger in self.triggers().list(instance)?.into_iter().filter(is_affected) {
            ignore_missing(self.triggers().delete(instance, &trigger.id).await)?;
        }
        for job in self.jobs().list_live_of_konnector(instance, slug)? {
            ignore_missing(self.jobs().cancel(instance, &job).await.map(drop))?;
        }
        self.permissions().revoke_shares_by_source(instance, &Principal::konnector_source(slug)).await
    }

    async fn uninstall(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let found = self.konnectors().get_stored(instance, slug)?;
        self.revoke_access(instance, slug).await?;
        // A program that is installed under this name later is a different one.
        self.accounts().revoke_sharing(instance, slug).await?;
        let document = doc_ref(instance, slug);
        let mut changes = Changes::new();
        changes.delete(document.clone(), &found.rev);
        self.permissions().stage_delete(instance, slug, &mut changes)?;
        self.core().commit(changes).await?;
        // For anything that one of its runs created in the meantime.
        self.revoke_access(instance, slug).await?;
        self.core().delete_blobs(found.value.blobs()).await;
        self.core().publish(&document, ChangeKind::Deleted, &found.value);
        Ok(())
    }
}
