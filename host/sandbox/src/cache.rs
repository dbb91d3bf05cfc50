//! Machine code on disk. Loading it is like loading a shared library, because anyone who can write it controls the
//! process. Therefore, a file is used only if it carries a MAC for this component and this engine, under a key that is
//! not stored next to it, and if no other user could have written to it since.
//!
//! The checked file is the mapped file. It is opened once, the MAC is computed through that descriptor, and the same
//! descriptor is mapped. It is mapped instead of copied because its pages are then shared with the page cache and can
//! be reclaimed by the system. Between the check and the mapping, only a process of this user could change the content
//! (the directory has mode 0700, the file 0400 and one link), and such a process could equally write into this one.

mod cache_dir;
mod key;

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

pub use self::key::CodeKey;

use self::cache_dir::CacheDir;
use self::key::{Mac, TAG_BYTES};
use crate::error::Error;
use crate::program::ComponentDigest;

/// Maximum size of the machine code on disk in bytes; beyond it, the least recently used files are deleted.
const MAX_CODE_CACHE_BYTES: u64 = 1 << 30;

/// Stores and loads machine code. Cloning only increments a reference count.
#[derive(Debug, Clone)]
pub(crate) struct CodeCache {
    key: Arc<CodeKey>,
    engine: EngineId,
}

impl CodeCache {
    pub(crate) fn new(engine: &Engine, key: CodeKey) -> Self {
        Self { key: Arc::new(key), engine: EngineId::from_engine(engine) }
    }

    /// Loads a component that was compiled before; returns `None` if no trusted file exists. Blocks.
    pub(crate) fn load(&self, engine: &Engine, digest: ComponentDigest, dir: &Path) -> Option<Component> {
        let folder = CacheDir::open(dir).ok()?;
        let name = self.file_name(digest);
        let file = match folder.open_file(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, file = %dir.join(name).display(), "cannot use the compiled code; recompiling");
                return None;
            }
        };
        match self.is_authentic(&file, digest) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    file = %dir.join(name).display(),
                    "the compiled code was not created by this server, or was modified; recompiling"
                );
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, file = %dir.join(name).display(), "cannot read the compiled code; recompiling");
                return None;
            }
        }
        folder.touch(&file);
        load_mapped(engine, &file)
            .inspect_err(|error| {
                let file = dir.join(name);
                tracing::warn!(%error, file = %file.display(), "cannot load the compiled code; recompiling");
            })
            .ok()
    }

    /// Stores the compiler's output, and deletes the code of other engines. Blocks.
    pub(crate) fn store(&self, code: &[u8], digest: ComponentDigest, dir: &Path) -> Result<(), Error> {
        let failed = |action| move |source| Error::Cache { action, path: dir.to_owned(), source };
        let folder = CacheDir::create(dir).map_err(failed("use the directory"))?;
        let mut mac = self.mac(digest);
        mac.update(code);
        let name = self.file_name(digest);
        folder.write_file(&name, &[code, &mac.tag()]).map_err(failed("write compiled code into"))?;
        if let Err(error) = folder.clean_up(&self.engine.file_suffix(), &name, MAX_CODE_CACHE_BYTES) {
            tracing::warn!(%error, folder = %dir.display(), "cannot delete old compiled code");
        }
        Ok(())
    }

    /// Returns the name of a component's file. It contains everything that the code depends on, so another version of
    /// wasmtime or another processor does not find it.
    fn file_name(&self, digest: ComponentDigest) -> String {
        format!("{digest}{}", self.engine.file_suffix())
    }

    fn mac(&self, digest: ComponentDigest) -> Mac {
        let mut mac = self.key.mac();
        mac.update(b"konnector-code-1");
        mac.update(digest.as_bytes());
        mac.update(&self.engine.0);
        mac
    }

    /// Returns whether the file ends with the correct MAC of the preceding bytes.
    fn is_authentic(&self, mut file: &File, digest: ComponentDigest) -> io::Result<bool> {
        let Some(mut remaining) = file.metadata()?.len().checked_sub(TAG_BYTES as u64) else { return Ok(false) };
        let mut mac = self.mac(digest);
        let mut buffer = vec![0; 64 << 10];
        while remaining > 0 {
            let part = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            file.read_exact(part)?;
            mac.update(part);
            remaining -= part.len() as u64;
        }
        let mut tag = [0; TAG_BYTES];
        file.read_exact(&mut tag)?;
        Ok(mac.verify(&tag))
    }
}

/// Loads code that was never on disk.
pub(crate) fn load_from_memory(engine: &Engine, code: &[u8]) -> Result<Component, Error> {
    // SAFETY: these bytes come from this engine's compiler and have never left memory.
    #[expect(unsafe_code, reason = "wasmtime cannot check machine code; see SAFETY")]
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| Error::Compile(format!("{error:#}")))
}

/// Maps a file. The MAC at its end comes after the last section of the object, where nothing reads it.
fn load_mapped(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    use std::os::fd::AsRawFd as _;

    // wasmtime takes the path of a component, not a descriptor; this path is the descriptor.
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // SAFETY: the MAC proves that this server's compiler produced the content for this engine; the module's docs say
    // who could change it in the meantime.
    #[expect(unsafe_code, reason = "wasmtime cannot check machine code; see SAFETY")]
    unsafe {
        Component::deserialize_file(engine, format!("{folder}/{}", file.as_raw_fd()))
    }
}

/// Identifies everything about an engine that code depends on: version, target, processor, flags.
#[derive(Debug, Clone, Copy)]
struct EngineId([u8; 16]);

impl EngineId {
    fn from_engine(engine: &Engine) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let mut id = [0; 16];
        id.iter_mut().zip(hasher.0.finalize()).for_each(|(to, from)| *to = from);
        Self(id)
    }

    fn file_suffix(&self) -> String {
        format!("-{}.cwasm", hex::encode(self.0))
    }
}

/// Hasher with a stable result, unlike [`std::hash::DefaultHasher`], which has 64 bits and may change with the
/// compiler.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
