//! One process per data folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// The lock on a data folder. Dropping it, or the end of the process, releases it.
///
/// The kernel ties the lock to the open file, and a child process that is being started has a copy of that file until
/// it executes its program. Therefore the lock is released explicitly: closing only our copy would leave the folder
/// locked for that moment.
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock on the data folder is released only when its file is closed");
        }
    }
}

/// Takes the lock of a data folder.
///
/// # Errors
///
/// [`Error::Locked`] if another process holds the lock.
pub(super) fn acquire(dir: &Path) -> Result<FolderLock> {
    let path = dir.join("LOCK");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let process = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(Error::Locked { path: dir.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(Error::Io { action: "lock", path, source }),
    }
    // For the error message above; the kernel holds the lock itself.
    let name = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    name(&mut file).map_err(Error::io("write", path))?;
    Ok(FolderLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_a_child_process_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = acquire(dir.path()).unwrap();
        // The state that `fork` leaves in a child until `exec`.
        let copy = lock.0.try_clone().unwrap();
        assert!(matches!(acquire(dir.path()), Err(Error::Locked { .. })));
        drop(lock);
        acquire(dir.path()).unwrap();
        drop(copy);
    }
}
