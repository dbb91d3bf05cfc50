//! The interfaces `wasi:filesystem/types` and `preopens`: from resources and flags to files and directories. What works with paths is in
//! [`at`](super::at).

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
use super::descriptor::{Descriptor, Directory, File, Object, kind, stat};
use super::entries::Entries;
use super::failure::{Failure, Result};
use super::memory::Times;
use super::stream::{Reader, Writer};
use crate::host::Host;

impl Host {
    /// Looks at a descriptor, unless the run is being cancelled.
    pub(super) fn descriptor(&self, this: &Resource<Descriptor>) -> Result<&Descriptor> {
        if self.context.cancel.is_cancelled() {
            // Not `interrupted`: standard libraries try that again, for ever.
            return Err(ErrorCode::Io.into());
        }
        Ok(self.table.get(this)?)
    }

    pub(super) fn file(&self, this: &Resource<Descriptor>, flag: DescriptorFlags) -> Result<File> {
        self.descriptor(this)?.file_for(flag)
    }

    pub(super) fn directory(&self, this: &Resource<Descriptor>) -> Result<Directory> {
        self.descriptor(this)?.directory()
    }

    fn object(&self, this: &Resource<Descriptor>) -> Result<Object> {
        Ok(self.descriptor(this)?.object.clone())
    }
}

impl preopens::Host for Host {
    async fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = Vec::new();
        if let Some(tmp) = &self.filesystem.tmp {
            directories.push((Directory::Memory(tmp.clone()), "/tmp"));
            if self.filesystem.works_in_tmp {
                directories.push((Directory::Memory(tmp.clone()), "."));
            }
        }
        if let Some(mount) = &self.filesystem.files {
            match mount.root().await {
                Ok(root) => directories.push((Directory::User(root), "/files")),
                Err(Failure::Code(code)) if konnector_egress::log_limit::may_log() => {
                    tracing::warn!(?code, "the user's files cannot be reached");
                }
                Err(Failure::Code(_)) => {}
                Err(Failure::End(error)) => return Err(error),
            }
        }
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let mut open = |(directory, path): (Directory, &str)| {
            let descriptor = Descriptor { object: Object::Directory(directory), flags };
            Ok((self.keep(descriptor)?, path.to_owned()))
        };
        directories.into_iter().map(&mut open).collect()
    }
}

