//! From the exported function to the author's; used by the code that `#[konnector]` writes.

use crate::bindings::exports::konnector::host::run::{Failure, Job, Report as WitReport};
use crate::{Context, Error, Report};

/// Marks the form `fn(Context) -> Result<impl Into<Report>>`.
#[derive(Debug)]
pub struct Typed<T>(std::marker::PhantomData<T>);
/// Marks the form `fn(Job) -> Result<Report, Failure>`.
#[derive(Debug)]
pub struct Raw;

/// A function that can be a konnector. `Form` only tells the two implementations apart.
pub trait EntryPoint<Form> {
    /// Runs it.
    fn call(self, job: Job) -> Result<WitReport, Failure>;
}

impl<F: FnOnce(Job) -> Result<WitReport, Failure>> EntryPoint<Raw> for F {
    fn call(self, job: Job) -> Result<WitReport, Failure> {
        self(job)
    }
}

impl<F: FnOnce(Context) -> Result<T, Error>, T: Into<Report>> EntryPoint<Typed<T>> for F {
    fn call(self, job: Job) -> Result<WitReport, Failure> {
        self(Context::new(job)).map(|report| report.into().into()).map_err(Failure::from)
    }
}

/// Runs the author's function. A panic is logged before it ends the run, because a trap alone carries no text.
pub fn start<Form>(function: impl EntryPoint<Form>, job: Job) -> Result<WitReport, Failure> {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| crate::log::panic(panic)));
    function.call(job)
}
