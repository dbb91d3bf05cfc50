//! Work that would hold up others, on threads of its own: what computes for long, and what may wait for a disk, a pipe or a program.
//!
//! The threads that serve connections only ever wait; how long a request takes is then nobody's problem but its own. How much is done at a
//! time is limited, and so is how long work waits for its turn, so that a server with too much to do says so at once.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
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
    turns: Arc<Turns>,
    /// How long each waits for its turn.
    patience: Duration,
    /// What the work is, for those who are refused.
    name: &'static str,
}

impl Offload {
    /// Threads for `name`, a plural: at most `max_at_once`, for which at most `max_waiting` wait, each for `patience`.
    #[must_use]
    pub fn new(name: &'static str, max_at_once: usize, max_waiting: usize, patience: Duration) -> Self {
        let limits = Limits { running: max_at_once, waiting: max_waiting };
        Self { turns: Arc::new(Turns::new(max_at_once, limits, limits)), patience, name }
    }

    /// The same for the work of several parties, none of which takes all for itself: each has three quarters at most, and a turn that gets free
    /// goes to the party that has the fewest.
    #[must_use]
    pub fn shared(name: &'static str, max_at_once: usize, max_waiting: usize, patience: Duration) -> Self {
        let limits = Limits { running: max_at_once, waiting: max_waiting };
        let share = |of: usize| of - of / 4;
        let per_party = Limits { running: share(max_at_once), waiting: share(max_waiting) };
        Self { turns: Arc::new(Turns::new(max_at_once, limits, per_party)), patience, name }
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
        let turn = self.turn("").await?;
        let work = with_log(work);
        finished(tokio::task::spawn_blocking(move || working(turn, work))).await
    }

    /// Completes a future, each step of which may take long, for a party. The future is dropped where it waits when nobody waits for it any
    /// more.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`].
    pub async fn drive_for<T: Send + 'static>(
        &self,
        party: &str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if WORKING.get() {
            return Ok(future.await);
        }
        let turn = self.turn(party).await?;
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
        let turn = self.turn("").await?;
        let runtime = Handle::current();
        let work = with_log(move || runtime.block_on(future));
        drop(tokio::task::spawn_blocking(move || working(turn, work)));
        Ok(())
    }

    /// How many can be begun at once.
    #[must_use]
    pub fn free(&self) -> usize {
        self.turns.lock().free
    }

    async fn turn(&self, party: &str) -> Result<Turn> {
        let busy = || Error::Busy(format!("the server has too many {} to do; try again in a moment", self.name));
        match self.turns.ask(party) {
            Asked::Turn(turn) => Ok(turn),
            Asked::Full => Err(busy()),
            Asked::Wait(mut place) => match tokio::time::timeout(self.patience, &mut place.turn).await {
                Ok(Ok(turn)) => Ok(turn),
                Ok(Err(_)) | Err(_) => Err(busy()),
            },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    running: usize,
    waiting: usize,
}

/// Who works, and who waits.
#[derive(Debug)]
struct Turns {
    limits: Limits,
    per_party: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    running: HashMap<Arc<str>, usize>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    party: Arc<str>,
    turn: oneshot::Sender<Turn>,
}

enum Asked {
    Turn(Turn),
    Wait(Place),
    Full,
}

impl State {
    fn running(&self, party: &str) -> usize {
        self.running.get(party).copied().unwrap_or_default()
    }

    fn begin(&mut self, party: &Arc<str>) {
        self.free -= 1;
        *self.running.entry(Arc::clone(party)).or_default() += 1;
    }

    /// The one whose turn it is: of the parties that wait, the one with the fewest turns; of its own, the first.
    fn next(&mut self, most: usize) -> Option<Waiter> {
        if self.free == 0 {
            return None;
        }
        let next = self.waiting.iter().map(|(id, waiter)| (self.running(&waiter.party), *id)).min()?;
        let waiter = (next.0 < most).then(|| self.waiting.remove(&next.1)).flatten()?;
        self.begin(&waiter.party);
        Some(waiter)
    }
}

impl Turns {
    fn new(free: usize, limits: Limits, per_party: Limits) -> Self {
        let state = State { free, running: HashMap::new(), waiting: BTreeMap::new(), next: 0 };
        Self { limits, per_party, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, party: &str) -> Asked {
        let party: Arc<str> = Arc::from(party);
        let mut state = self.lock();
        if state.free > 0 && state.running(&party) < self.per_party.running {
            state.begin(&party);
            drop(state);
            return Asked::Turn(Turn { of: Arc::clone(self), party });
        }
        let own = state.waiting.values().filter(|waiter| waiter.party == party).count();
        if state.waiting.len() >= self.limits.waiting || own >= self.per_party.waiting {
            return Asked::Full;
        }
        let (sender, turn) = oneshot::channel();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, Waiter { party, turn: sender });
        drop(state);
        Asked::Wait(Place { of: Arc::clone(self), id, turn })
    }

    /// Gives what is free to those who wait.
    fn pass_on(self: &Arc<Self>) {
        while let Some(waiter) = {
            let mut state = self.lock();
            state.next(self.per_party.running)
        } {
            let turn = Turn { of: Arc::clone(self), party: waiter.party };
            // Whoever has gone in this moment gives it back.
            drop(waiter.turn.send(turn));
        }
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
struct Turn {
    of: Arc<Turns>,
    party: Arc<str>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.free += 1;
        if let Some(running) = state.running.get_mut(&self.party) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.party);
            }
        }
        drop(state);
        self.of.pass_on();
    }
}

