//! A lease as its holder sees it. The lease is renewed during the run, and abandoned before another worker can get it.
//!
//! Other workers end a lease after they have seen no heartbeat of it for [`crate::Config::lease_ttl`]. Its holder
//! counts three quarters of that time from the start of the last renewal that succeeded, on a clock that advances while
//! the machine sleeps. After that, the run is not polled, which stops all requests to the vendor; if a last renewal
//! fails too, the run is dropped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use konnector_store::Lease;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Job;
use crate::Jobs;
use konnector_documents::stored::Stored;

/// Lease that this process holds or held, and until when it is certainly valid.
pub(super) struct LeaseGuard {
    /// Lease, as claimed from the queue.
    pub(super) lease: Lease,
    /// Time until which it is certainly held, in milliseconds of [`konnector_documents::clock::Clock::elapsed`].
    valid_until: AtomicU64,
    /// Notified of each change of `valid_until`.
    renewals: watch::Sender<()>,
    lost: CancellationToken,
    /// The end of the job is being stored, and the lease ends with it.
    ending: AtomicBool,
}

impl LeaseGuard {
    /// Creates the guard of a lease that was requested at `asked_at`.
    pub(super) fn new(lease: Lease, asked_at: Duration, ttl: Duration) -> Self {
        let held = Self {
            lease,
            valid_until: AtomicU64::new(0),
            renewals: watch::Sender::new(()),
            lost: CancellationToken::new(),
            ending: AtomicBool::new(false),
        };
        held.extend(asked_at, ttl);
        held
    }

    fn extend(&self, asked_at: Duration, ttl: Duration) {
        self.valid_until.store(millis(asked_at + ttl * 3 / 4), Ordering::SeqCst);
        self.renewals.send_replace(());
    }

    fn is_valid(&self, elapsed: Duration) -> bool {
        millis(elapsed) < self.valid_until.load(Ordering::SeqCst) && !self.lost.is_cancelled()
    }

    /// Marks that a commit which ends the job and its lease is being stored. From now on, a renewal that finds no lease
    /// is ignored; the commit itself detects whether the lease was still held.
    pub(super) fn mark_ending(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Returns a token that is cancelled once the lease is lost: all work of the run must stop.
    pub(super) const fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

/// Renews a lease until it is dropped.
pub(super) struct HeartbeatTask {
    _task: AbortOnDropHandle<()>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Jobs {
    /// Polls a run only while its lease is known to be valid. After the machine slept or the process was suspended, the
    /// run makes no progress until the lease is renewed.
    pub(super) async fn run_while_leased<F: Future>(&self, held: &LeaseGuard, run: F) -> F::Output {
        let mut run = pin!(run);
        let mut renewed = held.renewals.subscribe();
        loop {
            let polled = poll_fn(|context| {
                if held.is_valid(self.context.core.clock().elapsed()) {
                    run.as_mut().poll(context).map(Some)
                } else {
                    Poll::Ready(None)
                }
            });
            if let Some(output) = polled.await {
                return output;
            }
            // The sender lives as long as `held`.
            let _ = renewed.changed().await;
        }
    }

    /// Renews a lease in a task of its own, so that renewals do not depend on the run being polled.
    pub(super) fn spawn_heartbeat(&self, held: &Arc<LeaseGuard>, cancel: &CancellationToken) -> HeartbeatTask {
        let (context, held, cancel) = (self.clone(), Arc::clone(held), cancel.clone());
        let keep = async move {
            // A lease that is no longer renewed is lost.
            let _lost = held.lost.clone().drop_guard();
            context.renew_until_done(&held, &cancel).await;
        };
        HeartbeatTask { _task: AbortOnDropHandle::new(self.context.core.tasks().spawn(keep)) }
    }

    /// Renews the lease until it is lost. Forwards cancellation requests from any node to the run.
    async fn renew_until_done(&self, held: &LeaseGuard, cancel: &CancellationToken) {
        let ttl = self.context.state.settings.lease_ttl;
        while !held.lost.is_cancelled() {
            tokio::time::sleep(ttl / 5).await;
            let asked_at = self.context.core.clock().elapsed();
            // An unresponsive store must not keep the run going.
            match tokio::time::timeout(ttl / 5, self.context.core.store().renew(&held.lease)).await {
                Ok(Ok(())) => held.extend(asked_at, ttl),
                Ok(Err(error)) if error.is_stale_lease() => {
                    if !held.ending.load(Ordering::SeqCst) {
                        held.lost.cancel();
                    }
                }
                Ok(Err(error)) => tracing::warn!(job = held.lease.job.id, %error, "the lease could not be renewed"),
                Err(_) => tracing::warn!(job = held.lease.job.id, "the store took too long to renew the lease"),
            }
            if !held.is_valid(self.context.core.clock().elapsed()) {
                held.lost.cancel();
            }
            if !cancel.is_cancelled() && self.is_cancel_requested(held) {
                cancel.cancel();
            }
        }
    }

    /// Returns whether the job's cancellation was requested, possibly on another node.
    fn is_cancel_requested(&self, held: &LeaseGuard) -> bool {
        let job = self.context.core.load::<Job>(&held.lease.job);
        matches!(job, Ok(Some(Stored { value, .. })) if value.cancelled)
    }
}
