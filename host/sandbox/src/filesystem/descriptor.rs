//! What a guest's file descriptor stands for.

use std::time::SystemTime;

use super::bindings::wasi::filesystem::types::{DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags};
use super::failure::Result;
use super::memory::{self, Opening};
use super::user;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;

use std::sync::Arc;

/// A file or directory that the guest has open.
pub struct Descriptor {
    pub(super) object: Object,
    pub(super) flags: DescriptorFlags,
}

/// What is open.
#[derive(Clone)]
pub(super) enum Object {
    Directory(Directory),
    File(File),
}

/// A directory.
#[derive(Clone)]
pub(super) enum Directory {
    Memory(Arc<memory::Directory>),
    User(user::Directory),
}

/// A file.
#[derive(Clone)]
pub(super) enum File {
    Memory(Arc<memory::File>),
    User(user::File),
}

impl Descriptor {
    pub(super) fn directory(&self) -> Result<Directory> {
        match &self.object {
            Object::Directory(directory) => Ok(directory.clone()),
            Object::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    pub(super) fn file(&self) -> Result<File> {
        match &self.object {
            Object::File(file) => Ok(file.clone()),
            Object::Directory(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// The file, if it was opened for this.
    pub(super) fn file_for(&self, flag: DescriptorFlags) -> Result<File> {
        let file = self.file()?;
        if self.flags.contains(flag) { Ok(file) } else { Err(ErrorCode::BadDescriptor.into()) }
    }
}

impl Opening {
    /// What flags of WASI ask for.
    ///
    /// # Errors
    /// They contradict each other, or ask for writes that wait for the disk: `sync` is there for that.
    pub(super) fn of(open: OpenFlags, flags: DescriptorFlags) -> Result<Self, ErrorCode> {
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

/// What `stat` answers.
pub(super) fn stat(directory: bool, size: u64, modified: SystemTime, accessed: SystemTime) -> DescriptorStat {
    DescriptorStat {
        type_: kind(directory),
        link_count: 1,
        size,
        data_access_timestamp: datetime(accessed),
        data_modification_timestamp: datetime(modified),
        status_change_timestamp: datetime(modified),
    }
}

pub(super) const fn kind(directory: bool) -> DescriptorType {
    if directory { DescriptorType::Directory } else { DescriptorType::RegularFile }
}

/// `None` before 1970, which WASI 0.2 cannot say.
fn datetime(time: SystemTime) -> Option<Datetime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() })
}
