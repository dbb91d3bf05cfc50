//! Tasks of the threads for guests.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::fair::VirtualRuntime;
use super::slice;

/// Runtime of one task, stored while it waits.
#[derive(Debug, Default)]
pub(super) struct TaskRuntime(AtomicU64);

impl TaskRuntime {
    pub(super) fn runtime(&self) -> VirtualRuntime {
        self.0.load(Ordering::Relaxed)
    }
}

/// Charges a task for its polls. The charge is stored before the poll ends, because the task may be queued on another
/// thread immediately afterwards.
pub(super) struct ChargedTask<F> {
    /// `None` once the future is dropped.
    future: Option<Pin<Box<F>>>,
    runtime: Arc<TaskRuntime>,
}

impl<F> ChargedTask<F> {
    pub(super) fn new(future: F, account: Arc<TaskRuntime>) -> Self {
        Self { future: Some(Box::pin(future)), runtime: account }
    }
}

impl<F: Future> Future for ChargedTask<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if let Some(runtime) = slice::charge() {
            self.runtime.0.store(runtime, Ordering::Relaxed);
        }
        polled
    }
}

/// Catches panics, because a task that panics while it is dropped would end the process.
impl<F> Drop for ChargedTask<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::error!("a task panicked while it was dropped");
        }
    }
}

/// A task on the threads for guests. Dropping the handle ends the task before its next turn.
#[derive(Debug)]
#[must_use = "dropping this ends the task; call `detach` to let it continue"]
pub struct GuestTask<T>(pub(super) async_task::Task<Option<T>, Arc<TaskRuntime>>);

impl<T> GuestTask<T> {
    /// Detaches the task, which continues without an awaiter.
    pub fn detach(self) {
        self.0.detach();
    }
}

/// Resolves to the task's result; `None` if the sandbox was dropped. Resumes a panic of the task.
impl<T> Future for GuestTask<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        pin!(&mut self.0).poll(context)
    }
}
