//! Components that are ready to run.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::bindings::KonnectorWithRevealPre;
use crate::cache::{self, CodeCache, CodeKey};
use crate::compile::Compiler;
use crate::engine::EngineSize;
use crate::error::Error;
use crate::host::Host;
use crate::inspect::{ComponentInfo, ComponentKind, inspect};

/// Maximum number of programs kept in memory; beyond it, the least recently used one is evicted.
const MAX_READY_PROGRAMS: usize = 64;

/// SHA-256 of a component's bytes; shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ComponentDigest([u8; 32]);

impl ComponentDigest {
    /// Computes the digest of a component's bytes.
    pub fn compute(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::str::FromStr for ComponentDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest)?;
        Ok(Self(digest))
    }
}

impl fmt::Display for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// How a program became ready to run in one call of `prepare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// The program was in memory.
    Memory,
    /// The code was on disk; the duration of loading and linking.
    Disk(Duration),
    /// The component was compiled; the duration includes the wait for other compilations.
    Compiled(Duration),
}

/// A component, compiled and linked. Cloning only increments a reference count.
#[derive(Clone)]
pub struct Program {
    inner: Arc<LinkedProgram>,
    preparation: Preparation,
}

/// A component with all its imports linked; the variant determines the export to call.
pub(crate) enum ProgramPre {
    Typed(KonnectorWithRevealPre<Host>),
    Command(CommandPre<Host>),
}

impl ProgramPre {
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Typed(pre) => pre.engine(),
            Self::Command(pre) => pre.engine(),
        }
    }
}

struct LinkedProgram {
    pre: ProgramPre,
    info: ComponentInfo,
    digest: ComponentDigest,
}

impl Program {
    /// Kind, imports and size of the component.
    pub fn info(&self) -> &ComponentInfo {
        &self.inner.info
    }

    /// Digest of the component.
    pub fn digest(&self) -> ComponentDigest {
        self.inner.digest
    }

    /// How the program became ready in the call that returned it.
    pub const fn preparation(&self) -> Preparation {
        self.preparation
    }

    pub(crate) fn pre(&self) -> &ProgramPre {
        &self.inner.pre
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("digest", &self.inner.digest.to_string())
            .field("info", &self.inner.info)
            .finish_non_exhaustive()
    }
}

/// Prepares programs and caches the most recently used ones.
pub(crate) struct ProgramCache {
    engine: Engine,
    memory_reservation: u64,
    linker: Linker<Host>,
    ready: Mutex<ReadyPrograms>,
    code_cache: CodeCache,
    compiler: Compiler,
    /// One compilation at a time, because it occupies a processor and takes memory.
    compile_permits: Semaphore,
}

#[derive(Default)]
struct ReadyPrograms {
    programs: HashMap<ComponentDigest, ReadyProgram>,
    uses: u64,
}

#[derive(Default)]
struct ReadyProgram {
    program: Arc<OnceCell<Arc<LinkedProgram>>>,
    last_use: u64,
}

