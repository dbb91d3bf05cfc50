//! Runs konnectors: WebAssembly components that reach nothing but what they are given.
//!
//! A [`Sandbox`] compiles a component into a [`Program`] and runs it with a [`Job`] and [`Capabilities`](capability::Capabilities). What
//! comes back is an [`Ended`]: how the run ended, and a [`Receipt`] of what it did and used. This crate knows wasmtime and the contract in
//! `wit/`; it knows neither an HTTP API nor a database.

#[cfg(not(panic = "unwind"))]
compile_error!("a panic in a host function ends one run and not the server: build with panic = \"unwind\"");

mod beside;
mod bill;
mod bindings;
mod bounded;
mod cache;
pub mod capability;
mod clock;
pub mod compile;
mod conversation;
mod engine;
mod environment;
mod error;
#[doc(hidden)]
pub mod filesystem;
mod host;
mod inspect;
mod job;
mod limits;
mod linker;
mod logs;
mod memory;
mod meter;
mod outcome;
mod program;
pub mod protocol;
mod receipt;
mod run;
mod sandbox;
mod scheduler;
pub mod sniff;
mod stdio;
mod ticker;

pub use cache::CodeKey;
pub use error::Error;
pub use inspect::{ComponentInfo, Kind, MAX_COMPONENT_SIZE};
pub use job::{Action, Cause, Failure, Job, Problem, Report};
pub use limits::{Cut, LimitPolicy, Limits};
pub use outcome::{Ended, Ending, Outcome};
pub use program::{Digest, Origin, Program};
pub use receipt::{CodeOrigin, Receipt, WriteCount};
pub use sandbox::{Options, Sandbox};
pub use scheduler::GuestTask;
