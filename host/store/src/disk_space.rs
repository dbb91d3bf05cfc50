//! Free space on the disk: a reserve that new data may not use, and a ballast file to delete when the disk is full.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The reserve on a large disk, in bytes.
const MAX_DEFAULT_RESERVE_BYTES: u64 = 256 << 20;
/// The reserve on a small disk, as a fraction of the disk.
const RESERVE_DIVISOR: u64 = 20;
/// The ballast, as a fraction of the reserve.
const BALLAST_DIVISOR: u64 = 8;

/// Monitors the disk of a data folder.
#[derive(Debug, Clone)]
pub(crate) struct DiskSpace {
    dir: PathBuf,
    reserve_bytes: u64,
}

impl DiskSpace {
    /// Monitors the disk of `dir`. `reserve` is in bytes; by default 256 MiB or a twentieth of the disk, whichever is
    /// less.
    pub(crate) fn new(dir: &Path, reserve: Option<u64>) -> Result<Self> {
        let (_, size) = free_and_total_bytes(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            reserve_bytes: reserve.unwrap_or_else(|| MAX_DEFAULT_RESERVE_BYTES.min(size / RESERVE_DIVISOR)),
        })
    }

    /// Fails if new data would use the reserve.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`] if less than the reserve is free.
    pub(crate) fn check(&self) -> Result<()> {
        let (free, _) = free_and_total_bytes(&self.dir)?;
        if free < self.reserve_bytes {
            return Err(Error::DiskFull { path: self.dir.clone(), free, reserve: self.reserve_bytes });
        }
        Ok(())
    }

    /// Deletes the ballast if there is not enough space even to start.
    pub(crate) fn release_ballast(&self) -> Result<()> {
        let ballast = self.ballast_path();
        if free_and_total_bytes(&self.dir)?.0 < self.reserve_bytes / BALLAST_DIVISOR && ballast.exists() {
            fs::remove_file(&ballast).map_err(Error::io("remove", &ballast))?;
            tracing::warn!("the disk is full: deleted the ballast file to make room for the start; free some space");
        }
        Ok(())
    }

    /// Creates the ballast if there is space for it. Without it, everything works except a start on a full disk.
    pub(crate) fn allocate_ballast(&self) {
        let (ballast, size) = (self.ballast_path(), self.reserve_bytes / BALLAST_DIVISOR);
        let enough =
            free_and_total_bytes(&self.dir).is_ok_and(|(free, _)| free >= self.reserve_bytes.saturating_add(size));
        if size == 0 || !enough || ballast.exists() {
            return;
        }
        let result = File::create(&ballast).and_then(|file| {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).map_err(io::Error::from)
        });
        if let Err(error) = result {
            tracing::debug!(%error, "cannot create the ballast file");
            let _ = fs::remove_file(&ballast);
        }
    }

    fn ballast_path(&self) -> PathBuf {
        self.dir.join("BALLAST")
    }
}

/// Returns the space available to this process and the size of the disk, in bytes.
fn free_and_total_bytes(dir: &Path) -> Result<(u64, u64)> {
    let statistics =
        rustix::fs::statvfs(dir).map_err(|error| Error::io("read the free space of", dir)(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(statistics.f_frsize);
    Ok((bytes(statistics.f_bavail), bytes(statistics.f_blocks)))
}
