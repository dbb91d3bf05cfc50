//! Files that are being written. They are next to their target, under a temporary name, and are renamed once they are
//! complete.
//!
//! The writer of a draft holds a lock on it. A draft without a lock was left by a killed program, and the next draft in
//! the same folder removes it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{Result, file};
use crate::keys::sync_parent_folder;

const PREFIX: &str = ".konnector-draft-";
/// Mode of new files, from which the umask is subtracted.
const SHARED_MODE: u32 = 0o666;
const PRIVATE_MODE: u32 = 0o600;

/// File that is removed unless it is persisted.
pub struct Draft(NamedTempFile);

impl Draft {
    /// Creates a draft for a file that only its owner may read.
    pub fn new_private(target: &Path) -> Result<Self> {
        Self::new(target, PRIVATE_MODE)
    }

    /// Creates a draft for a file that others may read, too.
    pub fn new_shared(target: &Path) -> Result<Self> {
        Self::new(target, SHARED_MODE)
    }

    fn new(target: &Path, mode: u32) -> Result<Self> {
        let folder = parent_folder(target);
        remove_leftovers(folder);
        let mut builder = Builder::new();
        builder.prefix(PREFIX).permissions(Permissions::from_mode(mode));
        loop {
            let draft = Self(builder.tempfile_in(folder).map_err(file("write to", folder))?);
            match draft.0.as_file().lock() {
                // Another program may have deleted it as a leftover before it was locked.
                Ok(()) if draft.exists() => return Ok(draft),
                Ok(()) => {}
                // Without locks no leftover is deleted either.
                Err(_) => return Ok(draft),
            }
        }
    }

    fn exists(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino());
        matches!((inode(self.0.as_file().metadata()), inode(fs::symlink_metadata(self.path()))), (Ok(ours), Ok(there)) if ours == there)
    }

    /// Returns the temporary path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the file for writing.
    pub fn as_file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Like [`Self::as_file`], for async code.
    pub fn as_async_file(&self) -> Result<tokio::fs::File> {
        let clone = self.0.as_file().try_clone().map_err(file("write", self.path()))?;
        Ok(tokio::fs::File::from_std(clone))
    }

    /// Renames it to the target, replacing an existing file. After that it survives a power failure.
    pub fn persist(self, target: &Path) -> Result<()> {
        self.0.as_file().sync_all().map_err(file("write", target))?;
        self.0.persist(target).map_err(|error| file("write", target)(error.error))?;
        sync_parent_folder(target)
    }

    /// Like [`Self::persist`], but fails with [`io::ErrorKind::AlreadyExists`] if a file has the name.
    pub fn persist_noclobber(self, target: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist_noclobber(target).map(drop).map_err(|error| error.error)
    }
}

/// Writes a whole file, or leaves the existing one unchanged.
pub fn write(target: &Path, content: &[u8]) -> Result<()> {
    let mut draft = Draft::new_shared(target)?;
    io::Write::write_all(draft.as_file(), content).map_err(file("write", target))?;
    draft.persist(target)
}

fn parent_folder(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Deletes leftovers of killed programs; a folder that cannot be read contains nothing to delete.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        // The lock is held until the file is deleted.
        if let Ok(leftover) = File::options().write(true).open(&path)
            && leftover.try_lock().is_ok()
        {
            // Another program may have deleted it first.
            drop(fs::remove_file(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_program_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path_of = |name: &str| folder.path().join(name);
        let leftover = format!("{PREFIX}AAAAAA");
        for name in [&leftover, ".tmpabcdef", "bill.pdf"] {
            fs::write(path_of(name), "old").unwrap();
        }
        fs::create_dir(path_of(&format!("{PREFIX}folder"))).unwrap();
        let other = Draft::new_private(&path_of("other")).unwrap();
        write(&path_of("bill.pdf"), b"new").unwrap();
        let written = other.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec![written, format!("{PREFIX}folder"), ".tmpabcdef".to_owned(), "bill.pdf".to_owned()];
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::read(path_of("bill.pdf")).unwrap(), b"new");
    }

    #[test]
    fn an_abandoned_draft_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Draft::new_private(&folder.path().join("backup")).unwrap());
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_file_that_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bill.pdf");
        fs::write(&target, "old").unwrap();
        let result = Draft::new_private(&target).unwrap().persist_noclobber(&target);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["bill.pdf"]);
    }
}
