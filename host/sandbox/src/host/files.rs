//! The interface `files`.

mod convert;
mod open_handles;

use bytes::Bytes;
use konnector_manifest::Limit;
use wasmtime::component::Resource;

pub(crate) use open_handles::{HandleCounter, HandlePermit};
pub use open_handles::{OpenFileHandle, OpenUpload};

pub(super) use convert::parse_target;

use super::argument::{MAX_CURSOR, MAX_NAME, check_length, check_locator, check_locators, check_optional_length};
use super::content_type_check::ContentTypeCheck;
use super::{Context, Host, HostResult, check_batch, check_limit, json_weight, parse_object, to_host_result};
use crate::bindings::konnector::host::files as wit;
use crate::bindings::konnector::host::types::Locator;
use crate::capability::{CapabilityError, Listing, OpenFile, QuotaKind, Target, Upload};
use crate::meter::Meter;

/// Maximum size of one `write` and one `read` in bytes.
const MAX_CHUNK: u32 = 1 << 20;
/// Maximum size of a file's `metadata` in bytes.
const MAX_METADATA: u64 = 64 << 10;

impl Context {
    fn check_file_quota(&self, more: usize) -> Result<(), CapabilityError> {
        let total = self.meter.files.total().saturating_add(more as u64);
        let value = self.capabilities.limits.files;
        if total > value {
            Err(CapabilityError::QuotaExceeded(QuotaKind::Limit { limit: Limit::Files, value }))
        } else {
            Ok(())
        }
    }

    /// Begins an upload, within the run's limit on files.
    pub(super) async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, CapabilityError> {
        self.check_file_quota(1)?;
        self.capabilities.files.begin_upload(target).await
    }

    /// Acquires a permit for a file that is being written, within the run's limit on concurrent uploads.
    pub(crate) fn acquire_upload_permit(&self) -> Result<HandlePermit, CapabilityError> {
        self.uploads.acquire(self.capabilities.limits.uploads, Limit::Uploads)
    }

    /// Begins an upload for the guest to hold, within the run's limit on concurrent uploads.
    async fn open_upload(&self, target: wit::Target) -> Result<OpenUpload, CapabilityError> {
        let slot = self.acquire_upload_permit()?;
        let weight = convert::weight(&target);
        let target = parse_target(target)?;
        let mut memory = self.memory.new_charge();
        if !memory.resize(weight) {
            let value = self.capabilities.limits.memory;
            return Err(CapabilityError::QuotaExceeded(QuotaKind::Limit { limit: Limit::Memory, value }));
        }
        let type_check = ContentTypeCheck::for_target(&target);
        Ok(OpenUpload::new(self.begin_upload(target).await?, type_check, slot, memory))
    }

    async fn open_file(&self, locator: Locator) -> Result<OpenFileHandle, CapabilityError> {
        check_locator(&locator)?;
        let slot = self.contents.acquire(self.capabilities.limits.open_files, Limit::OpenFiles)?;
        Ok(OpenFileHandle::new(self.capabilities.files.open(&locator.into()).await?, slot))
    }

    async fn list(&self, folder: &str, limit: u32, cursor: Option<String>) -> Result<Listing, CapabilityError> {
        check_limit(limit)?;
        check_length("folder", folder, MAX_NAME)?;
        check_optional_length("cursor", cursor.as_ref(), MAX_CURSOR)?;
        self.capabilities.files.list_folder(folder, limit, cursor).await
    }
}

/// Appends to an upload, within the run's limit on bytes.
pub(super) async fn append(
    upload: &mut dyn Upload,
    chunk: Bytes,
    meter: &Meter,
    limit: u64,
) -> Result<(), CapabilityError> {
    let size = chunk.len() as u64;
    if meter.file_bytes.get().saturating_add(size) > limit {
        return Err(CapabilityError::QuotaExceeded(QuotaKind::Limit { limit: Limit::FileContent, value: limit }));
    }
    upload.write(chunk).await?;
    meter.file_bytes.add(size);
    Ok(())
}

impl wit::Host for Host {
    async fn check_save(&mut self) -> HostResult<()> {
        to_host_result(self.context.unless_cancelled(self.context.capabilities.files.check_save()).await)
    }

    async fn lookup(&mut self, keys: Vec<String>) -> HostResult<Vec<Option<wit::File>>> {
        let found = async {
            check_batch("keys", keys.len())?;
            keys.iter().try_for_each(|key| check_length("keys", key, MAX_NAME))?;
            self.context.capabilities.files.lookup(keys).await
        };
        let found = self.context.unless_cancelled(found).await;
        to_host_result(found.map(|found| found.into_iter().map(|file| file.map(wit::File::from)).collect()))
    }

    async fn begin_upload(&mut self, target: wit::Target) -> HostResult<Resource<OpenUpload>> {
        let opened = self.context.unless_cancelled(self.context.open_upload(target)).await;
        Ok(match to_host_result(opened)? {
            Ok(upload) => Ok(self.push_handle(upload)?),
            Err(error) => Err(error),
        })
    }

    async fn open(&mut self, locator: Locator) -> HostResult<Resource<OpenFileHandle>> {
        let opened = self.context.unless_cancelled(self.context.open_file(locator)).await;
        Ok(match to_host_result(opened)? {
            Ok(content) => Ok(self.push_handle(content)?),
            Err(error) => Err(error),
        })
    }

