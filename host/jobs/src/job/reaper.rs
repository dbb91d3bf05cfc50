//! Leases whose holders have died.
//!
//! A holder proves that it is alive by renewing its lease. A process that has seen the same number of renewals for the
//! duration of a lease, on its own monotonic clock, requeues the job. Clocks of other machines and wall clocks do not
//! matter.

use std::collections::HashMap;
use std::time::Duration;

use konnector_store::{Changes, DocRef, Lease};

use super::step::JobEvent;
use super::transition::LeaseAuthority;
use crate::Jobs;
use crate::{Error, Result};

/// The leases as last seen, and since when they are unchanged.
#[derive(Default)]
pub struct LeaseMonitor(HashMap<DocRef, (Lease, Duration)>);

impl LeaseMonitor {
    /// Returns the leases that have not changed for `ttl`.
    fn expired(&mut self, leases: Vec<Lease>, now: Duration, ttl: Duration) -> Vec<Lease> {
        let mut before = std::mem::take(&mut self.0);
        let mut silent = Vec::new();
        for lease in leases {
            let since = match before.remove(&lease.job) {
                Some((seen, since)) if seen == lease => since,
                _ => now,
            };
            if now.saturating_sub(since) >= ttl {
                silent.push(lease.clone());
            }
            self.0.insert(lease.job.clone(), (lease, since));
        }
        silent
    }
}

impl Jobs {
    /// Requeues the jobs of dead workers at startup, but only if the store is exclusive, because then every lease
    /// belongs to a process that has ended.
    pub async fn recover(&self) -> Result<()> {
        if !self.context.core.store().is_exclusive() {
            return Ok(());
        }
        for lease in self.context.core.store().leases()? {
            match self.requeue_leased(&lease).await {
                Ok(()) => {
                    tracing::warn!(job = lease.job.id, "the server ended while this job ran; the job is requeued")
                }
                // A job that cannot be requeued must not prevent the others from running; it is retried with the
                // expired leases.
                Err(error) => tracing::error!(job = lease.job.id, %error, "the job could not be requeued"),
            }
        }
        Ok(())
    }

    /// Watches the leases forever.
    pub async fn watch_leases(&self) {
        let mut seen = LeaseMonitor::default();
        loop {
            if let Err(error) = self.reclaim_expired(&mut seen).await {
                tracing::error!(%error, "the jobs of dead workers could not be requeued");
            }
            tokio::time::sleep(self.context.state.settings.lease_ttl / 9).await;
        }
    }

    async fn reclaim_expired(&self, seen: &mut LeaseMonitor) -> Result<()> {
        for lease in seen.expired(
            self.context.core.store().leases()?,
            self.context.core.clock().elapsed(),
            self.context.state.settings.lease_ttl,
        ) {
            match self.requeue_leased(&lease).await {
                Ok(()) => tracing::warn!(
                    job = lease.job.id,
                    worker = lease.worker,
                    epoch = lease.epoch,
                    event = "lease_lost",
                    "the worker of this job lost its lease; the job is requeued"
                ),
                // The holder renewed the lease, or another process requeued the job first.
                Err(Error::StaleLease | Error::Conflict(_)) => {}
                Err(error) => {
                    tracing::error!(job = lease.job.id, %error, "the job could not be requeued for another worker")
                }
            }
        }
        Ok(())
    }
}

impl Jobs {
    /// Requeues the job of a lease. If the job no longer exists, the lease ends, with its lock and permits.
    async fn requeue_leased(&self, lease: &Lease) -> Result<()> {
        match self.apply(&lease.job, LeaseAuthority::Expired(lease), JobEvent::LeaseLost, None).await {
            Err(Error::NotFound(_)) if self.is_orphan(lease)? => {
                tracing::warn!(job = lease.job.id, "ended the lease of a job that no longer exists");
                let mut changes = Changes::new();
                changes.expire(lease);
                self.context.core.store().commit(changes).await?;
                Ok(())
            }
            settled => settled,
        }
    }

    fn is_orphan(&self, lease: &Lease) -> Result<bool> {
        let has_instance =
            self.context.core.instances().list()?.iter().any(|instance| instance.id == lease.job.instance);
        Ok(!has_instance || self.context.core.store().get(&lease.job)?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(beats: u64, epoch: u64) -> Lease {
        let job = DocRef::new(&konnector_store::InstanceId::global(), &konnector_documents::doctype::JOBS, "one");
        Lease { job, epoch, worker: "w".to_owned(), heartbeats: beats, lock: None, slots: Vec::new() }
    }

    #[test]
    fn a_lease_is_silent_when_the_same_was_seen_for_its_whole_time() {
        let mut seen = LeaseMonitor::default();
        let ttl = Duration::from_secs(45);
        let mut look =
            |second, beats, epoch| seen.expired(vec![lease(beats, epoch)], Duration::from_secs(second), ttl).len();
        assert_eq!(
            [look(0, 0, 1), look(44, 0, 1), look(45, 1, 1), look(89, 1, 1), look(90, 1, 2), look(134, 1, 2)],
            [0; 6]
        );
        assert_eq!((look(135, 1, 2), look(140, 1, 2)), (1, 1), "and again, should it not have worked");
    }
}