/// A place among those who wait.
struct Place {
    of: Arc<Turns>,
    id: u64,
    turn: oneshot::Receiver<Turn>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.lock().waiting.remove(&self.id);
    }
}

/// Work on another thread, whose lines go to the log of this one.
fn with_log<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (dispatch, span) = (dispatcher::get_default(Clone::clone), Span::current());
    move || dispatcher::with_default(&dispatch, || span.in_scope(work))
}

fn working<T>(turn: Turn, work: impl FnOnce() -> T) -> T {
    struct Done(#[expect(dead_code, reason = "given back when the work is done")] Turn);
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
        let turn = offload.turn("").await.expect("a turn");
        let refused = offload.run(|| Ok(())).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        drop(turn);
        offload.run(|| Ok(())).await.expect("done");
        assert_eq!(offload.turns.lock().waiting.len(), 0);
    }

    #[tokio::test]
    async fn a_turn_goes_to_the_party_that_has_the_fewest() {
        let offload = Offload::shared("tests", 4, 8, Duration::from_secs(5));
        let mut many = Vec::new();
        for _ in 0..3 {
            many.push(offload.turn("many").await.expect("its share"));
        }
        let mut waiting = Vec::new();
        for _ in 0..6 {
            let Asked::Wait(place) = offload.turns.ask("many") else { panic!("one turn is left for others") };
            waiting.push(place);
        }
        assert!(matches!(offload.turns.ask("many"), Asked::Full), "others may wait, too");
        let few = offload.turn("few").await.expect("at once");
        let Asked::Wait(next) = offload.turns.ask("few") else { panic!("none is left") };
        let Asked::Wait(mut other) = offload.turns.ask("other") else { panic!("none is left") };
        many.pop();
        let got = other.turn.try_recv().expect("it has none, others wait longer");
        many.pop();
        let first = waiting.first_mut().expect("six").turn.try_recv().expect("both have one, this one came first");
        drop((got, first, few, many, waiting, next, other));
        assert_eq!(offload.free(), 4);
        assert!(offload.turns.lock().running.is_empty());
    }

    #[tokio::test]
    async fn what_is_part_of_the_work_waits_for_no_turn() {
        let offload = Arc::new(Offload::new("tests", 1, 0, Duration::from_secs(5)));
        let inner = Arc::clone(&offload);
        let done = offload.drive_for("", async move { inner.run(|| Ok(1)).await }).await;
        assert_eq!(done.expect("done").expect("done"), 1);
    }

    #[tokio::test]
    async fn a_future_that_nobody_waits_for_is_dropped() {
        let offload = Offload::new("tests", 1, 0, Duration::from_secs(5));
        let (sender, dropped) = tokio::sync::oneshot::channel::<()>();
        let waiting = offload.drive_for("", async move {
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
