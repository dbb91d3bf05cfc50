//! The file descriptors of a guest.

use std::time::SystemTime;

use super::bindings::wasi::filesystem::types::{DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags};
use super::error::Result;
use super::memory::{self, OpenOptions};
use super::user;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;

use std::sync::Arc;

/// A file or directory that the guest has open.
pub struct Descriptor {
    pub(super) node: OpenNode,
    pub(super) flags: DescriptorFlags,
}

/// The open file or directory.
#[derive(Clone)]
pub(super) enum OpenNode {
    Directory(AnyDirectory),
    File(AnyFile),
}

/// An open directory of either file system.
#[derive(Clone)]
pub(super) enum AnyDirectory {
    Memory(Arc<memory::MemoryDirectory>),
    User(user::UserDirectory),
}

/// An open file of either file system.
#[derive(Clone)]
pub(super) enum AnyFile {
    Memory(Arc<memory::MemoryFile>),
    User(user::UserFile),
}

impl Descriptor {
    pub(super) fn directory(&self) -> Result<AnyDirectory> {
        match &self.node {
            OpenNode::Directory(directory) => Ok(directory.clone()),
            OpenNode::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    pub(super) fn file(&self) -> Result<AnyFile> {
        match &self.node {
            OpenNode::File(file) => Ok(file.clone()),
            OpenNode::Directory(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// Returns the file, if it was opened with this flag.
    pub(super) fn file_for(&self, flag: DescriptorFlags) -> Result<AnyFile> {
        let file = self.file()?;
        if self.flags.contains(flag) { Ok(file) } else { Err(ErrorCode::BadDescriptor.into()) }
    }
}

impl OpenOptions {
    /// Converts WASI flags to options.
    ///
    /// # Errors
    ///
    /// If the flags contradict each other, or request synchronous writes, for which there is `sync`.
    pub(super) fn from_flags(open: OpenFlags, flags: DescriptorFlags) -> Result<Self, ErrorCode> {
        let synchronous = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(synchronous) {
            return Err(ErrorCode::Unsupported);
        }
        let opening = Self {
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            write: flags.contains(DescriptorFlags::WRITE),
        };
        let changes_nothing_yet_truncates = opening.truncate && !opening.write;
        let creates_a_directory = opening.create && opening.directory;
        if changes_nothing_yet_truncates || creates_a_directory { Err(ErrorCode::Invalid) } else { Ok(opening) }
    }
}

/// Returns the result of `stat`.
pub(super) fn descriptor_stat(
    directory: bool,
    size: u64,
    modified: SystemTime,
    accessed: SystemTime,
) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(directory),
        link_count: 1,
        size,
        data_access_timestamp: datetime(accessed),
        data_modification_timestamp: datetime(modified),
        status_change_timestamp: datetime(modified),
    }
}

pub(super) const fn descriptor_type(directory: bool) -> DescriptorType {
    if directory { DescriptorType::Directory } else { DescriptorType::RegularFile }
}

/// Returns `None` before 1970, which WASI 0.2 cannot represent.
fn datetime(time: SystemTime) -> Option<Datetime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() })
}
