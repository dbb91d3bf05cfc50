//! A local folder from which bundles are read. Its owner may not be the operator of the server, so nothing in it may
//! point outside or block a thread. Symbolic links are not followed, and only regular files are opened.

use std::io;
use std::path::{Component, Path, PathBuf};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions};

use super::archive::read_bounded;
use crate::{Error, Result};

/// A folder with bundle files. Reading blocks.
#[derive(Debug)]
pub struct ConfinedDir {
    dir: Dir,
    path: PathBuf,
}

impl ConfinedDir {
    /// Opens a folder. The folder itself may be a link, because the caller chose its name.
    ///
    /// # Errors
    ///
    /// If the operating system cannot open the folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: Dir::open_ambient_dir(path, ambient_authority())?, path: path.to_owned() })
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the direct subfolder with this name; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] for a link, and for anything that is not a folder.
    pub fn subdirectory(&self, name: &str) -> Result<Option<Self>> {
        let Some(metadata) = self.metadata(&self.dir, name)? else { return Ok(None) };
        if !metadata.is_dir() {
            return Err(self.rejected(name, "is not a folder"));
        }
        let dir = self.dir.open_dir_nofollow(name).map_err(|error| self.unreadable(name, &error))?;
        Ok(Some(Self { dir, path: self.path.join(name) }))
    }

    /// Reads the file with this relative path; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] for a path that points outside the folder, [`Error::Unreachable`] for a link and for
    /// anything that is not a regular file, [`Error::TooLarge`] for more than `max_size` bytes.
    pub fn read(&self, name: &str, max_size: u64) -> Result<Option<Vec<u8>>> {
        let Some((parent, last)) = self.parent(name)? else { return Ok(None) };
        let Some(found) = self.metadata(&parent, last)? else { return Ok(None) };
        if !found.is_file() {
            return Err(self.rejected(name, "is not a regular file"));
        }
        let mut options = OpenOptions::new();
        // The file may have been replaced since it was checked. Neither a link nor a pipe without a writer may block.
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let file = parent.open_with(last, &options).map_err(|error| self.unreadable(name, &error))?;
        let opened = file.metadata().map_err(|error| self.unreadable(name, &error))?;
        if !opened.is_file() {
            return Err(self.rejected(name, "is not a regular file"));
        }
        read_bounded(file, name, max_size).map(Some)
    }

    /// Returns whether a regular file with this relative path exists.
    #[must_use]
    pub fn has_file(&self, name: &str) -> bool {
        let found = self.parent(name).and_then(|found| match found {
            Some((parent, last)) => self.metadata(&parent, last),
            None => Ok(None),
        });
        matches!(found, Ok(Some(metadata)) if metadata.is_file())
    }

    /// Returns the folder in which a relative path ends, and the last name of the path.
    fn parent<'a>(&self, name: &'a str) -> Result<Option<(Dir, &'a str)>> {
        let mut names = parse_relative_path(name)?;
        let last = names.pop().unwrap_or_default();
        let mut dir = self.dir.try_clone().map_err(|error| self.unreadable(name, &error))?;
        for parent in names {
            match self.metadata(&dir, parent)? {
                None => return Ok(None),
                Some(metadata) if !metadata.is_dir() => return Err(self.rejected(parent, "is not a folder")),
                Some(_) => dir = dir.open_dir_nofollow(parent).map_err(|error| self.unreadable(name, &error))?,
            }
        }
        Ok(Some((dir, last)))
    }

    /// Returns the metadata of an entry, which must not be a link.
    fn metadata(&self, dir: &Dir, name: &str) -> Result<Option<Metadata>> {
        match dir.symlink_metadata(name) {
            Ok(metadata) if metadata.is_symlink() => {
                Err(self.rejected(name, "is a symbolic link; put the file or folder itself there"))
            }
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreadable(name, &error)),
        }
    }

    fn rejected(&self, name: &str, reason: &str) -> Error {
        Error::Unreachable(format!("'{}' {reason}", self.path.join(name).display()))
    }

    fn unreadable(&self, name: &str, error: &io::Error) -> Error {
        Error::Unreachable(format!("'{}' cannot be read: {error}", self.path.join(name).display()))
    }
}

