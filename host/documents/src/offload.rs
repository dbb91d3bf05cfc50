//! Threads for work that would block other requests: long computations, and operations that may wait for a disk, a pipe
//! or a program.
//!
//! The threads that serve connections never block, so a slow request delays only itself. The amount of concurrent work
//! and the time in the queue are limited, so an overloaded server reports the overload at once.

use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{Span, dispatcher};

use crate::{Error, Result};

thread_local! {
    /// Whether this is an offload thread; nested work on such a thread does not wait for another permit.
    static IS_OFFLOAD_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// A limited set of threads for one kind of work.
#[derive(Debug)]
pub struct Offload {
    semaphore: Arc<FairSemaphore>,
    /// Maximum time in the queue.
    queue_timeout: Duration,
    /// Name of the work, for error messages.
    name: &'static str,
}

impl Offload {
    /// Creates an offload for `name`, a plural: at most `max_at_once` run at the same time, and at most `max_waiting`
    /// wait, each for at most `patience`.
    #[must_use]
    pub fn new(name: &'static str, max_at_once: usize, max_waiting: usize, patience: Duration) -> Self {
        let limits = OffloadLimits { running: max_at_once, waiting: max_waiting };
        Self { semaphore: Arc::new(FairSemaphore::new(max_at_once, limits, limits)), queue_timeout: patience, name }
    }

    /// Like [`Offload::new`], for the work of several parties, none of which can use all permits. Each party gets at
    /// most three quarters of them, and a free permit goes to the waiting party that has the fewest.
    #[must_use]
    pub fn fair(name: &'static str, max_at_once: usize, max_waiting: usize, patience: Duration) -> Self {
        let limits = OffloadLimits { running: max_at_once, waiting: max_waiting };
        let share = |of: usize| of - of / 4;
        let per_party = OffloadLimits { running: share(max_at_once), waiting: share(max_waiting) };
        Self { semaphore: Arc::new(FairSemaphore::new(max_at_once, limits, per_party)), queue_timeout: patience, name }
    }

    /// Runs blocking work, which continues even if the caller no longer waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if too much work is waiting; errors of `work`.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        if IS_OFFLOAD_THREAD.get() {
            return work();
        }
        let permit = self.acquire("").await?;
        let work = with_tracing_context(work);
        join(tokio::task::spawn_blocking(move || run_with_permit(permit, work))).await
    }

    /// Runs a future for a party; each step of the future may take long. If the caller stops waiting, the future is
    /// dropped at its next await point.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`].
    pub async fn run_future_for<T: Send + 'static>(
        &self,
        party: &str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if IS_OFFLOAD_THREAD.get() {
            return Ok(future.await);
        }
        let permit = self.acquire(party).await?;
        let wanted = CancellationToken::new();
        let (unwanted, runtime) = (wanted.clone(), Handle::current());
        let _unwanted_when_dropped = wanted.drop_guard();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = unwanted.cancelled() => None,
                    done = future => Some(done),
                }
            })
        };
        let work = with_tracing_context(work);
        let done = join(tokio::task::spawn_blocking(move || run_with_permit(permit, work))).await;
        done.ok_or_else(|| Error::Unavailable("the request was abandoned".to_owned()))
    }

    /// Starts a future without waiting for its end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`].
    pub async fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let permit = self.acquire("").await?;
        let runtime = Handle::current();
        let work = with_tracing_context(move || runtime.block_on(future));
        drop(tokio::task::spawn_blocking(move || run_with_permit(permit, work)));
        Ok(())
    }

    /// Returns the number of free permits.
    #[must_use]
    pub fn available(&self) -> usize {
        self.semaphore.lock().free
    }

    async fn acquire(&self, party: &str) -> Result<OffloadPermit> {
        let busy = || Error::Busy(format!("the server is busy with too many {}; try again in a moment", self.name));
        match self.semaphore.try_acquire(party) {
            Acquisition::Acquired(permit) => Ok(permit),
            Acquisition::Full => Err(busy()),
            Acquisition::Queued(mut place) => match tokio::time::timeout(self.queue_timeout, &mut place.permit).await {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) | Err(_) => Err(busy()),
            },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct OffloadLimits {
    running: usize,
    waiting: usize,
}

/// Running and waiting work.
#[derive(Debug)]
struct FairSemaphore {
    limits: OffloadLimits,
    per_party: OffloadLimits,
    state: Mutex<SemaphoreState>,
}

#[derive(Debug)]
struct SemaphoreState {
    free: usize,
    running: HashMap<Arc<str>, usize>,
    /// Waiters, in the order of their arrival.
    waiting: BTreeMap<u64, Waiter>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    party: Arc<str>,
    permit: oneshot::Sender<OffloadPermit>,
}

enum Acquisition {
    Acquired(OffloadPermit),
    Queued(PendingPermit),
    Full,
}

impl SemaphoreState {
    fn running(&self, party: &str) -> usize {
        self.running.get(party).copied().unwrap_or_default()
    }

    fn start(&mut self, party: &Arc<str>) {
        self.free -= 1;
        *self.running.entry(Arc::clone(party)).or_default() += 1;
    }

    /// Returns the first waiter of the waiting party with the fewest permits.
    fn next_waiter(&mut self, most: usize) -> Option<Waiter> {
        if self.free == 0 {
            return None;
        }
        let next = self.waiting.iter().map(|(id, waiter)| (self.running(&waiter.party), *id)).min()?;
        let waiter = (next.0 < most).then(|| self.waiting.remove(&next.1)).flatten()?;
        self.start(&waiter.party);
        Some(waiter)
    }
}

impl FairSemaphore {
    fn new(free: usize, limits: OffloadLimits, per_party: OffloadLimits) -> Self {
        let state = SemaphoreState { free, running: HashMap::new(), waiting: BTreeMap::new(), next_id: 0 };
        Self { limits, per_party, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState> {
        self.state.lock()
    }

    fn try_acquire(self: &Arc<Self>, party: &str) -> Acquisition {
        let party: Arc<str> = Arc::from(party);
        let mut state = self.lock();
        if state.free > 0 && state.running(&party) < self.per_party.running {
            state.start(&party);
            drop(state);
            return Acquisition::Acquired(OffloadPermit { semaphore: Arc::clone(self), party });
        }
        let own = state.waiting.values().filter(|waiter| waiter.party == party).count();
        if state.waiting.len() >= self.limits.waiting || own >= self.per_party.waiting {
            return Acquisition::Full;
        }
        let (sender, receiver) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.insert(id, Waiter { party, permit: sender });
        drop(state);
        Acquisition::Queued(PendingPermit { semaphore: Arc::clone(self), id, permit: receiver })
    }

    /// Gives free permits to waiters.
    fn wake_waiters(self: &Arc<Self>) {
        while let Some(waiter) = {
            let mut state = self.lock();
            state.next_waiter(self.per_party.running)
        } {
            let permit = OffloadPermit { semaphore: Arc::clone(self), party: waiter.party };
            // A waiter that was just dropped returns the permit.
            drop(waiter.permit.send(permit));
        }
    }
}

/// A permit to run, until it is dropped.
#[derive(Debug)]
struct OffloadPermit {
    semaphore: Arc<FairSemaphore>,
    party: Arc<str>,
}

impl Drop for OffloadPermit {
    fn drop(&mut self) {
        let mut state = self.semaphore.lock();
        state.free += 1;
        if let Some(running) = state.running.get_mut(&self.party) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.party);
            }
        }
        drop(state);
        self.semaphore.wake_waiters();
    }
}

