//! Work of host functions that runs alongside the guest instead of on its stack.
//!
//! A host function runs on the stack of the guest that called it, and a stack retains every page that was ever touched.
//! An HTTP exchange goes thirty calls deep; while it waits for its vendor, those pages would be most of the memory that
//! a run holds. Therefore, the task that polls the guest also polls the exchange, which is still billed to the run, and
//! dropped with it.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// The side tasks of one run. A guest waits for one thing at a time, so there is rarely more than one.
#[derive(Default)]
pub(crate) struct SideTasks(Mutex<Vec<BoxFuture<'static, ()>>>);

impl SideTasks {
    /// Runs work to its end; returns `None` if it is no longer polled because the run is being dropped. Dropping the
    /// future drops the work at the task's next turn.
    pub(crate) async fn run<T: Send + 'static>(&self, work: BoxFuture<'static, T>) -> Option<T> {
        self.spawn(work).await.ok()
    }

    /// Like [`run`](Self::run), for a caller that waits in another task. Must be called by a host function, because the
    /// work is first polled when the guest waits for something.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: BoxFuture<'static, T>) -> oneshot::Receiver<T> {
        let (mut sender, receiver) = oneshot::channel();
        let piece = async move {
            let value = tokio::select! {
                biased;
                () = sender.closed() => return,
                value = work => value,
            };
            // If nothing waits for the result any more, there is nothing to do.
            drop(sender.send(value));
        };
        self.tasks().push(Box::pin(piece));
        receiver
    }

    /// Polls all pieces of work; returns whether one of them finished and the guest can continue.
    fn poll(&self, context: &mut Context<'_>) -> bool {
        // Taken out, because dropping a piece may call arbitrary code.
        let mut pieces = std::mem::take(&mut *self.tasks());
        let before = pieces.len();
        pieces.retain_mut(|piece| piece.as_mut().poll(context).is_pending());
        let finished = pieces.len() < before;
        self.tasks().append(&mut pieces);
        finished
    }

    fn tasks(&self) -> parking_lot::MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.0.lock()
    }
}

/// A guest and its side tasks, as one future.
pub(crate) struct GuestWithTasks<F> {
    guest: Pin<Box<F>>,
    tasks: Arc<SideTasks>,
}

impl<F: Future> GuestWithTasks<F> {
    pub(crate) fn new(guest: F, side_tasks: Arc<SideTasks>) -> Self {
        Self { guest: Box::pin(guest), tasks: side_tasks }
    }
}

impl<F: Future> Future for GuestWithTasks<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            if let Poll::Ready(output) = self.guest.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            if !self.tasks.poll(context) {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn side_tasks_run_while_the_guest_waits_for_them() {
        let side_tasks = Arc::new(SideTasks::default());
        let guest_tasks = Arc::clone(&side_tasks);
        let guest = async move {
            let slow = guest_tasks.run(Box::pin(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                1
            }));
            let quick = guest_tasks.run(Box::pin(async { 2 }));
            tokio::join!(slow, quick)
        };
        assert_eq!(GuestWithTasks::new(guest, side_tasks).await, (Some(1), Some(2)));
    }

    #[tokio::test]
    async fn an_abandoned_side_task_is_dropped() {
        struct DroppedFlag(Arc<AtomicBool>);
        impl Drop for DroppedFlag {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let (side_tasks, dropped) = (Arc::new(SideTasks::default()), Arc::new(AtomicBool::new(false)));
        let (guest_tasks, setter) = (Arc::clone(&side_tasks), DroppedFlag(Arc::clone(&dropped)));
        let guest = async move {
            let work = guest_tasks.run(Box::pin(async move {
                let _setter = setter;
                std::future::pending::<()>().await;
            }));
            assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
            tokio::task::yield_now().await;
        };
        GuestWithTasks::new(guest, side_tasks).await;
        assert!(dropped.load(Ordering::SeqCst));
    }
}
