use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::yield_now;

use super::{Scheduler, WaitingRuntime, should_yield};
use crate::engine::new_compiler_engine;
use crate::ticker::Ticker;

fn scheduler(threads: usize) -> Scheduler {
    let demand = Arc::new(WaitingRuntime::default());
    let engine = new_compiler_engine(1 << 20).unwrap();
    let ticker = Ticker::start(&engine, Arc::clone(&demand)).unwrap();
    Scheduler::start(threads, demand, ticker.fast_ticks()).unwrap()
}

/// Computes like a guest, which yields on request, until the flag is set.
async fn compute(until: Arc<AtomicBool>) -> usize {
    let mut yields = 0;
    while !until.load(Ordering::SeqCst) {
        while !should_yield() {
            std::hint::spin_loop();
        }
        yields += 1;
        yield_now().await;
    }
    yields
}

/// Sets the flag when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

#[tokio::test]
async fn timers_fire_while_every_thread_computes() {
    let scheduler = scheduler(2);
    let finished = flag();
    let busy: Vec<_> = (0..5).map(|_| scheduler.spawn(compute(Arc::clone(&finished)))).collect();
    let sleeper = scheduler.spawn(async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    sleeper.await.unwrap();
    finished.store(true, Ordering::SeqCst);
    for task in busy {
        // Each yields at least whenever a nap ends, or it would occupy its thread forever.
        assert!(task.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_task_whose_sockets_are_always_ready_lets_others_run() {
    let scheduler = scheduler(1);
    let finished = flag();
    let should_stop = Arc::clone(&finished);
    let eager = scheduler.spawn(async move {
        while !should_stop.load(Ordering::SeqCst) {
            tokio::task::coop::consume_budget().await;
        }
    });
    let setter = Arc::clone(&finished);
    scheduler.spawn(async move { setter.store(true, Ordering::SeqCst) }).await.unwrap();
    eager.await.unwrap();
}

#[tokio::test]
async fn a_panic_reaches_the_awaiting_task_and_no_other() {
    let scheduler = scheduler(1);
    let panics = scheduler.spawn(async { panic!("on purpose") });
    let other = scheduler.spawn(async { 7 });
    assert!(std::panic::AssertUnwindSafe(panics).catch_unwind().await.is_err());
    assert_eq!(other.await, Some(7));
    scheduler.spawn(async { panic!("nobody waits") }).detach();
    assert_eq!(scheduler.spawn(async { 8 }).await, Some(8));
}

#[tokio::test]
async fn a_panic_while_a_task_is_dropped_ends_no_thread() {
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let scheduler = scheduler(1);
    let (started_sender, started) = tokio::sync::oneshot::channel();
    let task = scheduler.spawn(async move {
        let _bomb = PanicOnDrop;
        started_sender.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    started.await.unwrap();
    drop(task);
    assert_eq!(scheduler.spawn(async { 9 }).await, Some(9));
}

#[tokio::test]
async fn dropping_a_task_ends_it_and_detaching_does_not() {
    let scheduler = scheduler(1);
    let (dropped, finished) = (flag(), flag());
    let setter = SetOnDrop(Arc::clone(&dropped));
    let task = scheduler.spawn(async move {
        let _setter = setter;
        std::future::pending::<()>().await;
    });
    let setter = SetOnDrop(Arc::clone(&finished));
    scheduler
        .spawn(async move {
            let _setter = setter;
            yield_now().await;
        })
        .detach();
    drop(task);
    while !(dropped.load(Ordering::SeqCst) && finished.load(Ordering::SeqCst)) {
        yield_now().await;
    }
}

#[tokio::test]
async fn tasks_end_with_the_scheduler() {
    let scheduler = scheduler(2);
    let (started_sender, mut started) = tokio::sync::mpsc::channel(100);
    let dropped = Arc::new(AtomicUsize::new(0));
    struct CountOnDrop(Arc<AtomicUsize>);
    impl Drop for CountOnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let parked: Vec<_> = (0..100)
        .map(|_| {
            let (started_sender, counter) = (started_sender.clone(), CountOnDrop(Arc::clone(&dropped)));
            scheduler.spawn(async move {
                let _counter = counter;
                started_sender.send(()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            })
        })
        .collect();
    for _ in 0..100 {
        started.recv().await.unwrap();
    }
    drop(scheduler);
    for task in parked {
        assert_eq!(task.await, None);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn a_turn_ends_for_a_task_that_used_less() {
    let scheduler = scheduler(1);
    let finished = flag();
    let busy = scheduler.spawn(compute(Arc::clone(&finished)));
    // Each of these arrives while the thread computes, and ends long before the busy task's slice does.
    for _ in 0..50 {
        scheduler.spawn(async { assert!(!should_yield(), "the busy task has used more") }).await.unwrap();
    }
    finished.store(true, Ordering::SeqCst);
    assert!(busy.await.unwrap() > 0);
}
