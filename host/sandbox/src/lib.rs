//! Runs konnectors: WebAssembly components that reach nothing but what they are given.
//!
//! A [`Sandbox`] compiles a component into a [`Program`] and runs it with a [`Job`] and [`Capabilities`](capability::Capabilities). What
//! comes back is an [`Ended`]: how the run ended, and a [`Receipt`] of what it did and used. This crate knows wasmtime and the contract in
//! `wit/`; it knows neither an HTTP API nor a database.

mod bindings;
mod cache;
pub mod capability;
mod clock;
mod engine;
mod error;
#[doc(hidden)]
pub mod filesystem;
mod host;
pub mod http;
mod inspect;
mod job;
mod limits;
mod linker;
mod logs;
mod memory;
mod meter;
mod outcome;
mod program;
mod receipt;
mod run;
mod sandbox;
mod stdio;
mod text;

pub use error::Error;
pub use inspect::{ComponentInfo, MAX_COMPONENT_SIZE};
pub use job::{Action, Cause, Failure, Job, Problem, Report};
pub use limits::Limits;
pub use outcome::{Ended, Ending, Outcome};
pub use program::{Digest, Program};
pub use receipt::{Receipt, WriteCount};
pub use sandbox::{Options, Sandbox};
