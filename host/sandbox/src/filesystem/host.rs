//! The interfaces `wasi:filesystem/types` and `preopens`, which convert resources and flags to files and directories.
//! Operations on paths are in [`path_operations`](super::path_operations).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::bindings::wasi::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp,
};
use super::bindings::wasi::filesystem::{preopens, types};
use super::descriptor::{AnyDirectory, AnyFile, Descriptor, OpenNode, descriptor_stat, descriptor_type};
use super::directory_entry_stream::DirectoryEntryStream;
use super::error::{FilesystemError, Result};
use super::memory::NodeTimes;
use super::stream::{FileInputStream, FileOutputStream};
use crate::host::Host;

impl Host {
    /// Returns a descriptor, unless the run is being cancelled.
    pub(super) fn descriptor(&self, this: &Resource<Descriptor>) -> Result<&Descriptor> {
        if self.context.cancel.is_cancelled() {
            // Not `interrupted`, because standard libraries retry that forever.
            return Err(ErrorCode::Io.into());
        }
        Ok(self.table.get(this)?)
    }

    pub(super) fn file(&self, this: &Resource<Descriptor>, flag: DescriptorFlags) -> Result<AnyFile> {
        self.descriptor(this)?.file_for(flag)
    }

    pub(super) fn directory(&self, this: &Resource<Descriptor>) -> Result<AnyDirectory> {
        self.descriptor(this)?.directory()
    }

    fn open_node(&self, this: &Resource<Descriptor>) -> Result<OpenNode> {
        Ok(self.descriptor(this)?.node.clone())
    }
}

impl preopens::Host for Host {
    async fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = Vec::new();
        if let Some(tmp) = &self.filesystem.tmp {
            directories.push((AnyDirectory::Memory(tmp.clone()), "/tmp"));
            if self.filesystem.is_tmp_working_directory {
                directories.push((AnyDirectory::Memory(tmp.clone()), "."));
            }
        }
        if let Some(mount) = &self.filesystem.files {
            match mount.root().await {
                Ok(root) => directories.push((AnyDirectory::User(root), "/files")),
                Err(FilesystemError::Code(code)) if konnector_egress::log_limit::may_log() => {
                    tracing::warn!(?code, "cannot access the user's files");
                }
                Err(FilesystemError::Code(_)) => {}
                Err(FilesystemError::Trap(error)) => return Err(error),
            }
        }
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let mut open = |(directory, path): (AnyDirectory, &str)| {
            let descriptor = Descriptor { node: OpenNode::Directory(directory), flags };
            Ok((self.push_handle(descriptor)?, path.to_owned()))
        };
        directories.into_iter().map(&mut open).collect()
    }
}

impl types::Host for Host {
    fn convert_error_code(&mut self, failure: FilesystemError) -> wasmtime::Result<ErrorCode> {
        match failure {
            FilesystemError::Code(code) => Ok(code),
            FilesystemError::Trap(error) => Err(error),
        }
    }

    async fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<ErrorCode>().copied())
    }
}

impl types::HostDescriptor for Host {
    async fn read_via_stream(
        &mut self,
        this: Resource<Descriptor>,
        offset: Filesize,
    ) -> Result<Resource<DynInputStream>> {
        let file = self.file(&this, DescriptorFlags::READ)?;
        Ok(self.push_handle(Box::new(FileInputStream::new(file, offset)) as DynInputStream)?)
    }

    async fn write_via_stream(
        &mut self,
        this: Resource<Descriptor>,
        offset: Filesize,
    ) -> Result<Resource<DynOutputStream>> {
        let file = self.file(&this, DescriptorFlags::WRITE)?;
        let writer = FileOutputStream::new(file, Some(offset));
        Ok(self.push_handle(Box::new(writer) as DynOutputStream)?)
    }

