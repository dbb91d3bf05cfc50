//! Opening a data folder.
//!
//! ```text
//! <data folder>/sled/          the database
//! <data folder>/blobs/         contents of files and large documents
//! <data folder>/tmp/           contents being written; emptied at each start
//! <data folder>/quarantine/    what was set aside; never emptied by the program
//! <data folder>/LOCK           held while a process runs on the folder
//! ```

use std::fs::{DirBuilder, File};
use std::path::{Path, PathBuf};

use crate::blob::DiskBlobs;
use crate::error::{Error, Result};
use crate::sled_kv::SledKv;
use crate::{frame, key};

mod database;
mod lock;

/// The format of the data folder that this program writes, and the newest it reads.
const FORMAT: u32 = 1;

/// How to open a data folder.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much of the database is kept in memory, in bytes; 32 MiB unless set.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024 }
    }
}

/// An open data folder. The lock is to be dropped last.
pub(crate) struct Opened {
    pub(crate) kv: SledKv,
    pub(crate) blobs: DiskBlobs,
    pub(crate) lock: File,
}

pub(crate) fn open(dir: &Path, options: Options) -> Result<Opened> {
    create_dir(dir)?;
    let dir = dir.canonicalize().map_err(Error::io("open", dir))?;
    let lock = lock::take(&dir)?;
    let folder = |name| {
        let path = dir.join(name);
        create_dir(&path).map(|()| path)
    };
    let (database, blobs, tmp, quarantine) = (folder("sled")?, folder("blobs")?, folder("tmp")?, folder("quarantine")?);
    let db = database::open(&database, &quarantine, options.cache_bytes)?;
    check_format(&db, &dir)?;
    let kv = SledKv::new(db, &database)?;
    let durable = [&database, &database.join("blobs"), &blobs, &dir];
    for path in durable.into_iter().map(PathBuf::as_path).chain(dir.parent()) {
        sync_dir(path)?;
    }
    Ok(Opened { kv, blobs: DiskBlobs::open(&blobs, &tmp)?, lock })
}

/// Writes the format into a new database; the first barrier makes it durable.
fn check_format(db: &sled::Db, dir: &Path) -> Result<()> {
    let (key, what) = (key::format(), || "the format of the data folder".to_owned());
    match db.get(&key)?.map(|bytes| frame::decode::<u32>(what, &bytes)).transpose()? {
        Some(found) if found > FORMAT => Err(Error::Format { path: dir.to_owned(), found, supported: FORMAT }),
        Some(_) => Ok(()),
        None => {
            db.insert(key, frame::encode(what, &FORMAT)?)?;
            Ok(())
        }
    }
}

/// Makes a folder that nobody else may enter, unless it exists.
fn create_dir(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(Error::io("create", path))
}

/// Makes the names in a folder durable.
fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests;
