//! The interface `files`.

mod convert;
mod held;

use bytes::Bytes;
use wasmtime::component::Resource;

pub(crate) use held::{Held, Slot};
pub use held::{OpenContent, OpenUpload};

pub(super) use convert::target;

use super::argument::{MAX_CURSOR, MAX_NAME, check, check_locator, check_locators, check_some};
use super::promise::Promise;
use super::{Answer, Context, Host, answer, check_batch, check_limit, json_weight, object};
use crate::bindings::konnector::host::files as wit;
use crate::bindings::konnector::host::types::Locator;
use crate::capability::{Error, Listing, OpenFile, Quota, Target, Upload};
use crate::meter::Meter;

/// Bytes of one `write`, and of one `read`.
const CHUNK: u32 = 1 << 20;
/// Bytes of a file's `metadata`.
const METADATA: u64 = 64 << 10;

impl Context {
    fn room_for_files(&self, more: usize) -> Result<(), Error> {
        let wanted = self.meter.files.total().saturating_add(more as u64);
        if wanted > self.capabilities.limits.files { Err(Error::QuotaExceeded(Quota::Files)) } else { Ok(()) }
    }

    /// Begins an upload within the run's number of files.
    pub(super) async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, Error> {
        self.room_for_files(1)?;
        self.capabilities.files.begin_upload(target).await
    }

    /// Counts a file that is being written, within the number that a run may write at one time.
    pub(crate) fn begin_uploading(&self) -> Result<Slot, Error> {
        self.uploads.slot(self.capabilities.limits.uploads, Quota::Uploads)
    }

    /// Begins an upload for the guest to hold, within the number that it may hold at one time.
    async fn hold_upload(&self, to: wit::Target) -> Result<OpenUpload, Error> {
        let slot = self.begin_uploading()?;
        let weight = convert::weight(&to);
        let target = target(to)?;
        let mut memory = self.memory.charge();
        if !memory.resize(weight) {
            return Err(Error::QuotaExceeded(Quota::Memory));
        }
        let promise = Promise::of(&target);
        Ok(OpenUpload::new(self.begin_upload(target).await?, promise, slot, memory))
    }

    async fn hold_content(&self, which: Locator) -> Result<OpenContent, Error> {
        check_locator(&which)?;
        let slot = self.contents.slot(self.capabilities.limits.open_files, Quota::OpenFiles)?;
        Ok(OpenContent::new(self.capabilities.files.open(&which.into()).await?, slot))
    }

    async fn list(&self, folder: &str, limit: u32, cursor: Option<String>) -> Result<Listing, Error> {
        check_limit(limit)?;
        check("folder", folder, MAX_NAME)?;
        check_some("cursor", cursor.as_ref(), MAX_CURSOR)?;
        self.capabilities.files.list_folder(folder, limit, cursor).await
    }
}

/// Appends to an upload within the run's number of bytes.
pub(super) async fn append(upload: &mut dyn Upload, chunk: Bytes, meter: &Meter, limit: u64) -> Result<(), Error> {
    let size = chunk.len() as u64;
    if meter.file_bytes.get().saturating_add(size) > limit {
        return Err(Error::QuotaExceeded(Quota::FileBytes));
    }
    upload.write(chunk).await?;
    meter.file_bytes.add(size);
    Ok(())
}

impl wit::Host for Host {
    async fn check_save(&mut self) -> Answer<()> {
        answer(self.context.unless_cancelled(self.context.capabilities.files.check_save()).await)
    }

    async fn lookup(&mut self, keys: Vec<String>) -> Answer<Vec<Option<wit::File>>> {
        let found = async {
            check_batch("keys", keys.len())?;
            keys.iter().try_for_each(|key| check("keys", key, MAX_NAME))?;
            self.context.capabilities.files.lookup(keys).await
        };
        let found = self.context.unless_cancelled(found).await;
        answer(found.map(|found| found.into_iter().map(|file| file.map(wit::File::from)).collect()))
    }

    async fn begin_upload(&mut self, to: wit::Target) -> Answer<Resource<OpenUpload>> {
        let opened = self.context.unless_cancelled(self.context.hold_upload(to)).await;
        Ok(match answer(opened)? {
            Ok(upload) => Ok(self.keep(upload)?),
            Err(error) => Err(error),
        })
    }

    async fn open(&mut self, which: Locator) -> Answer<Resource<OpenContent>> {
        let opened = self.context.unless_cancelled(self.context.hold_content(which)).await;
        Ok(match answer(opened)? {
            Ok(content) => Ok(self.keep(content)?),
            Err(error) => Err(error),
        })
    }

    async fn describe(&mut self, which: Locator) -> Answer<wit::Details> {
        let described = async {
            check_locator(&which)?;
            self.context.capabilities.files.describe(&which.into()).await
        };
        let details = self.context.unless_cancelled(described).await;
        answer(details.map(wit::Details::from))
    }

