//! Operations on a path below a directory of either kind.

use super::bindings::wasi::filesystem::types::{DescriptorFlags, DescriptorStat, ErrorCode, OpenFlags};
use super::descriptor::{AnyDirectory, AnyFile, OpenNode, descriptor_stat};
use super::error::Result;
use super::memory::{self, NodeTimes, OpenOptions};
use super::path::parse;
use super::user::{LookupResult, OpenedNode};

impl AnyDirectory {
    pub(super) async fn open(&self, path: &str, open_flags: OpenFlags, flags: DescriptorFlags) -> Result<OpenNode> {
        let (path, options) = (parse(path)?, OpenOptions::from_flags(open_flags, flags)?);
        Ok(match self {
            Self::Memory(directory) => match directory.open(&path, options)? {
                memory::MemoryNode::File(file) => OpenNode::File(AnyFile::Memory(file)),
                memory::MemoryNode::Directory(directory) => OpenNode::Directory(Self::Memory(directory)),
            },
            Self::User(directory) => match directory.open(&path, options).await? {
                OpenedNode::File(file) => OpenNode::File(AnyFile::User(file)),
                OpenedNode::Directory(directory) => OpenNode::Directory(Self::User(directory)),
            },
        })
    }

    pub(super) async fn stat(&self, path: &str) -> Result<DescriptorStat> {
        let path = parse(path)?;
        match self {
            Self::Memory(directory) => {
                let node = directory.find(&path)?;
                let NodeTimes { accessed, modified } = *node.times();
                Ok(descriptor_stat(node.is_directory(), node.len(), modified, accessed))
            }
            Self::User(directory) => match directory.find(&path).await? {
                LookupResult::Stored(node) if !node.is_directory && !node.is_readable => Err(ErrorCode::Access.into()),
                LookupResult::Stored(node) => {
                    Ok(descriptor_stat(node.is_directory, node.size, node.modified, node.modified))
                }
                LookupResult::Uncommitted(file) => {
                    Ok(descriptor_stat(false, file.len().await?, file.modified(), file.modified()))
                }
            },
        }
    }

    pub(super) async fn identity(&self, path: &str) -> Result<String> {
        let path = parse(path)?;
        Ok(match self {
            Self::Memory(directory) => directory.find(&path)?.inode().to_string(),
            Self::User(directory) => match directory.find(&path).await? {
                LookupResult::Stored(node) => node.id,
                LookupResult::Uncommitted(file) => file.identity(),
            },
        })
    }

    pub(super) async fn create_directory(&self, path: &str) -> Result<()> {
        let path = parse(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.create_directory(&path)?),
            Self::User(directory) => directory.create_directory(&path).await,
        }
    }

    pub(super) async fn remove_file(&self, path: &str) -> Result<()> {
        let path = parse(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.remove_file(&path)?),
            Self::User(directory) => directory.remove_file(&path).await,
        }
    }

    pub(super) async fn remove_directory(&self, path: &str) -> Result<()> {
        let path = parse(path)?;
        match self {
            Self::Memory(directory) => Ok(directory.remove_directory(&path)?),
            Self::User(directory) => directory.remove_directory(&path).await,
        }
    }

    pub(super) async fn rename(&self, from: &str, to_base: &Self, to: &str) -> Result<()> {
        let (from, to) = (parse(from)?, parse(to)?);
        match (self, to_base) {
            (Self::Memory(directory), Self::Memory(to_base)) => Ok(directory.rename(&from, to_base, &to)?),
            (Self::User(directory), Self::User(to_base)) => directory.rename(&from, to_base, &to).await,
            (Self::Memory(_), Self::User(_)) | (Self::User(_), Self::Memory(_)) => Err(ErrorCode::CrossDevice.into()),
        }
    }
}

impl OpenNode {
    /// Makes the written content visible to others and durable, if it is not already.
    pub(super) async fn sync(&self) -> Result<()> {
        match self {
            Self::File(AnyFile::User(file)) => file.sync().await,
            Self::File(AnyFile::Memory(_)) | Self::Directory(_) => Ok(()),
        }
    }

    /// Returns the identity of the node, see [`AnyDirectory::identity`].
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Directory(AnyDirectory::Memory(directory)) => directory.inode.to_string(),
            Self::File(AnyFile::Memory(file)) => file.inode.to_string(),
            Self::Directory(AnyDirectory::User(directory)) => directory.id.clone(),
            Self::File(AnyFile::User(file)) => file.identity(),
        }
    }
}
