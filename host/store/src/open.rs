//! Opening a data folder.
//!
//! ```text
//! <data folder>/sled/          the database
//! <data folder>/blobs/         contents of files and large documents
//! <data folder>/tmp/           contents being written; emptied at each start
//! <data folder>/quarantine/    files that were set aside; never emptied by the program
//! <data folder>/backups/       copies made before the format changed; never emptied by the program
//! <data folder>/key            the fingerprint of the key that seals its secrets
//! <data folder>/BALLAST        reserved space, freed to start on a full disk
//! <data folder>/LOCK           held while a process runs on the folder
//! <data folder>/UNCLEAN        exists while the folder is open, and after a crash
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};

use crate::blob::DiskBlobs;
use crate::disk_space::DiskSpace;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::sled_kv::SledKv;

mod database;
mod fingerprint;
mod format;
mod lock;

pub use fingerprint::key_fingerprint;
pub(crate) use fingerprint::save_key_fingerprint;
pub(crate) use format::CURRENT_FORMAT;
use format::{MIGRATIONS, Migration, MigrationPlan};
use lock::FolderLock;

/// Options for opening a data folder.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Size of the database cache, in bytes; 32 MiB by default.
    pub cache_bytes: u64,
    /// Free disk space that new data must leave, in bytes. By default, 256 MiB or a twentieth of the disk, whichever is
    /// less.
    pub reserve_bytes: Option<u64>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024, reserve_bytes: None }
    }
}

/// An open data folder. The session must be dropped last.
pub(crate) struct OpenedFolder {
    pub(crate) kv: SledKv,
    pub(crate) blobs: DiskBlobs,
    pub(crate) session: FolderSession,
}

/// The use of a data folder by this process.
pub(crate) struct FolderSession {
    pub(crate) space: DiskSpace,
    /// Whether the folder was left unclean and has not been checked since.
    pub(crate) unclean: bool,
    /// Whether this process has found that the folder has no problems.
    pub(crate) checked: AtomicBool,
    /// When the folder was opened.
    pub(crate) opened_at: DateTime<Utc>,
    dir: PathBuf,
    _lock: FolderLock,
}

impl FolderSession {
    fn begin(dir: &Path, options: &StoreOptions) -> Result<Self> {
        let lock = lock::acquire(dir)?;
        let space = DiskSpace::new(dir, options.reserve_bytes)?;
        space.release_ballast()?;
        let marker = dir.join("UNCLEAN");
        let unclean = match File::options().write(true).create_new(true).open(&marker) {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => true,
            Err(error) => return Err(Error::io("write", marker)(error)),
        };
        sync_dir(dir)?;
        failpoint::hit("open.marked").map_err(Error::io("sync", dir))?;
        let (checked, opened_at) = (AtomicBool::new(!unclean), Utc::now());
        Ok(Self { space, unclean, checked, opened_at, dir: dir.to_owned(), _lock: lock })
    }

    /// Records a clean shutdown. A folder that was not checked after a crash stays marked.
    pub(crate) fn end(&self) -> Result<()> {
        if !self.checked.load(Ordering::Acquire) {
            return Ok(());
        }
        let marker = self.dir.join("UNCLEAN");
        failpoint::hit("close.closed").map_err(Error::io("sync", &self.dir))?;
        match fs::remove_file(&marker) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", marker)(error)),
            _ => sync_dir(&self.dir),
        }
    }

    /// Returns the path of the data folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

pub(crate) fn open(dir: &Path, options: &StoreOptions) -> Result<OpenedFolder> {
    open_with(dir, options, MIGRATIONS)
}

fn open_with(dir: &Path, options: &StoreOptions, migrations: &[Migration]) -> Result<OpenedFolder> {
    create_dir(dir)?;
    let dir = dir.canonicalize().map_err(Error::io("open", dir))?;
    let session = FolderSession::begin(&dir, options)?;
    let folder = |name| {
        let path = dir.join(name);
        create_dir(&path).map(|()| path)
    };
    let (database, blobs, tmp, quarantine) = (folder("sled")?, folder("blobs")?, folder("tmp")?, folder("quarantine")?);
    let open = || database::open(&database, &quarantine, options.cache_bytes);
    let mut db = open()?;
    failpoint::hit("open.database").map_err(Error::io("open", &database))?;
    if let MigrationPlan::Migrate { from, steps } = format::plan_migration(&db, &dir, migrations)? {
        // A closed database can be copied file by file.
        drop(db);
        format::back_up(&dir, &database, from)?;
        db = open()?;
        format::migrate(&db, &database, from, steps)?;
    }
    format::save_format(&db, migrations)?;
    let kv = SledKv::new(db, &database)?;
    let durable = [&database, &database.join("blobs"), &blobs, &dir];
    for path in durable.into_iter().map(PathBuf::as_path).chain(dir.parent()) {
        sync_dir(path)?;
    }
    failpoint::hit("open.synced").map_err(Error::io("open", &database))?;
    session.space.allocate_ballast();
    Ok(OpenedFolder { kv, blobs: DiskBlobs::open(&blobs, &tmp, session.space.clone())?, session })
}

/// Creates a folder that no other user may enter, unless it exists.
fn create_dir(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(Error::io("create", path))
}

/// Makes the entries of a folder durable.
fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests;
