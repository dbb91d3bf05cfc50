//! What can go wrong before a run.

use std::path::PathBuf;

use crate::compile::CompileLimit;

/// Why a component is not run, or a sandbox not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Larger than accepted.
    #[error(
        "the component has {size} bytes, the limit is {limit}: build it with the guest profile (optimised, stripped)"
    )]
    TooLarge {
        /// Bytes of the component.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// The bytes are something else.
    #[error("this is not WebAssembly: it begins with {beginning}; `component` in the manifest must name a .wasm file")]
    NotWasm {
        /// The first bytes, readable.
        beginning: String,
    },
    /// WebAssembly, but not a component.
    #[error(
        "this is a core WebAssembly module, not a component: build it with `--target wasm32-wasip2` (or make one of it with \
         `wasm-tools component new`)"
    )]
    CoreModule,
    /// WebAssembly that breaks off or contradicts itself.
    #[error("the component is damaged: {0}")]
    Malformed(String),
    /// Neither `konnector:host/run` nor `wasi:cli/run`.
    #[error(
        "the component exports neither `konnector:host/run` nor `wasi:cli/run`, so there is nothing to start{}: mark a \
         function with `#[konnector]` and build a `cdylib`, or build a program with a `main`",
        format_exports(exports)
    )]
    MissingRunExport {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// Built for another version of the contract.
    #[error(
        "the component was built for konnector:host {found}, this server runs {supported}: build it with a matching SDK"
    )]
    UnsupportedVersion {
        /// Version that the component exports.
        found: String,
        /// Versions that this host accepts.
        supported: &'static str,
    },
    /// A command of another WASI.
    #[error("the component is a command of WASI {found}, this server runs those of 0.2: build it for `wasm32-wasip2`")]
    UnsupportedWasiVersion {
        /// Version that the component exports.
        found: String,
    },
    /// An import that is not granted.
    #[error("the component imports `{interface}`, which no konnector is given: {advice}")]
    ForbiddenImport {
        /// Full name of the interface.
        interface: String,
        /// What to do.
        advice: &'static str,
    },
    /// wasmtime refuses it.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// Compiling it goes over a limit.
    #[error(
        "compiling the component takes more than {0}: build it optimised and stripped, and split what is very large; nothing that a \
         konnector needs comes near"
    )]
    CompileLimit(CompileLimit),
    /// The compiler cannot be started, or fell over.
    #[error("the compiler failed: {0}")]
    CompilerFailed(String),
    /// wasmtime cannot link it.
    #[error("the component does not fit its interfaces: {0}")]
    Link(String),
    /// The folder for compiled components.
    #[error("cannot {action} {}: {source}", path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The engine cannot be made on this machine.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
}

/// Names in an error, of which a component may have as many as it likes.
const MAX_LISTED_EXPORTS: usize = 8;

fn format_exports(exports: &[String]) -> String {
    let listed: Vec<&str> = exports.iter().take(MAX_LISTED_EXPORTS).map(String::as_str).collect();
    match (listed.as_slice(), exports.len() - listed.len()) {
        ([], _) => String::new(),
        (some, 0) => format!(" (it exports {})", some.join(", ")),
        (some, more) => format!(" (it exports {} and {more} more)", some.join(", ")),
    }
}