impl ProgramCache {
    pub(crate) fn new(
        engine: Engine,
        size: EngineSize,
        linker: Linker<Host>,
        compiler: Compiler,
        key: CodeKey,
    ) -> Self {
        let cache = CodeCache::new(&engine, key);
        Self {
            engine,
            memory_reservation: size.memory_reservation(),
            linker,
            ready: Mutex::default(),
            code_cache: cache,
            compiler,
            compile_permits: Semaphore::new(1),
        }
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Prepares a program. Concurrent calls for the same component share one compilation.
    pub(crate) async fn prepare(&self, bytes: &[u8], cache_dir: &Path) -> Result<Program, Error> {
        let digest = ComponentDigest::compute(bytes);
        let cell = self.ready().entry(digest);
        let mut origin = Preparation::Memory;
        let prepared = cell.get_or_try_init(async || {
            let (inner, from) = self.load_or_compile(bytes, digest, cache_dir).await?;
            origin = from;
            Ok::<_, Error>(inner)
        });
        let inner = Arc::clone(prepared.await?);
        Ok(Program { inner, preparation: origin })
    }

    /// Returns the program with this digest, if it was prepared recently.
    pub(crate) fn get(&self, digest: ComponentDigest) -> Option<Program> {
        Some(Program { inner: self.ready().find(digest)?, preparation: Preparation::Memory })
    }

    async fn load_or_compile(
        &self,
        bytes: &[u8],
        digest: ComponentDigest,
        dir: &Path,
    ) -> Result<(Arc<LinkedProgram>, Preparation), Error> {
        let started = Instant::now();
        let info = inspect(bytes)?;
        // Loading compiled code does not wait for other compilations.
        let (component, origin): (_, fn(Duration) -> Preparation) = match self.load(digest, dir).await? {
            Some(component) => (component, Preparation::Disk),
            None => (self.compile(bytes, digest, dir).await?, Preparation::Compiled),
        };
        let pre = self.link(&component, &info.kind).map_err(|error| Error::Link(format!("{error:#}")))?;
        Ok((Arc::new(LinkedProgram { pre, info, digest }), origin(started.elapsed())))
    }

    async fn load(&self, digest: ComponentDigest, dir: &Path) -> Result<Option<Component>, Error> {
        let (cache, engine, dir) = (self.code_cache.clone(), self.engine.clone(), dir.to_owned());
        run_blocking(move || cache.load(&engine, digest, &dir)).await
    }

    async fn compile(&self, bytes: &[u8], digest: ComponentDigest, dir: &Path) -> Result<Component, Error> {
        let _permit =
            self.compile_permits.acquire().await.map_err(|closed| Error::CompilerFailed(closed.to_string()))?;
        let code = self.compiler.compile(&self.engine, self.memory_reservation, bytes).await?;
        let (cache, engine, dir) = (self.code_cache.clone(), self.engine.clone(), dir.to_owned());
        let keep = move || {
            cache.store(&code, digest, &dir)?;
            match cache.load(&engine, digest, &dir) {
                Some(component) => Ok(component),
                // The file has already been changed by another process; the compiled code is still in memory.
                None => cache::load_from_memory(&engine, &code),
            }
        };
        run_blocking(keep).await?
    }

    fn link(&self, component: &Component, kind: &ComponentKind) -> wasmtime::Result<ProgramPre> {
        let pre: InstancePre<Host> = self.linker.instantiate_pre(component)?;
        Ok(match kind {
            ComponentKind::Typed { .. } => ProgramPre::Typed(KonnectorWithRevealPre::new(pre)?),
            ComponentKind::Command => ProgramPre::Command(CommandPre::new(pre)?),
        })
    }

    fn ready(&self) -> parking_lot::MutexGuard<'_, ReadyPrograms> {
        self.ready.lock()
    }
}

impl ReadyPrograms {
    fn entry(&mut self, digest: ComponentDigest) -> Arc<OnceCell<Arc<LinkedProgram>>> {
        self.uses += 1;
        let entry = self.programs.entry(digest).or_default();
        entry.last_use = self.uses;
        let program = Arc::clone(&entry.program);
        self.evict();
        program
    }

    fn find(&mut self, digest: ComponentDigest) -> Option<Arc<LinkedProgram>> {
        self.uses += 1;
        let entry = self.programs.get_mut(&digest)?;
        entry.last_use = self.uses;
        entry.program.get().cloned()
    }

    fn evict(&mut self) {
        while self.programs.len() > MAX_READY_PROGRAMS {
            let Some(oldest) = self.programs.iter().min_by_key(|(_, entry)| entry.last_use).map(|(digest, _)| *digest)
            else {
                return;
            };
            self.programs.remove(&oldest);
        }
    }
}

/// Runs blocking work on files and machine code off the runtime's threads.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| Error::CompilerFailed(panic.to_string()))
}
