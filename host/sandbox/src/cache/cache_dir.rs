//! The directory of compiled code, which only this user can access. All operations use its descriptor, so a path that
//! changes in the meantime has no effect.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fchmod, openat, renameat, statat, unlinkat};

/// Mode bits that let the group or others write.
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
/// Files that this module writes, now or in an earlier version.
const MANAGED_EXTENSIONS: [&str; 3] = [".cwasm", ".sha256", ".tmp"];
/// Minimum age of an unfinished file to be considered left over from a process that has ended.
const STALE_TEMP_FILE_AGE: Duration = Duration::from_secs(3_600);

/// An open directory that no other user can write to.
#[derive(Debug)]
pub(super) struct CacheDir(OwnedFd);

impl CacheDir {
    /// Opens the directory if it exists and no other user could have written to it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let folder =
            Self(rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?);
        if folder.metadata()?.mode() & GROUP_OR_OTHERS_WRITE != 0 {
            return Err(io::Error::other("other users can write to the directory of compiled code"));
        }
        Ok(folder)
    }

    /// Opens or creates the directory. If others could write to it, deletes its compiled code and removes their access.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let folder =
            Self(rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?);
        if folder.metadata()?.mode() & GROUP_OR_OTHERS_WRITE != 0 {
            tracing::warn!(
                folder = %dir.display(),
                "other users could write to the directory of compiled code; deleting the compiled code in it"
            );
            fchmod(&folder.0, Mode::RWXU)?;
            for (name, _) in folder.managed_files()? {
                unlinkat(&folder.0, &name, AtFlags::empty())?;
            }
        }
        Ok(folder)
    }

    fn metadata(&self) -> io::Result<std::fs::Metadata> {
        let metadata = File::from(self.0.try_clone()?).metadata()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(
                "it belongs to another user; delete it, or change its owner to the server's user",
            ));
        }
        Ok(metadata)
    }

    /// Opens a file if only this user can have written it.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        // Nonblocking, because a pipe in place of the file must not block the server.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        let is_trusted = found.is_file()
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.mode() & GROUP_OR_OTHERS_WRITE == 0
            // A second link would allow access that bypasses this directory.
            && found.nlink() == 1;
        if is_trusted { Ok(file) } else { Err(io::Error::other("other users can write to it")) }
    }

    /// Writes under a temporary name, syncs to disk, then renames, so a reader sees the whole file or none.
    pub(super) fn write_file(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let unfinished = format!("{name}.{}.tmp", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = || {
            let mut file = File::from(openat(&self.0, &unfinished, flags, Mode::RUSR)?);
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            renameat(&self.0, &unfinished, &self.0, name)?;
            Ok(())
        };
        // Left over from an earlier process with the same id.
        let _ = unlinkat(&self.0, &unfinished, AtFlags::empty());
        write().inspect_err(|_| {
            // A file that cannot be written can often not be removed either; the first error is the relevant one.
            let _ = unlinkat(&self.0, &unfinished, AtFlags::empty());
        })
    }

    /// Records the use of a file, for [`CacheDir::clean_up`].
    pub(super) fn touch(&self, file: &File) {
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!(%error, "cannot record the use of compiled code");
        }
    }

    /// Removes files with a suffix other than `suffix`, then the least recently used ones, until at most `max_bytes`
    /// bytes are left. Never removes `fresh`.
    pub(super) fn clean_up(&self, suffix: &str, fresh: &str, max_bytes: u64) -> io::Result<()> {
        let mut remaining = Vec::new();
        for (name, stat) in self.managed_files()? {
            let used = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
            let in_work = name.ends_with(".tmp") && used.elapsed().is_ok_and(|age| age < STALE_TEMP_FILE_AGE);
            if name.ends_with(suffix) {
                remaining.push((used, u64::try_from(stat.st_size).unwrap_or_default(), name));
            } else if !in_work {
                unlinkat(&self.0, &name, AtFlags::empty())?;
            }
        }
        remaining.sort();
        let mut total: u64 = remaining.iter().map(|(_, size, _)| size).sum();
        for (_, size, name) in remaining.iter().filter(|(.., name)| name != fresh) {
            if total <= max_bytes {
                break;
            }
            unlinkat(&self.0, name, AtFlags::empty())?;
            total -= size;
        }
        Ok(())
    }

    fn managed_files(&self) -> io::Result<Vec<(String, rustix::fs::Stat)>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if MANAGED_EXTENSIONS.iter().any(|ending| name.ends_with(ending)) {
                files.push((name.to_owned(), statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?));
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_that_others_could_have_written_are_not_opened() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("cache");
        let folder = CacheDir::create(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        folder.write_file("a.cwasm", &[b"code"]).unwrap();
        assert!(folder.open_file("a.cwasm").is_ok());

        std::os::unix::fs::symlink(dir.join("a.cwasm"), dir.join("link.cwasm")).unwrap();
        assert!(folder.open_file("link.cwasm").is_err(), "a symbolic link");
        fs::hard_link(dir.join("a.cwasm"), dir.join("b.cwasm")).unwrap();
        assert!(folder.open_file("a.cwasm").is_err(), "a second name");
        fs::remove_file(dir.join("b.cwasm")).unwrap();
        fs::set_permissions(dir.join("a.cwasm"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(folder.open_file("a.cwasm").is_err(), "others can write");
        fs::create_dir(dir.join("c.cwasm")).unwrap();
        assert!(folder.open_file("c.cwasm").is_err(), "a folder");
    }

    #[test]
    fn a_folder_that_others_could_write_to_is_emptied_and_closed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("cache");
        CacheDir::create(&dir).unwrap().write_file("a.cwasm", &[b"code"]).unwrap();
        fs::write(dir.join("notes"), "not ours").unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(CacheDir::open(&dir).is_err());
        CacheDir::create(&dir).unwrap();
        assert!(CacheDir::open(&dir).is_ok());
        assert_eq!(names(&dir), ["notes"]);
    }

    #[test]
    fn files_of_other_engines_and_least_recently_used_files_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("cache");
        let folder = CacheDir::create(&dir).unwrap();
        for (age, name) in [(50, "one-e1.cwasm"), (40, "two-e2.cwasm"), (30, "three-e2.cwasm"), (20, "four-e2.cwasm")] {
            folder.write_file(name, &[&[0; 100]]).unwrap();
            let file = folder.open_file(name).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        folder.write_file("one-e1.sha256", &[b""]).unwrap();
        folder.write_file("x.1.tmp", &[b"being written"]).unwrap();
        folder.touch(&folder.open_file("two-e2.cwasm").unwrap());
        folder.clean_up("-e2.cwasm", "four-e2.cwasm", 250).unwrap();
        assert_eq!(names(&dir), ["four-e2.cwasm", "two-e2.cwasm", "x.1.tmp"]);
        folder.clean_up("-e2.cwasm", "four-e2.cwasm", 0).unwrap();
        assert_eq!(names(&dir), ["four-e2.cwasm", "x.1.tmp"], "what was just written stays");
    }
}
