//! Runs konnectors, which are WebAssembly components without any access beyond the capabilities that they are granted.
//!
//! A [`Sandbox`] compiles a component into a [`Program`] and runs it with a [`RunInput`] and
//! [`Capabilities`](capability::Capabilities). The run returns a [`RunOutput`], which contains its [`Outcome`] and a
//! [`Receipt`] of its effects and its resource usage. This crate depends on wasmtime and the contract in `wit/`; it
//! depends neither on an HTTP API nor on a database.

#[cfg(not(panic = "unwind"))]
compile_error!("a panic in a host function ends one run and not the server: build with panic = \"unwind\"");

mod bindings;
mod cache;
pub mod capability;
mod clock;
pub mod compile;
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
mod request_cpu;
mod run;
mod sandbox;
mod scheduler;
mod side_tasks;
mod stdio;
mod stdout_session;
mod ticker;
mod wasi_overrides;

pub use cache::CodeKey;
pub use error::Error;
pub use inspect::{ComponentInfo, ComponentKind, MAX_COMPONENT_SIZE};
pub use job::{Failure, Problem, Report, RunCause, RunInput, UserAction};
pub use limits::{ClampedLimit, LimitPolicy, Limits};
pub use outcome::{AbortReason, Outcome, RunOutput};
pub use program::{ComponentDigest, Preparation, Program};
pub use receipt::{CodeOrigin, Receipt, WriteCount};
pub use sandbox::{Sandbox, SandboxOptions};
pub use scheduler::GuestTask;