    async fn append_via_stream(&mut self, this: Resource<Descriptor>) -> Result<Resource<DynOutputStream>> {
        let file = self.file(&this, DescriptorFlags::WRITE)?;
        let writer = FileOutputStream::new(file, None);
        Ok(self.push_handle(Box::new(writer) as DynOutputStream)?)
    }

    async fn advise(&mut self, this: Resource<Descriptor>, _: Filesize, _: Filesize, _: Advice) -> Result<()> {
        self.descriptor(&this)?.file().map(drop)
    }

    async fn sync_data(&mut self, this: Resource<Descriptor>) -> Result<()> {
        self.open_node(&this)?.sync().await
    }

    async fn sync(&mut self, this: Resource<Descriptor>) -> Result<()> {
        self.open_node(&this)?.sync().await
    }

    async fn get_flags(&mut self, this: Resource<Descriptor>) -> Result<DescriptorFlags> {
        Ok(self.descriptor(&this)?.flags)
    }

    async fn get_type(&mut self, this: Resource<Descriptor>) -> Result<DescriptorType> {
        Ok(descriptor_type(matches!(self.descriptor(&this)?.node, OpenNode::Directory(_))))
    }

    async fn set_size(&mut self, this: Resource<Descriptor>, size: Filesize) -> Result<()> {
        match self.file(&this, DescriptorFlags::WRITE)? {
            AnyFile::Memory(file) => Ok(file.set_len(size)?),
            AnyFile::User(file) => file.set_len(size).await,
        }
    }

    async fn set_times(
        &mut self,
        this: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        match &self.descriptor(&this)?.node {
            OpenNode::File(AnyFile::Memory(file)) => set_times(&mut file.times(), accessed, modified),
            OpenNode::Directory(AnyDirectory::Memory(directory)) => {
                set_times(&mut directory.times(), accessed, modified)
            }
            // The times of the user's files are those of their real changes.
            OpenNode::File(AnyFile::User(_)) | OpenNode::Directory(AnyDirectory::User(_)) => {
                Err(ErrorCode::Unsupported.into())
            }
        }
    }

    async fn read(
        &mut self,
        this: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> Result<(Vec<u8>, bool)> {
        let file = self.file(&this, DescriptorFlags::READ)?;
        let part = file.read(offset, usize::try_from(length).unwrap_or(usize::MAX)).await?;
        let at_end = part.is_empty() && length > 0;
        Ok((part.into(), at_end))
    }

    async fn write(&mut self, this: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> Result<Filesize> {
        let written = bytes.len() as Filesize;
        match self.file(&this, DescriptorFlags::WRITE)? {
            AnyFile::Memory(file) => file.write(offset, &bytes)?,
            AnyFile::User(file) => file.write(offset, Bytes::from(bytes)).await?,
        }
        Ok(written)
    }

    async fn read_directory(&mut self, this: Resource<Descriptor>) -> Result<Resource<DirectoryEntryStream>> {
        let directory = self.directory(&this)?;
        Ok(self.push_handle(DirectoryEntryStream::new(directory))?)
    }

    async fn create_directory_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<()> {
        self.directory(&this)?.create_directory(&path).await
    }

    async fn stat(&mut self, this: Resource<Descriptor>) -> Result<DescriptorStat> {
        match self.open_node(&this)? {
            OpenNode::File(AnyFile::Memory(file)) => {
                let NodeTimes { accessed, modified } = *file.times();
                Ok(descriptor_stat(false, file.len(), modified, accessed))
            }
            OpenNode::Directory(AnyDirectory::Memory(directory)) => {
                let NodeTimes { accessed, modified } = *directory.times();
                Ok(descriptor_stat(true, 0, modified, accessed))
            }
            OpenNode::File(AnyFile::User(file)) => {
                Ok(descriptor_stat(false, file.len().await?, file.modified(), file.modified()))
            }
            OpenNode::Directory(AnyDirectory::User(directory)) => {
                let node = directory.node().await?;
                Ok(descriptor_stat(true, 0, node.modified, node.modified))
            }
        }
    }

    async fn stat_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        path: String,
    ) -> Result<DescriptorStat> {
        self.directory(&this)?.stat(&path).await
    }

    async fn set_times_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        match self.directory(&this)? {
            AnyDirectory::Memory(directory) => {
                let found = directory.find(&super::path::parse(&path)?)?;
                set_times(&mut found.times(), accessed, modified)
            }
            AnyDirectory::User(_) => Err(ErrorCode::Unsupported.into()),
        }
    }