impl types::Host for Host {
    fn convert_error_code(&mut self, failure: Failure) -> wasmtime::Result<ErrorCode> {
        match failure {
            Failure::Code(code) => Ok(code),
            Failure::End(error) => Err(error),
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
        Ok(self.keep(Box::new(Reader::new(file, offset)) as DynInputStream)?)
    }

    async fn write_via_stream(
        &mut self,
        this: Resource<Descriptor>,
        offset: Filesize,
    ) -> Result<Resource<DynOutputStream>> {
        let file = self.file(&this, DescriptorFlags::WRITE)?;
        let writer = Writer::new(file, Some(offset), self.context.logs.clone());
        Ok(self.keep(Box::new(writer) as DynOutputStream)?)
    }

    async fn append_via_stream(&mut self, this: Resource<Descriptor>) -> Result<Resource<DynOutputStream>> {
        let file = self.file(&this, DescriptorFlags::WRITE)?;
        let writer = Writer::new(file, None, self.context.logs.clone());
        Ok(self.keep(Box::new(writer) as DynOutputStream)?)
    }

    async fn advise(&mut self, this: Resource<Descriptor>, _: Filesize, _: Filesize, _: Advice) -> Result<()> {
        self.descriptor(&this)?.file().map(drop)
    }

    async fn sync_data(&mut self, this: Resource<Descriptor>) -> Result<()> {
        self.object(&this)?.sync().await
    }

    async fn sync(&mut self, this: Resource<Descriptor>) -> Result<()> {
        self.object(&this)?.sync().await
    }

    async fn get_flags(&mut self, this: Resource<Descriptor>) -> Result<DescriptorFlags> {
        Ok(self.descriptor(&this)?.flags)
    }

    async fn get_type(&mut self, this: Resource<Descriptor>) -> Result<DescriptorType> {
        Ok(kind(matches!(self.descriptor(&this)?.object, Object::Directory(_))))
    }

    async fn set_size(&mut self, this: Resource<Descriptor>, size: Filesize) -> Result<()> {
        match self.file(&this, DescriptorFlags::WRITE)? {
            File::Memory(file) => Ok(file.set_len(size)?),
            File::User(file) => file.set_len(size).await,
        }
    }

    async fn set_times(
        &mut self,
        this: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        match &self.descriptor(&this)?.object {
            Object::File(File::Memory(file)) => set_times(&mut file.times(), accessed, modified),
            Object::Directory(Directory::Memory(directory)) => set_times(&mut directory.times(), accessed, modified),
            // The times of the user's files say when they were really changed.
            Object::File(File::User(_)) | Object::Directory(Directory::User(_)) => Err(ErrorCode::Unsupported.into()),
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
            File::Memory(file) => file.write(offset, &bytes)?,
            File::User(file) => file.write(offset, Bytes::from(bytes)).await?,
        }
        Ok(written)
    }

    async fn read_directory(&mut self, this: Resource<Descriptor>) -> Result<Resource<Entries>> {
        let directory = self.directory(&this)?;
        Ok(self.keep(Entries::new(directory))?)
    }

    async fn create_directory_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<()> {
        self.directory(&this)?.create_directory(&path).await
    }

    async fn stat(&mut self, this: Resource<Descriptor>) -> Result<DescriptorStat> {
        match self.object(&this)? {
            Object::File(File::Memory(file)) => {
                let Times { accessed, modified } = *file.times();
                Ok(stat(false, file.len(), modified, accessed))
            }
            Object::Directory(Directory::Memory(directory)) => {
                let Times { accessed, modified } = *directory.times();
                Ok(stat(true, 0, modified, accessed))
            }
            Object::File(File::User(file)) => Ok(stat(false, file.len().await?, file.modified(), file.modified())),
            Object::Directory(Directory::User(directory)) => {
                let node = directory.node().await?;
                Ok(stat(true, 0, node.modified, node.modified))
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
            Directory::Memory(directory) => {
                let found = directory.find(&super::path::resolve(&path)?)?;
                set_times(&mut found.times(), accessed, modified)
            }
            Directory::User(_) => Err(ErrorCode::Unsupported.into()),
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
        how: types::OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Descriptor>> {
        let object = self.directory(&this)?.open(&path, how, flags).await?;
        Ok(self.keep(Descriptor { object, flags })?)
    }

    async fn readlink_at(&mut self, this: Resource<Descriptor>, path: String) -> Result<String> {
        self.directory(&this)?.stat(&path).await?;
        // There are no links, so whatever is there is none.
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
        Ok(self.table.get(&this)?.object.identity() == self.table.get(&other)?.object.identity())
    }

    async fn metadata_hash(&mut self, this: Resource<Descriptor>) -> Result<MetadataHashValue> {
        Ok(hash(&self.descriptor(&this)?.object.identity()))
    }

    async fn metadata_hash_at(
        &mut self,
        this: Resource<Descriptor>,
        _: types::PathFlags,
        path: String,
    ) -> Result<MetadataHashValue> {
        Ok(hash(&self.directory(&this)?.identity(&path).await?))
    }

    async fn drop(&mut self, this: Resource<Descriptor>) -> wasmtime::Result<()> {
        match self.table.delete(this)?.object {
            Object::Directory(_) => Ok(()),
            Object::File(file) => match file.close().await {
                Err(Failure::End(error)) => Err(error),
                Ok(()) | Err(Failure::Code(_)) => Ok(()),
            },
        }
    }
}

impl HostDirectoryEntryStream for Host {
    async fn read_directory_entry(&mut self, this: Resource<Entries>) -> Result<Option<DirectoryEntry>> {
        if self.context.cancel.is_cancelled() {
            return Err(ErrorCode::Io.into());
        }
        self.table.get_mut(&this)?.next().await
    }

    async fn drop(&mut self, this: Resource<Entries>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// What makes a file itself: equal for two descriptors of one file, and the same as long as it is there.
fn hash(identity: &str) -> MetadataHashValue {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, identity).hash(&mut hasher);
        hasher.finish()
    };
    MetadataHashValue { lower: half(0), upper: half(1) }
}

fn set_times(times: &mut Times, accessed: NewTimestamp, modified: NewTimestamp) -> Result<()> {
    for (time, new) in [(&mut times.accessed, accessed), (&mut times.modified, modified)] {
        match new {
            NewTimestamp::NoChange => {}
            NewTimestamp::Now => *time = SystemTime::now(),
            NewTimestamp::Timestamp(at) => {
                let since = std::time::Duration::from_secs(at.seconds)
                    .checked_add(std::time::Duration::from_nanos(at.nanoseconds.into()));
                let at = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                *time = at.ok_or(ErrorCode::Overflow)?;
            }
        }
    }
    Ok(())
}
