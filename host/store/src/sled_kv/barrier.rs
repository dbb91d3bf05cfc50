//! The barrier that makes writes durable.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// Waits until all earlier writes are durable.
pub(super) trait Barrier: Send {
    /// Waits for durability. After a failure, the state of every write since the last success is unknown.
    fn wait(&mut self) -> io::Result<()>;
}

/// sled's flush, which writes its buffers to the file, then an fsync of that file.
///
/// The handle is opened once and stays open, because the system reports a failed write-back once to each handle that
/// was open at the time, so a new one would miss it.
pub(super) struct FileBarrier {
    db: sled::Db,
    log: File,
}

impl FileBarrier {
    pub(super) fn new(db: sled::Db, dir: &Path) -> Result<Self> {
        let path = dir.join("db");
        let log = File::options().read(true).write(true).open(&path).map_err(Error::io("open", path))?;
        Ok(Self { db, log })
    }
}

impl Barrier for FileBarrier {
    fn wait(&mut self) -> io::Result<()> {
        self.db.flush()?;
        self.log.sync_all()
    }
}
