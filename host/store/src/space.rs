//! Room on the disk: a reserve that new data may not use, and a ballast to throw off when all is full.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The reserve on a large disk, in bytes.
const RESERVE: u64 = 256 << 20;
/// On a small one, this part of it.
const RESERVE_PART: u64 = 20;
/// The ballast is this part of the reserve.
const BALLAST_PART: u64 = 8;

/// Watches the disk that a data folder is on.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    dir: PathBuf,
    reserve: u64,
}

impl Space {
    /// `reserve` in bytes; by default 256 MiB or a twentieth of the disk, whichever is less.
    pub(crate) fn watch(dir: &Path, reserve: Option<u64>) -> Result<Self> {
        let (_, size) = room(dir)?;
        Ok(Self { dir: dir.to_owned(), reserve: reserve.unwrap_or_else(|| RESERVE.min(size / RESERVE_PART)) })
    }

    /// Refuses new data when it would use the reserve.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub(crate) fn check(&self) -> Result<()> {
        let (free, _) = room(&self.dir)?;
        if free < self.reserve {
            return Err(Error::Full { path: self.dir.clone(), free, reserve: self.reserve });
        }
        Ok(())
    }

    /// Throws the ballast off when there is no room even to start.
    pub(crate) fn make_room(&self) -> Result<()> {
        let ballast = self.ballast();
        if room(&self.dir)?.0 < self.reserve / BALLAST_PART && ballast.exists() {
            fs::remove_file(&ballast).map_err(Error::io("remove", &ballast))?;
            tracing::warn!(
                "the disk is full: the ballast was thrown off, so that there is room to start; free some space"
            );
        }
        Ok(())
    }

    /// Takes the ballast on where there is room for it. Without it everything works, but for a start on a full disk.
    pub(crate) fn keep_ballast(&self) {
        let (ballast, size) = (self.ballast(), self.reserve / BALLAST_PART);
        let enough = room(&self.dir).is_ok_and(|(free, _)| free >= self.reserve.saturating_add(size));
        if size == 0 || !enough || ballast.exists() {
            return;
        }
        let taken = File::create(&ballast).and_then(|file| {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).map_err(io::Error::from)
        });
        if let Err(error) = taken {
            tracing::debug!(%error, "no ballast is kept");
            let _ = fs::remove_file(&ballast);
        }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("BALLAST")
    }
}

/// How much is free for us, and how large the disk is, in bytes.
fn room(dir: &Path) -> Result<(u64, u64)> {
    let room = rustix::fs::statvfs(dir).map_err(|error| Error::io("look at the disk of", dir)(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
    Ok((bytes(room.f_bavail), bytes(room.f_blocks)))
}
