//! Runs konnectors, which are WebAssembly components without any access beyond the capabilities that they are granted.
//!
//! [`Sandbox::inspect`] rejects a component that imports anything else, without compiling it. [`Sandbox::prepare`]
//! compiles a component, or loads its compiled code, and returns a [`Program`]. [`Sandbox::run`] runs the program with
//! a [`RunInput`] and [`Capabilities`](capability::Capabilities). A run always ends: by itself, at one of its
//! [`Limits`], or after a cancellation. It returns a [`RunOutput`], which contains its [`Outcome`] and a [`Receipt`] of
//! its effects and its resource usage. A panic in a host function ends only its own run.
//!
//! A component is either typed, with the contract in `wit/`, or a command of WASI 0.2 that writes Cozy's protocol to
//! its standard output; see [`ComponentKind`]. The sandbox implements clocks, random numbers and `/tmp` itself. Its
//! network is a [`Session`](konnector_egress::Session) of the HTTP gate. All other capabilities are traits in
//! [`capability`] that the platform implements; `tests/src/fakes.rs` has implementations in memory.
//!
//! This crate depends on wasmtime and the contract; it depends neither on an HTTP API nor on a database. It stores
//! nothing except compiled code.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use konnector_sandbox::{ComponentKind, Error, Sandbox, SandboxOptions};
//!
//! // A command whose `main` returns success.
//! let command = wat::parse_str(
//!     r#"(component
//!          (core module $main (func (export "run") (result i32) (i32.const 0)))
//!          (core instance $main (instantiate $main))
//!          (func $run (result (result)) (canon lift (core func $main "run")))
//!          (instance $cli (export "run" (func $run)))
//!          (export "wasi:cli/run@0.2.0" (instance $cli)))"#,
//! )?;
//! let options = SandboxOptions { max_runs: 1, memory_ceiling: 16 << 20, ..SandboxOptions::default() };
//! let (sandbox, cache_dir) = (Sandbox::new(options)?, tempfile::tempdir()?);
//! let program = sandbox.prepare(&command, cache_dir.path()).await?;
//! assert_eq!(program.info().kind, ComponentKind::Command);
//! assert!(program.info().imports.is_empty());
//!
//! // A component that wants to open sockets is rejected before it is compiled.
//! let with_sockets = wat::parse_str(
//!     r#"(component
//!          (import "wasi:sockets/tcp@0.2.0" (instance))
//!          (instance $cli)
//!          (export "wasi:cli/run@0.2.0" (instance $cli)))"#,
//! )?;
//! assert!(matches!(Sandbox::inspect(&with_sockets), Err(Error::ForbiddenImport { .. })));
//! # Ok(())
//! # }
//! ```

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
