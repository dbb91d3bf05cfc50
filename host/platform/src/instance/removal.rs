//! Deleting an instance: konnectors that clean up at their vendors do so first (Cozy API, accounts, deletion, §7.3).

use std::time::Duration;

use konnector_store::{Changes, InstanceId};

use super::{DOMAINS, Instance, own};
use crate::{Error, Platform, Result};

/// How long the konnectors are waited for within one request. What takes longer goes on, and the next request waits for the rest of it.
const PATIENCE: Duration = Duration::from_secs(20);

impl Platform {
    /// Removes an instance with all its documents, jobs and triggers, once the konnectors of its accounts have cleaned up. The contents of its
    /// files go with the next sweep of blobs.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none. [`Error::Conflict`] while one of its jobs runs, and when a konnector failed to clean up: then
    /// the instance stays, and whoever deletes it again has that konnector try again.
    pub async fn delete_instance(&self, domain: &str) -> Result<()> {
        let instance = self.instance(domain)?;
        self.clean_up_accounts(&instance).await?;
        if self.store.leases()?.iter().any(|lease| lease.job.instance == instance.id) {
            return Err(Error::Conflict(format!(
                "a konnector is running on '{domain}'; wait for its end and delete it again"
            )));
        }
        let at = own(instance.id.as_str());
        let Some(found) = self.stored::<Instance>(&at)? else { return Ok(()) };
        let mut changes = Changes::new();
        changes.delete(at, &found.rev);
        for name in std::iter::once(&instance.domain).chain(&instance.domain_aliases) {
            changes.release(&InstanceId::global(), DOMAINS, name);
        }
        self.commit(changes).await?;
        self.store.erase(&instance.id).await?;
        Ok(())
    }

    async fn clean_up_accounts(&self, instance: &Instance) -> Result<()> {
        let jobs = self.clean_up(instance, &self.accounts_to_clean(instance)?, None).await?;
        let (domain, mut failed) = (&instance.domain, Vec::new());
        let ended = async {
            for job in &jobs {
                if let Err(error) = self.wait_for_clean_up(instance, job).await {
                    let [account, slug] = ["account", "konnector"].map(|name| job.argument(name).unwrap_or_default());
                    failed.push(format!("{account} ({slug}): {error}"));
                }
            }
        };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            return Err(Error::Conflict(format!(
                "konnectors still clean up after accounts of '{domain}'; delete it again in a while"
            )));
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "'{domain}' is kept, because konnectors failed to clean up after its accounts {}. Delete it again to have them try again, or uninstall them with Force=true first",
            failed.join(", ")
        )))
    }
}