    async fn merge_metadata(&mut self, which: Locator, patch: String) -> Answer<()> {
        let merged = async {
            if patch.len() as u64 > METADATA {
                return Err(Error::TooLarge(METADATA));
            }
            check_locator(&which)?;
            self.context.room_for_files(1)?;
            self.context.capabilities.files.merge_metadata(&which.into(), object("patch", &patch)?).await
        };
        let merged = self.context.unless_cancelled(merged).await;
        answer(merged.inspect(|()| self.context.meter.files.updated.add(1)))
    }

    async fn add_references(&mut self, which: Locator, references: Vec<wit::Reference>) -> Answer<()> {
        let added = async {
            check_locator(&which)?;
            let references = convert::references(references)?;
            self.context.capabilities.files.add_references(&which.into(), references).await
        };
        answer(self.context.unless_cancelled(added).await)
    }

    async fn remove_references(&mut self, which: Locator, references: Vec<wit::Reference>) -> Answer<()> {
        let removed = async {
            check_locator(&which)?;
            let references = convert::references(references)?;
            self.context.capabilities.files.remove_references(&which.into(), references).await
        };
        answer(self.context.unless_cancelled(removed).await)
    }

    async fn move_(&mut self, which: Locator, folder: String, name: String) -> Answer<wit::File> {
        let moved = async {
            check_locator(&which)?;
            check("folder", &folder, MAX_NAME)?;
            check("name", &name, MAX_NAME)?;
            self.context.room_for_files(1)?;
            self.context.capabilities.files.move_file(&which.into(), &folder, &name).await
        };
        let moved = self.context.unless_cancelled(moved).await;
        answer(moved.inspect(|_| self.context.meter.files.updated.add(1)).map(wit::File::from))
    }

    async fn trash(&mut self, which: Vec<Locator>) -> Answer<u32> {
        let trashed = async {
            check_batch("which", which.len())?;
            check_locators(&which)?;
            self.context.room_for_files(which.len())?;
            self.context.capabilities.files.trash(which.into_iter().map(Into::into).collect()).await
        };
        let trashed = self.context.unless_cancelled(trashed).await;
        answer(trashed.inspect(|count| self.context.meter.files.deleted.add(u64::from(*count))))
    }

    async fn ensure_folder(&mut self, folder: String) -> Answer<wit::Folder> {
        let ensured = async {
            check("folder", &folder, MAX_NAME)?;
            self.context.capabilities.files.ensure_folder(&folder).await
        };
        let made = self.context.unless_cancelled(ensured).await;
        answer(made.map(wit::Folder::from))
    }

    async fn list_folder(&mut self, folder: String, limit: u32, cursor: Option<String>) -> Answer<wit::Page> {
        let page = self.context.unless_cancelled(self.context.list(&folder, limit, cursor)).await;
        answer(page.map(wit::Page::from))
    }
}

impl wit::HostUpload for Host {
    async fn write(&mut self, this: Resource<OpenUpload>, chunk: Vec<u8>) -> Answer<()> {
        let open = self.table.get_mut(&this)?;
        if chunk.len() > CHUNK as usize {
            return answer(Err(Error::TooLarge(u64::from(CHUNK))));
        }
        let Some(mut upload) = open.take() else { return answer(Err(held::broken())) };
        if let Err(wrong) = open.check(&chunk) {
            return answer(Err(wrong));
        }
        let limit = self.context.capabilities.limits.file_bytes;
        let written = append(upload.as_mut(), chunk.into(), &self.context.meter, limit);
        let written = self.context.unless_cancelled(written).await;
        if written.is_ok() {
            open.put_back(upload);
        }
        answer(written)
    }

    async fn commit(&mut self, this: Resource<OpenUpload>) -> Answer<wit::Stored> {
        let mut open = self.table.delete(this)?;
        let stored = async {
            let upload = open.take().ok_or_else(held::broken)?;
            open.keep_promise()?;
            upload.commit().await
        };
        let stored = self.context.unless_cancelled(stored).await;
        answer(stored.inspect(|stored| self.context.meter.files.count(stored.written)).map(wit::Stored::from))
    }

    async fn drop(&mut self, this: Resource<OpenUpload>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::HostContent for Host {
    fn size(&mut self, this: Resource<OpenContent>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.content.size())
    }

    async fn read(&mut self, this: Resource<OpenContent>, offset: u64, max: u32) -> Answer<Vec<u8>> {
        let content: &mut dyn OpenFile = self.table.get_mut(&this)?.content.as_mut();
        let read = self.context.unless_cancelled(content.read(offset, max.min(CHUNK))).await;
        answer(read.map(|bytes| bytes.to_vec()))
    }

    async fn drop(&mut self, this: Resource<OpenContent>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