/// A position in the queue.
struct PendingPermit {
    semaphore: Arc<FairSemaphore>,
    id: u64,
    permit: oneshot::Receiver<OffloadPermit>,
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        self.semaphore.lock().waiting.remove(&self.id);
    }
}

/// Wraps work for another thread so that its events go to this thread's tracing subscriber.
fn with_tracing_context<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (dispatch, span) = (dispatcher::get_default(Clone::clone), Span::current());
    move || dispatcher::with_default(&dispatch, || span.in_scope(work))
}

fn run_with_permit<T>(permit: OffloadPermit, work: impl FnOnce() -> T) -> T {
    struct WorkingGuard(#[expect(dead_code, reason = "given back when the work is done")] OffloadPermit);
    impl Drop for WorkingGuard {
        fn drop(&mut self) {
            IS_OFFLOAD_THREAD.set(false);
        }
    }
    let _done = WorkingGuard(permit);
    IS_OFFLOAD_THREAD.set(true);
    work()
}

/// Returns the result of the work; a panic is resumed in the caller.
async fn join<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and so is this task.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_waits_does_not_hold_this_one_up() {
        let offload = Offload::new("tests", 1, 0, Duration::from_secs(5));
        let (release, held) = mpsc::channel::<()>();
        let first = offload.run(move || Ok(held.recv().is_ok()));
        let others = async {
            while offload.available() > 0 {
                tokio::task::yield_now().await;
            }
            // The queue is empty by configuration, so the next one is rejected at once.
            let refused = offload.run(|| Ok(())).await;
            assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
            release.send(()).expect("it waits");
        };
        let (first, ()) = tokio::join!(first, others);
        assert!(first.expect("done"));
        assert_eq!(offload.available(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_without_end() {
        let offload = Offload::new("tests", 1, 1, Duration::from_secs(5));
        let turn = offload.acquire("").await.expect("a turn");
        let refused = offload.run(|| Ok(())).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        drop(turn);
        offload.run(|| Ok(())).await.expect("done");
        assert_eq!(offload.semaphore.lock().waiting.len(), 0);
    }

    #[tokio::test]
    async fn a_turn_goes_to_the_party_that_has_the_fewest() {
        let offload = Offload::fair("tests", 4, 8, Duration::from_secs(5));
        let mut many = Vec::new();
        for _ in 0..3 {
            many.push(offload.acquire("many").await.expect("its share"));
        }
        let mut waiting = Vec::new();
        for _ in 0..6 {
            let Acquisition::Queued(place) = offload.semaphore.try_acquire("many") else {
                panic!("one turn is left for others")
            };
            waiting.push(place);
        }
        assert!(matches!(offload.semaphore.try_acquire("many"), Acquisition::Full), "others may wait, too");
        let few = offload.acquire("few").await.expect("at once");
        let Acquisition::Queued(next) = offload.semaphore.try_acquire("few") else { panic!("none is left") };
        let Acquisition::Queued(mut other) = offload.semaphore.try_acquire("other") else { panic!("none is left") };
        many.pop();
        let got = other.permit.try_recv().expect("it has none, others wait longer");
        many.pop();
        let first = waiting.first_mut().expect("six").permit.try_recv().expect("both have one, this one came first");
        drop((got, first, few, many, waiting, next, other));
        assert_eq!(offload.available(), 4);
        assert!(offload.semaphore.lock().running.is_empty());
    }

    #[tokio::test]
    async fn what_is_part_of_the_work_waits_for_no_turn() {
        let offload = Arc::new(Offload::new("tests", 1, 0, Duration::from_secs(5)));
        let inner = Arc::clone(&offload);
        let done = offload.run_future_for("", async move { inner.run(|| Ok(1)).await }).await;
        assert_eq!(done.expect("done").expect("done"), 1);
    }

    #[tokio::test]
    async fn a_future_that_nobody_waits_for_is_dropped() {
        let offload = Offload::new("tests", 1, 0, Duration::from_secs(5));
        let (sender, dropped) = tokio::sync::oneshot::channel::<()>();
        let waiting = offload.run_future_for("", async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
        dropped.await.expect_err("its sender is gone");
        while offload.available() == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_is_that_of_the_work() {
        let offload = Offload::new("tests", 1, 0, Duration::from_secs(5));
        drop(offload.run::<()>(|| panic!("as it was")).await);
    }
}
