//! Deletes an instance, after its konnectors have cleaned up at their vendors (Cozy API, accounts, deletion, §7.3).

use std::time::Duration;

use konnector_store::{Changes, DocRef, InstanceId};

use crate::schema::Schema;
use crate::{Error, Platform, Result};
use konnector_documents::doctype::ERASURES;
use konnector_documents::instance::{Instance, doc_ref};
use konnector_documents::stored::Object;

/// How long one request waits for the konnectors. Longer clean-ups continue, and the next request waits for the rest.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the reference to the record that an instance's data is being removed.
fn erasure_ref(instance: &InstanceId) -> DocRef {
    DocRef::new(&InstanceId::global(), &ERASURES, instance.as_str())
}

impl Platform {
    /// Removes an instance with all its documents, files, jobs and triggers, once the konnectors of its accounts have
    /// cleaned up. After a crash, the next start removes the rest.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist. [`Error::Conflict`] while one of its jobs runs, and if a konnector
    /// failed to clean up; the instance stays then, and another deletion runs that konnector again.
    pub async fn delete_instance(&self, domain: &str) -> Result<()> {
        let instance = self.instances().get(domain)?;
        self.clean_up_accounts(&instance).await?;
        if self.core().store().leases()?.iter().any(|lease| lease.job.instance == instance.id) {
            return Err(Error::Conflict(format!(
                "a konnector is running on '{domain}'; wait until it ends, then delete the instance again"
            )));
        }
        let at = doc_ref(instance.id.as_str());
        let Some(found) = self.core().load::<Instance>(&at)? else { return Ok(()) };
        let mut changes = Changes::new();
        changes.delete(at, &found.rev);
        instance.stage_release_of_domains(&mut changes);
        changes.create(erasure_ref(&instance.id), Object::new());
        self.core().commit(changes).await?;
        self.erase(&instance.id).await
    }

    /// Removes the remaining data of an instance, and the record of its removal.
    async fn erase(&self, instance: &InstanceId) -> Result<()> {
        self.core().store().delete_instance(&Schema, instance).await?;
        self.state.files.remove_instance(instance);
        let at = erasure_ref(instance);
        let Some(note) = self.core().store().get(&at)? else { return Ok(()) };
        let mut changes = Changes::new();
        changes.purge(at, &note.rev);
        self.core().commit(changes).await?;
        Ok(())
    }

    /// Resumes the removals that the end of the process interrupted. A failed one is retried at the next start.
    pub(crate) async fn resume_erasures(&self) -> Result<()> {
        for note in self.core().store().list(&InstanceId::global(), &ERASURES, None, usize::MAX)? {
            let erased = match note.id.parse::<InstanceId>() {
                Ok(instance) => self.erase(&instance).await,
                Err(error) => Err(error.into()),
            };
            match erased {
                Ok(()) => tracing::warn!(instance = note.id, "deleted the remaining data of a deleted instance"),
                Err(error) => {
                    tracing::error!(instance = note.id, %error, "cannot delete the remaining data of a deleted instance");
                }
            }
        }
        Ok(())
    }

    async fn clean_up_accounts(&self, instance: &Instance) -> Result<()> {
        let accounts = self.accounts().accounts_to_clean(instance)?;
        let jobs = self.jobs().clean_up_accounts(instance, &accounts, None).await?;
        let (domain, mut failed) = (&instance.domain, Vec::new());
        let ended = async {
            for job in &jobs {
                if let Err(error) = self.jobs().wait_for_clean_up(instance, job).await {
                    let [account, slug] = ["account", "konnector"].map(|name| job.argument(name).unwrap_or_default());
                    failed.push(format!("{account} ({slug}): {error}"));
                }
            }
        };
        if tokio::time::timeout(CLEAN_UP_TIMEOUT, ended).await.is_err() {
            return Err(Error::Conflict(format!(
                "konnectors are still cleaning up after accounts of '{domain}'; delete the instance again later"
            )));
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "'{domain}' was not deleted, because konnectors failed to clean up after its accounts {}; delete it again to retry, or first uninstall these konnectors with Force=true",
            failed.join(", ")
        )))
    }
}
