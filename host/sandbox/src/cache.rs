//! Compiled components on disk. Loading one is like loading a shared library: the folder belongs to the service alone (mode 0700), and a
//! file is used only if its checksum, kept beside it, is right.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::Error;
use crate::program::Digest;

/// Makes a component ready to be instantiated: from the cache where it is there, else compiled and put there. Blocks for as long as the
/// compiler takes.
pub(crate) fn load_or_compile(engine: &Engine, bytes: &[u8], digest: Digest, dir: &Path) -> Result<Component, Error> {
    let artefact = Artefact::new(engine, digest, dir);
    if let Some(component) = artefact.load(engine) {
        return Ok(component);
    }
    make_dir(dir)?;
    let compiled = engine.precompile_component(bytes).map_err(|error| Error::Compile(format!("{error:#}")))?;
    artefact.store(&compiled)?;
    match artefact.load(engine) {
        Some(component) => Ok(component),
        // Somebody changed the file already; what was compiled is still here.
        None => deserialize(engine, &compiled),
    }
}

/// The pair of files that one compiled component is.
struct Artefact {
    code: PathBuf,
    checksum: PathBuf,
}

impl Artefact {
    /// The name holds everything that the code depends on, so that another version of wasmtime or another processor misses.
    fn new(engine: &Engine, digest: Digest, dir: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{digest}-{:016x}", hasher.finish());
        Self { code: dir.join(format!("{name}.cwasm")), checksum: dir.join(format!("{name}.sha256")) }
    }

    /// `None` if there is nothing, or nothing usable.
    fn load(&self, engine: &Engine) -> Option<Component> {
        let expected = fs::read_to_string(&self.checksum).ok()?;
        let found = checksum_of(&self.code).ok()?;
        if expected.trim() != found {
            tracing::warn!(file = %self.code.display(), "the checksum of a compiled component is wrong, it is compiled anew");
            return None;
        }
        // SAFETY: the file was written by `store`, from what this engine's compiler made: the name says which, the checksum says that it
        // is unchanged, and the folder can be written by this service alone.
        #[expect(unsafe_code, reason = "wasmtime cannot check machine code; see SAFETY")]
        let component = unsafe { Component::deserialize_file(engine, &self.code) };
        component
            .inspect_err(
                |error| tracing::warn!(%error, file = %self.code.display(), "a compiled component does not load"),
            )
            .ok()
    }

    /// The code before its checksum: after a power cut between the two, the code counts as absent.
    fn store(&self, compiled: &[u8]) -> Result<(), Error> {
        let checksum = hex::encode(Sha256::digest(compiled));
        write_whole(&self.code, compiled)?;
        write_whole(&self.checksum, checksum.as_bytes())
    }
}

fn deserialize(engine: &Engine, compiled: &[u8]) -> Result<Component, Error> {
    // SAFETY: these bytes come from this engine's compiler and were in memory ever since.
    #[expect(unsafe_code, reason = "wasmtime cannot check machine code; see SAFETY")]
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(|error| Error::Compile(format!("{error:#}")))
}

fn checksum_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| Error::Cache { action: "create the folder", path: dir.to_owned(), source })
}

/// Writes under another name, waits until it is on disk, renames: a reader sees all of it or nothing.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        // What cannot be written can often not be removed either; the error that counts is the first.
        let _ = fs::remove_file(&unfinished);
        Error::Cache { action: "write", path: path.to_owned(), source }
    })
}
