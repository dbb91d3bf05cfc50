//! What can be done with a path below a directory, whichever of the two kinds it is.

use super::bindings::wasi::filesystem::types::{DescriptorFlags, DescriptorStat, ErrorCode, OpenFlags};
use super::descriptor::{Directory, File, Object, stat};
use super::failure::Result;
use super::memory::{self, Opening, Times};
use super::path::resolve;
use super::user::{Found, Opened};

impl Directory {
    pub(super) async fn open(&self, path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Object> {
        let (path, opening) = (resolve(path)?, Opening::of(how, flags)?);
        Ok(match self {
            Self::Memory(directory) => match directory.open(&path, opening)? {
                memory::Node::File(file) => Object::File(File::Memory(file)),
                memory::Node::Directory(directory) => Object::Directory(Self::Memory(directory)),
            },
            Self::User(directory) => match directory.open(&path, opening).await? {
                Opened::File(file) => Object::File(File::User(file)),
                Opened::Directory(directory) => Object::Directory(Self::User(directory)),
            },
        })
    }

    pub(super) async fn stat(&self, path: &str) -> Result<DescriptorStat> {
        let path = resolve(path)?;
        match self {
            Self::Memory(directory) => {
                let node = directory.find(&path)?;
                let Times { accessed, modified } = *node.times();
                Ok(stat(node.is_directory(), node.len(), modified, accessed))
            }
            Self::User(directory) => match directory.find(&path).await? {
                Found::Stored(node) if !node.directory && !node.readable => Err(ErrorCode::Access.into()),
                Found::Stored(node) => Ok(stat(node.directory, node.size, node.modified, node.modified)),
                Found::Unborn(file) => Ok(stat(false, file.len().await?, file.modified(), file.modified())),
            },
        }
    }

    pub(super) async fn identity(&self, path: &str) -> Result<String> {
        let path = resolve(path)?;
        Ok(match self {
            Self::Memory(directory) => directory.find(&path)?.inode().to_string(),
            Self::User(directory) => match directory.find(&path).await? {
                Found::Stored(node) => node.id,
                Found::Unborn(file) => file.identity(),
            },
        })
    }

    pub(super) async fn create_directory(&self, path: &str) -> Result<()> {
        let path = resolve(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.create_directory(&path)?),
            Self::User(directory) => directory.create_directory(&path).await,
        }
    }

    pub(super) async fn remove_file(&self, path: &str) -> Result<()> {
        let path = resolve(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.remove_file(&path)?),
            Self::User(directory) => directory.remove_file(&path).await,
        }
    }

    pub(super) async fn remove_directory(&self, path: &str) -> Result<()> {
        let path = resolve(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.remove_directory(&path)?),
            Self::User(directory) => directory.remove_directory(&path).await,
        }
    }

    pub(super) async fn rename(&self, from: &str, to_base: &Self, to: &str) -> Result<()> {
        let (from, to) = (resolve(from)?, resolve(to)?);
        match (self, to_base) {
            (Self::Memory(directory), Self::Memory(to_base)) => Ok(directory.rename(&from, to_base, &to)?),
            (Self::User(directory), Self::User(to_base)) => directory.rename(&from, to_base, &to).await,
            (Self::Memory(_), Self::User(_)) | (Self::User(_), Self::Memory(_)) => Err(ErrorCode::CrossDevice.into()),
        }
    }
}

impl Object {
    /// Makes what was written visible to others and durable, where it is not so already.
    pub(super) async fn sync(&self) -> Result<()> {
        match self {
            Self::File(File::User(file)) => file.sync().await,
            Self::File(File::Memory(_)) | Self::Directory(_) => Ok(()),
        }
    }

    /// What makes it itself, see [`Directory::identity`].
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Directory(Directory::Memory(directory)) => directory.inode.to_string(),
            Self::File(File::Memory(file)) => file.inode.to_string(),
            Self::Directory(Directory::User(directory)) => directory.id.clone(),
            Self::File(File::User(file)) => file.identity(),
        }
    }
}