    async fn describe(&mut self, locator: Locator) -> HostResult<wit::Details> {
        let described = async {
            check_locator(&locator)?;
            self.context.capabilities.files.describe(&locator.into()).await
        };
        let details = self.context.unless_cancelled(described).await;
        to_host_result(details.map(wit::Details::from))
    }

    async fn merge_metadata(&mut self, locator: Locator, patch: String) -> HostResult<()> {
        let merged = async {
            if patch.len() as u64 > MAX_METADATA {
                return Err(CapabilityError::TooLarge(MAX_METADATA));
            }
            check_locator(&locator)?;
            self.context.check_file_quota(1)?;
            self.context.capabilities.files.merge_metadata(&locator.into(), parse_object("patch", &patch)?).await
        };
        let merged = self.context.unless_cancelled(merged).await;
        to_host_result(merged.inspect(|()| self.context.meter.files.updated.add(1)))
    }

    async fn add_references(&mut self, locator: Locator, references: Vec<wit::Reference>) -> HostResult<()> {
        let added = async {
            check_locator(&locator)?;
            let references = convert::parse_references(references)?;
            self.context.capabilities.files.add_references(&locator.into(), references).await
        };
        to_host_result(self.context.unless_cancelled(added).await)
    }

    async fn remove_references(&mut self, locator: Locator, references: Vec<wit::Reference>) -> HostResult<()> {
        let removed = async {
            check_locator(&locator)?;
            let references = convert::parse_references(references)?;
            self.context.capabilities.files.remove_references(&locator.into(), references).await
        };
        to_host_result(self.context.unless_cancelled(removed).await)
    }

    async fn move_file(&mut self, locator: Locator, folder: String, name: String) -> HostResult<wit::File> {
        let moved = async {
            check_locator(&locator)?;
            check_length("folder", &folder, MAX_NAME)?;
            check_length("name", &name, MAX_NAME)?;
            self.context.check_file_quota(1)?;
            self.context.capabilities.files.move_file(&locator.into(), &folder, &name).await
        };
        let moved = self.context.unless_cancelled(moved).await;
        to_host_result(moved.inspect(|_| self.context.meter.files.updated.add(1)).map(wit::File::from))
    }

    async fn trash(&mut self, locators: Vec<Locator>) -> HostResult<u32> {
        let trashed = async {
            check_batch("locators", locators.len())?;
            check_locators(&locators)?;
            self.context.check_file_quota(locators.len())?;
            self.context.capabilities.files.trash(locators.into_iter().map(Into::into).collect()).await
        };
        let trashed = self.context.unless_cancelled(trashed).await;
        to_host_result(trashed.inspect(|count| self.context.meter.files.deleted.add(u64::from(*count))))
    }

    async fn ensure_folder(&mut self, folder: String) -> HostResult<wit::Folder> {
        let ensured = async {
            check_length("folder", &folder, MAX_NAME)?;
            self.context.capabilities.files.ensure_folder(&folder).await
        };
        let folder_result = self.context.unless_cancelled(ensured).await;
        to_host_result(folder_result.map(wit::Folder::from))
    }

    async fn list_folder(&mut self, folder: String, limit: u32, cursor: Option<String>) -> HostResult<wit::Page> {
        let page = self.context.unless_cancelled(self.context.list(&folder, limit, cursor)).await;
        to_host_result(page.map(wit::Page::from))
    }
}

impl wit::HostUpload for Host {
    async fn write(&mut self, this: Resource<OpenUpload>, chunk: Vec<u8>) -> HostResult<()> {
        let open = self.table.get_mut(&this)?;
        if chunk.len() > MAX_CHUNK as usize {
            return to_host_result(Err(CapabilityError::TooLarge(u64::from(MAX_CHUNK))));
        }
        let Some(mut upload) = open.take() else { return to_host_result(Err(open_handles::broken_upload())) };
        if let Err(wrong) = open.check_chunk(&chunk) {
            return to_host_result(Err(wrong));
        }
        let limit = self.context.capabilities.limits.file_bytes;
        let written = append(upload.as_mut(), chunk.into(), &self.context.meter, limit);
        let written = self.context.unless_cancelled(written).await;
        if written.is_ok() {
            open.put_back(upload);
        }
        to_host_result(written)
    }

    async fn commit(&mut self, this: Resource<OpenUpload>) -> HostResult<wit::SavedFile> {
        let mut open = self.table.delete(this)?;
        let stored = async {
            let upload = open.take().ok_or_else(open_handles::broken_upload)?;
            open.check_content_type()?;
            upload.commit().await
        };
        let stored = self.context.unless_cancelled(stored).await;
        to_host_result(
            stored.inspect(|stored| self.context.meter.files.record(stored.outcome)).map(wit::SavedFile::from),
        )
    }

    async fn drop(&mut self, this: Resource<OpenUpload>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::HostOpenFile for Host {
    fn size(&mut self, this: Resource<OpenFileHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.content.size())
    }

    async fn read(&mut self, this: Resource<OpenFileHandle>, offset: u64, max: u32) -> HostResult<Vec<u8>> {
        let content: &mut dyn OpenFile = self.table.get_mut(&this)?.content.as_mut();
        let read = self.context.unless_cancelled(content.read(offset, max.min(MAX_CHUNK))).await;
        to_host_result(read.map(|bytes| bytes.to_vec()))
    }

    async fn drop(&mut self, this: Resource<OpenFileHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
