//! Errors that occur before a run.

use std::path::PathBuf;

use crate::compile::CompileLimit;

/// Why a component cannot be run, or a sandbox cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The component is too large.
    #[error(
        "the component is {size} bytes long, but the limit is {limit} bytes; build it with the guest profile, which \
         optimises and strips it"
    )]
    TooLarge {
        /// Size of the component in bytes.
        size: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The bytes are not WebAssembly.
    #[error(
        "the file begins with {beginning}, so it is not WebAssembly; `component` in the manifest must name a \
         .wasm file"
    )]
    NotWasm {
        /// The first bytes, in readable form.
        beginning: String,
    },
    /// WebAssembly, but not a component.
    #[error(
        "the file is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2` (or convert it \
         with `wasm-tools component new`)"
    )]
    CoreModule,
    /// Truncated or invalid WebAssembly.
    #[error("the component is damaged: {0}")]
    Malformed(String),
    /// The component exports neither `konnector:host/run` nor `wasi:cli/run`.
    #[error(
        "the component exports neither `konnector:host/run` nor `wasi:cli/run`, so there is nothing to start{}; mark a \
         function with `#[konnector]` and build a `cdylib`, or build a program with a `main`",
        format_exports(exports)
    )]
    MissingRunExport {
        /// The exports of the component.
        exports: Vec<String>,
    },
    /// Built for another version of the contract.
    #[error(
        "the component was built for konnector:host {found}, but this server supports {supported}; build it with a \
         matching SDK"
    )]
    UnsupportedVersion {
        /// Version that the component exports.
        found: String,
        /// Versions that this host accepts.
        supported: &'static str,
    },
    /// A command for an unsupported version of WASI.
    #[error("the component is a WASI {found} command, but this server supports WASI 0.2; build it for `wasm32-wasip2`")]
    UnsupportedWasiVersion {
        /// Version that the component exports.
        found: String,
    },
    /// An import that is not granted.
    #[error("the component imports `{interface}`, which is not available to konnectors: {advice}")]
    ForbiddenImport {
        /// Full name of the interface.
        interface: String,
        /// How to fix the component.
        advice: &'static str,
    },
    /// wasmtime rejects the component.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// Compiling the component exceeds a limit.
    #[error(
        "compiling the component exceeds the limit of {0}; build it optimised and stripped, and split very large \
         parts; a konnector should never come near this limit"
    )]
    CompileLimit(CompileLimit),
    /// The compiler cannot be started, or crashed.
    #[error("the compiler failed: {0}")]
    CompilerFailed(String),
    /// wasmtime cannot link the component.
    #[error("cannot link the component: {0}")]
    Link(String),
    /// The directory for compiled components cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Cache {
        /// The operation that failed.
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The engine cannot be created on this machine.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
}

/// Maximum number of names in an error, because a component may export any number of them.
const MAX_LISTED_EXPORTS: usize = 8;

fn format_exports(exports: &[String]) -> String {
    let listed: Vec<&str> = exports.iter().take(MAX_LISTED_EXPORTS).map(String::as_str).collect();
    match (listed.as_slice(), exports.len() - listed.len()) {
        ([], _) => String::new(),
        (some, 0) => format!(" (it exports {})", some.join(", ")),
        (some, more) => format!(" (it exports {} and {more} more)", some.join(", ")),
    }
}