/// Splits a relative path that stays inside its folder into names.
pub(super) fn parse_relative_path(path: &str) -> Result<Vec<&str>> {
    let names: Option<Vec<&str>> = Path::new(path)
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    names.filter(|names| !names.is_empty()).ok_or_else(|| {
        Error::BadRequest(format!(
            "the manifest names the file '{path}', which is not inside the bundle; use a relative path without .."
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn only_regular_files_that_lie_in_the_folder_itself_are_read() {
        let place = tempfile::tempdir().expect("a folder");
        let (folder, outside) = (place.path().join("bundle"), place.path().join("outside"));
        fs::create_dir_all(folder.join("assets")).expect("a folder");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("master-key"), b"secret").expect("written");
        fs::write(folder.join("assets/icon.svg"), b"<svg/>").expect("written");
        symlink(outside.join("master-key"), folder.join("link.svg")).expect("a link");
        symlink("assets/icon.svg", folder.join("inner-link.svg")).expect("a link");
        symlink("nowhere", folder.join("broken-link.svg")).expect("a link");
        symlink(&outside, folder.join("linked")).expect("a link");
        symlink("assets", folder.join("linked-inside")).expect("a link");
        assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().expect("mkfifo is installed").success());
        let _socket = UnixListener::bind(folder.join("socket")).expect("a socket");
        let opened = ConfinedDir::open(&folder).expect("opened");

        assert_eq!(opened.read("assets/icon.svg", 6).expect("read").as_deref(), Some(b"<svg/>".as_slice()));
        assert_eq!(opened.read("./assets/./icon.svg", 6).expect("read").as_deref(), Some(b"<svg/>".as_slice()));
        for absent in ["none", "assets/none", "none/none"] {
            assert_eq!(opened.read(absent, 6).expect("nothing"), None, "{absent}");
        }
        let told = |name: &str| {
            let error = opened.read(name, 5).expect_err(name).to_string();
            error.replace(&folder.display().to_string(), "DIR")
        };
        let names = [
            "assets/icon.svg",
            "link.svg",
            "inner-link.svg",
            "broken-link.svg",
            "linked/master-key",
            "linked-inside/icon.svg",
            "pipe",
            "socket",
            "assets",
            "link.svg/x",
            "../outside/master-key",
            "/etc/passwd",
            "assets/../../outside/master-key",
            "",
            ".",
        ];
        insta::assert_snapshot!(names.map(told).join("\n"), @r"
        'assets/icon.svg' in the source is larger than 5 bytes
        'DIR/link.svg' is a symbolic link; put the file or folder itself there
        'DIR/inner-link.svg' is a symbolic link; put the file or folder itself there
        'DIR/broken-link.svg' is a symbolic link; put the file or folder itself there
        'DIR/linked' is a symbolic link; put the file or folder itself there
        'DIR/linked-inside' is a symbolic link; put the file or folder itself there
        'DIR/pipe' is not a regular file
        'DIR/socket' is not a regular file
        'DIR/assets' is not a regular file
        'DIR/link.svg' is a symbolic link; put the file or folder itself there
        the manifest names the file '../outside/master-key', which is not inside the bundle; use a relative path without ..
        the manifest names the file '/etc/passwd', which is not inside the bundle; use a relative path without ..
        the manifest names the file 'assets/../../outside/master-key', which is not inside the bundle; use a relative path without ..
        the manifest names the file '', which is not inside the bundle; use a relative path without ..
        the manifest names the file '.', which is not inside the bundle; use a relative path without ..
        ");
        for name in names.iter().skip(1) {
            assert!(!opened.has_file(name), "{name}");
        }
        assert!(opened.has_file("assets/icon.svg"));
        assert!(opened.subdirectory("linked").is_err() && opened.subdirectory("pipe").is_err());
        assert!(opened.subdirectory("assets").expect("a folder").is_some_and(|assets| assets.has_file("icon.svg")));
    }
}
