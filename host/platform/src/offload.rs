//! Work that would hold up others, on threads of its own: what computes for long, and what may wait for a disk, a pipe or a program.
//!
//! The threads that serve connections only ever wait; how long a request takes is then nobody's problem but its own. How much is done at a
//! time is limited, and so is how long work waits for its turn, so that a server with too much to do says so at once.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{Span, dispatcher};

use crate::{Error, Result};

thread_local! {
    /// Whether this thread does such work: what is part of it waits for no other turn.
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Threads for one kind of work.
#[derive(Debug)]
pub struct Offload {
    turns: Arc<Semaphore>,
    /// How many wait for their turn, and how many may.
    waiting: AtomicUsize,
    max_waiting: usize,
    /// How long each waits for its turn.
    patience: Duration,
    /// What the work is, for those who are refused.
    name: &'static str,
}

impl Offload {
    /// Threads for `name`, a plural: at most `max_at_once`, for which at most `max_waiting` wait, each for `patience`.
    #[must_use]
    pub fn new(name: &'static str, max_at_once: usize, max_waiting: usize, patience: Duration) -> Self {
        let turns = Arc::new(Semaphore::new(max_at_once));
        Self { turns, waiting: AtomicUsize::new(0), max_waiting, patience, name }
    }

    /// Does work that blocks. It goes on when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when there is too much to do; what the work returns.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        if WORKING.get() {
            return work();
        }
        let turn = self.turn().await?;
        let work = with_log(work);
        finished(tokio::task::spawn_blocking(move || working(turn, work))).await
    }

    /// The same for a future, each step of which may take long. It is dropped where it waits when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`].
    pub async fn drive<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
        if WORKING.get() {
            return Ok(future.await);
        }
        let turn = self.turn().await?;
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
        let work = with_log(work);
        let done = finished(tokio::task::spawn_blocking(move || working(turn, work))).await;
        done.ok_or_else(|| Error::Unavailable("the request was given up".to_owned()))
    }

    /// Begins with a future, and does not wait for its end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`].
    pub async fn begin(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let turn = self.turn().await?;
        let runtime = Handle::current();
        let work = with_log(move || runtime.block_on(future));
        drop(tokio::task::spawn_blocking(move || working(turn, work)));
        Ok(())
    }

    /// How many can be begun at once.
    #[must_use]
    pub fn free(&self) -> usize {
        self.turns.available_permits()
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let busy = || Error::Busy(format!("the server has too many {} to do; try again in a moment", self.name));
        let _place = Place::take(&self.waiting, self.max_waiting).ok_or_else(busy)?;
        match tokio::time::timeout(self.patience, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        (before < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Work on another thread, whose lines go to the log of this one.
fn with_log<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (dispatch, span) = (dispatcher::get_default(Clone::clone), Span::current());
    move || dispatcher::with_default(&dispatch, || span.in_scope(work))
}

fn working<T>(turn: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    struct Done(#[expect(dead_code, reason = "given back when the work is done")] OwnedSemaphorePermit);
    impl Drop for Done {
        fn drop(&mut self) {
            WORKING.set(false);
        }
    }
    let _done = Done(turn);
    WORKING.set(true);
    work()
}

/// What work returns; a panic goes on in whoever waits for it.
async fn finished<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this with it.
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
            while offload.free() > 0 {
                tokio::task::yield_now().await;
            }
            // Nobody may wait, so the next one is refused at once.
            let refused = offload.run(|| Ok(())).await;
            assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
            release.send(()).expect("it waits");
        };
        let (first, ()) = tokio::join!(first, others);
        assert!(first.expect("done"));
        assert_eq!(offload.free(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_without_end() {
        let offload = Offload::new("tests", 1, 1, Duration::from_secs(5));
        let turn = offload.turn().await.expect("a turn");
        let refused = offload.run(|| Ok(())).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        drop(turn);
        offload.run(|| Ok(())).await.expect("done");
        assert_eq!(offload.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_part_of_the_work_waits_for_no_turn() {
        let offload = Arc::new(Offload::new("tests", 1, 0, Duration::from_secs(5)));
        let inner = Arc::clone(&offload);
        let done = offload.drive(async move { inner.run(|| Ok(1)).await }).await;
        assert_eq!(done.expect("done").expect("done"), 1);
    }

    #[tokio::test]
    async fn a_future_that_nobody_waits_for_is_dropped() {
        let offload = Offload::new("tests", 1, 0, Duration::from_secs(5));
        let (sender, dropped) = tokio::sync::oneshot::channel::<()>();
        let waiting = offload.drive(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
        dropped.await.expect_err("its sender is gone");
        while offload.free() == 0 {
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
