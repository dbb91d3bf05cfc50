//! Compilation of a component to machine code. wasmtime does not treat attacks of a component on its compiler as
//! vulnerabilities, so the server compiles in a sandboxed child process; see [`Compiler`].

mod child_side;
mod jail;
mod parent_side;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use wasmtime::Engine;

pub use child_side::{CompilerArguments, JailProbe, compile_standard_input, probe_jail};

use crate::error::Error;
use konnector_egress::text;

/// Where components are compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, for tests and for authors who compile their own components. A component can use unlimited
    /// memory and time.
    #[default]
    InProcess,
    /// In a child process without network, files or children, within [`CompileLimits`]. It receives the component on
    /// its standard input, and must call [`compile_standard_input`].
    Child {
        /// Path of the program.
        program: PathBuf,
        /// First arguments of the program, before [`CompilerArguments`].
        args: Vec<OsString>,
        /// Limits of the compilation.
        limits: CompileLimits,
    },
}

/// Limits on compiling one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Number of bytes of address space.
    pub memory: u64,
    /// CPU time in whole seconds.
    pub cpu: Duration,
    /// Time from the start to the end.
    pub wall: Duration,
    /// Number of bytes of machine code.
    pub code: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 4 << 30, cpu: Duration::from_secs(120), wall: Duration::from_secs(300), code: 256 << 20 }
    }
}

/// A limit that the compilation of a component exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileLimit {
    /// The address space, [`CompileLimits::memory`].
    Memory(u64),
    /// The CPU time, [`CompileLimits::cpu`].
    Cpu(Duration),
    /// The elapsed time, [`CompileLimits::wall`].
    Wall(Duration),
    /// The size of the machine code, [`CompileLimits::code`].
    Code(u64),
}

impl fmt::Display for CompileLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} of memory", text::ByteSize(*bytes)),
            Self::Cpu(time) => write!(f, "{} seconds of CPU time", time.as_secs()),
            Self::Wall(time) => write!(f, "{} seconds", time.as_secs_f64()),
            Self::Code(bytes) => write!(f, "{} of machine code", text::ByteSize(*bytes)),
        }
    }
}

impl Compiler {
    /// Uses the current executable as the child; `args` make it call [`compile_standard_input`].
    ///
    /// # Errors
    ///
    /// If the path of the current executable cannot be determined.
    pub fn this_program(args: impl IntoIterator<Item = OsString>, limits: CompileLimits) -> std::io::Result<Self> {
        // The link points to the running program even after an upgrade has replaced the file, because a newer
        // compiler's code would not load here.
        let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        Ok(Self::Child { program, args: args.into_iter().collect(), limits })
    }

    /// Compiles machine code that `engine` can load, which must have this reservation for each memory. Dropping the
    /// future kills a child; in this process the compilation continues.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        memory_reservation: u64,
        component: &[u8],
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::InProcess => {
                let (engine, component) = (engine.clone(), component.to_vec());
                let compile = move || engine.precompile_component(&component);
                let compiled = tokio::task::spawn_blocking(compile).await;
                let compiled = compiled.map_err(|panic| Error::CompilerFailed(panic.to_string()))?;
                compiled.map_err(|error| Error::Compile(format!("{error:#}")))
            }
            Self::Child { program, args, limits } => {
                parent_side::compile(program, args, *limits, memory_reservation, component).await
            }
        }
    }
}