    async fn link_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> Result<()> {
        self.directory(&this)?;
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Descriptor>> {
        let object = self.directory(&this)?.open(&path, open_flags, flags).await?;
        Ok(self.push_handle(Descriptor { node: object, flags })?)
    }

    async fn readlink_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<String> {
        self.directory(&this)?.stat(&path).await?;
        // There are no links, so no node is a link.
        Err(ErrorCode::Invalid.into())
    }

    async fn remove_directory_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<()> {
        self.directory(&this)?.remove_directory(&path).await
    }

    async fn rename_at(
        &mut self,
        this: Resource<Descriptor>,
        from: String,
        to_base: Resource<Descriptor>,
        to: String,
    ) -> Result<()> {
        let to_base = self.directory(&to_base)?;
        self.directory(&this)?.rename(&from, &to_base, &to).await
    }

    async fn symlink_at(&mut self, this: Resource<Descriptor>, _: String, _: String) -> Result<()> {
        self.directory(&this)?;
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<()> {
        self.directory(&this)?.remove_file(&path).await
    }

    async fn is_same_object(
        &mut self,
        this: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.node.identity() == self.table.get(&other)?.node.identity())
    }

    async fn metadata_hash(&mut self, this: Resource<Descriptor>) -> Result<MetadataHashValue> {
        Ok(to_metadata_hash(&self.descriptor(&this)?.node.identity()))
    }

    async fn metadata_hash_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        path: String,
    ) -> Result<MetadataHashValue> {
        Ok(to_metadata_hash(&self.directory(&this)?.identity(&path).await?))
    }

    async fn drop(&mut self, this: Resource<Descriptor>) -> wasmtime::Result<()> {
        match self.table.delete(this)?.node {
            OpenNode::Directory(_) => Ok(()),
            OpenNode::File(file) => match file.close().await {
                Err(FilesystemError::Trap(error)) => Err(error),
                Ok(()) | Err(FilesystemError::Code(_)) => Ok(()),
            },
        }
    }
}

impl HostDirectoryEntryStream for Host {
    async fn read_directory_entry(&mut self, this: Resource<DirectoryEntryStream>) -> Result<Option<DirectoryEntry>> {
        if self.context.cancel.is_cancelled() {
            return Err(ErrorCode::Io.into());
        }
        self.table.get_mut(&this)?.next().await
    }

    async fn drop(&mut self, this: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// Hashes the identity of a file. The hash is equal for two descriptors of one file, and constant while the file
/// exists.
fn to_metadata_hash(identity: &str) -> MetadataHashValue {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, identity).hash(&mut hasher);
        hasher.finish()
    };
    MetadataHashValue { lower: half(0), upper: half(1) }
}

fn set_times(times: &mut NodeTimes, accessed: NewTimestamp, modified: NewTimestamp) -> Result<()> {
    for (time, new) in [(&mut times.accessed, accessed), (&mut times.modified, modified)] {
        match new {
            NewTimestamp::NoChange => {}
            NewTimestamp::Now => *time = SystemTime::now(),
            NewTimestamp::Timestamp(timestamp) => {
                let since = std::time::Duration::from_secs(timestamp.seconds)
                    .checked_add(std::time::Duration::from_nanos(timestamp.nanoseconds.into()));
                let timestamp = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                *time = timestamp.ok_or(ErrorCode::Overflow)?;
            }
        }
    }
    Ok(())
}
