//! Components that are ready to run.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Engine;
use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::bindings::KonnectorWithRevealPre;
use crate::cache;
use crate::error::Error;
use crate::host::Host;
use crate::inspect::{ComponentInfo, Kind, inspect};

/// Programs that are kept ready; beyond that the one that was used longest ago goes.
const KEPT: usize = 64;

/// SHA-256 of a component's bytes; shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a component.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl std::str::FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest)?;
        Ok(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A component, compiled and linked. A clone costs a counter.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

/// A component with everything linked that it imports, by what is called to run it.
pub(crate) enum Pre {
    Typed(KonnectorWithRevealPre<Host>),
    Command(CommandPre<Host>),
}

impl Pre {
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Typed(pre) => pre.engine(),
            Self::Command(pre) => pre.engine(),
        }
    }
}

struct Inner {
    pre: Pre,
    info: ComponentInfo,
    digest: Digest,
}

impl Program {
    /// What the component is and wants.
    pub fn info(&self) -> &ComponentInfo {
        &self.0.info
    }

    /// What it was made from.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    pub(crate) fn pre(&self) -> &Pre {
        &self.0.pre
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("digest", &self.0.digest.to_string()).field("info", &self.0.info).finish()
    }
}

/// Makes programs, and keeps those last used.
pub(crate) struct Programs {
    engine: Engine,
    linker: Linker<Host>,
    ready: Mutex<Ready>,
    /// One compilation at a time: it takes a processor for itself, and memory.
    compiler: Semaphore,
}

#[derive(Default)]
struct Ready {
    programs: HashMap<Digest, Entry>,
    uses: u64,
}

#[derive(Default)]
struct Entry {
    program: Arc<OnceCell<Program>>,
    last_use: u64,
}

impl Programs {
    pub(crate) fn new(engine: Engine, linker: Linker<Host>) -> Self {
        Self { engine, linker, ready: Mutex::default(), compiler: Semaphore::new(1) }
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Callers that ask for the same component at the same time wait for one compilation.
    pub(crate) async fn prepare(&self, bytes: &[u8], cache_dir: &Path) -> Result<Program, Error> {
        let digest = Digest::of(bytes);
        let cell = self.ready().entry(digest);
        let program = cell.get_or_try_init(|| self.make(bytes, digest, cache_dir)).await?;
        Ok(program.clone())
    }

    /// The program of these bytes, if it was prepared lately.
    pub(crate) fn prepared(&self, digest: Digest) -> Option<Program> {
        self.ready().find(digest)
    }

    async fn make(&self, bytes: &[u8], digest: Digest, cache_dir: &Path) -> Result<Program, Error> {
        let info = inspect(bytes)?;
        let fault = |error: &dyn fmt::Display| Error::Compile(format!("the compiler failed: {error}"));
        let _turn = self.compiler.acquire().await.map_err(|closed| fault(&closed))?;
        let (engine, bytes, dir) = (self.engine.clone(), bytes.to_vec(), cache_dir.to_owned());
        let compile = tokio::task::spawn_blocking(move || cache::load_or_compile(&engine, &bytes, digest, &dir));
        let component = compile.await.map_err(|panic| fault(&panic))??;
        let pre = self.link(&component, &info.kind).map_err(|error| Error::Link(format!("{error:#}")))?;
        Ok(Program(Arc::new(Inner { pre, info, digest })))
    }

    fn link(&self, component: &wasmtime::component::Component, kind: &Kind) -> wasmtime::Result<Pre> {
        let pre: InstancePre<Host> = self.linker.instantiate_pre(component)?;
        Ok(match kind {
            Kind::Typed { .. } => Pre::Typed(KonnectorWithRevealPre::new(pre)?),
            Kind::Command => Pre::Command(CommandPre::new(pre)?),
        })
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ready {
    fn entry(&mut self, digest: Digest) -> Arc<OnceCell<Program>> {
        self.uses += 1;
        let entry = self.programs.entry(digest).or_default();
        entry.last_use = self.uses;
        let program = Arc::clone(&entry.program);
        self.make_room();
        program
    }

    fn find(&mut self, digest: Digest) -> Option<Program> {
        self.uses += 1;
        let entry = self.programs.get_mut(&digest)?;
        entry.last_use = self.uses;
        entry.program.get().cloned()
    }

    fn make_room(&mut self) {
        while self.programs.len() > KEPT {
            let Some(oldest) = self.programs.iter().min_by_key(|(_, entry)| entry.last_use).map(|(digest, _)| *digest)
            else {
                return;
            };
            self.programs.remove(&oldest);
        }
    }
}
