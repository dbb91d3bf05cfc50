//! One process per data folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Takes the lock of a data folder; dropping the file, or the end of the process, releases it.
///
/// # Errors
/// [`Error::Locked`] when another process has it.
pub(super) fn take(dir: &Path) -> Result<File> {
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
    // For the message above; the lock itself is in the kernel.
    let name = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    name(&mut file).map_err(Error::io("write", path))?;
    Ok(file)
}
