//! The interface `files`.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::Resource;

use super::documents::check_batch;
use super::{Answer, Context, Host, answer, object};
use crate::bindings::konnector::host::files as wit;
use crate::capability::{Error, Quota, Stored, Target, Upload};
use crate::meter::Meter;

/// Bytes of one `write`, and of one `read`.
const CHUNK: u32 = 1 << 20;

/// An upload that the guest holds. Its resource table has it, so that it goes with the store.
pub struct OpenUpload {
    /// `None` after a write that failed: what was sent has a hole, and must never become a file.
    upload: Option<Box<dyn Upload>>,
    _uploading: Uploading,
}

/// The uploads that a run holds.
#[derive(Debug, Default)]
pub(crate) struct OpenUploads(Arc<()>);

/// One of them, or a file below `/files` that is open for writing.
#[derive(Debug)]
pub(crate) struct Uploading(#[expect(dead_code, reason = "counted as long as it lives")] Arc<()>);

impl OpenUploads {
    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl Context {
    /// Begins an upload within the run's number of files.
    pub(super) async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, Error> {
        if self.meter.files.total() >= self.capabilities.limits.files {
            return Err(Error::QuotaExceeded(Quota::Files));
        }
        self.capabilities.files.create(target).await
    }

    /// Counts a file that is being written, within the number that a run may write at one time.
    pub(crate) fn begin_uploading(&self) -> Result<Uploading, Error> {
        if self.uploads.count() >= self.capabilities.limits.uploads as usize {
            return Err(Error::QuotaExceeded(Quota::Uploads));
        }
        Ok(Uploading(Arc::clone(&self.uploads.0)))
    }

    /// Begins an upload for the guest to hold, within the number that it may hold at one time.
    async fn open_upload(&self, to: wit::Target) -> Result<OpenUpload, Error> {
        let uploading = self.begin_uploading()?;
        let upload = self.begin_upload(target(to)?).await?;
        Ok(OpenUpload { upload: Some(upload), _uploading: uploading })
    }
}

/// Appends to an upload within the run's number of bytes.
pub(super) async fn append(upload: &mut dyn Upload, chunk: Bytes, meter: &Meter, limit: u64) -> Result<(), Error> {
    let size = chunk.len() as u64;
    if meter.file_bytes.get().saturating_add(size) > limit {
        return Err(Error::QuotaExceeded(Quota::Storage));
    }
    upload.write(chunk).await?;
    meter.file_bytes.add(size);
    Ok(())
}

impl wit::Host for Host {
    async fn lookup(&mut self, keys: Vec<String>) -> Answer<Vec<Option<wit::Stored>>> {
        let found = async {
            check_batch("keys", keys.len())?;
            self.context.capabilities.files.lookup(keys).await
        };
        let found = self.context.unless_cancelled(found).await;
        answer(found.map(|found| found.into_iter().map(|file| file.map(wit::Stored::from)).collect()))
    }

    async fn create(&mut self, to: wit::Target) -> Answer<Resource<OpenUpload>> {
        let opened = self.context.unless_cancelled(self.context.open_upload(to)).await;
        Ok(match answer(opened)? {
            Ok(upload) => Ok(self.table.push(upload)?),
            Err(error) => Err(error),
        })
    }

    async fn read(&mut self, id: String, offset: u64, max: u32) -> Answer<Vec<u8>> {
        let read =
            self.context.unless_cancelled(self.context.capabilities.files.read(&id, offset, max.min(CHUNK))).await;
        answer(read.map(|bytes| bytes.to_vec()))
    }

    async fn remove(&mut self, keys: Vec<String>) -> Answer<u32> {
        let removed = async {
            check_batch("keys", keys.len())?;
            self.context.capabilities.files.remove(keys).await
        };
        let removed = self.context.unless_cancelled(removed).await;
        answer(removed.inspect(|count| self.context.meter.files.deleted.add(u64::from(*count))))
    }
}

impl wit::HostUpload for Host {
    async fn write(&mut self, this: Resource<OpenUpload>, chunk: Vec<u8>) -> Answer<()> {
        let open = self.table.get_mut(&this)?;
        if chunk.len() > CHUNK as usize {
            return answer(Err(Error::TooLarge(u64::from(CHUNK))));
        }
        let Some(mut upload) = open.upload.take() else { return answer(Err(broken())) };
        let limit = self.context.capabilities.limits.file_bytes;
        let written = append(upload.as_mut(), chunk.into(), &self.context.meter, limit);
        let written = self.context.unless_cancelled(written).await;
        if written.is_ok() {
            open.upload = Some(upload);
        }
        answer(written)
    }

    async fn commit(&mut self, this: Resource<OpenUpload>) -> Answer<wit::Stored> {
        let open = self.table.delete(this)?;
        let stored = async { open.upload.ok_or_else(broken)?.commit().await };
        let stored = self.context.unless_cancelled(stored).await;
        answer(stored.inspect(|stored| self.context.meter.files.count(stored.written)).map(wit::Stored::from))
    }

    async fn drop(&mut self, this: Resource<OpenUpload>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn broken() -> Error {
    Error::Invalid("an earlier write to this upload failed; begin a new one".to_owned())
}

/// Reads the target of a file.
pub(super) fn target(to: wit::Target) -> Result<Target, Error> {
    // An empty text stands for no metadata, so that a guest without a JSON library can save files too.
    let metadata = if to.metadata.is_empty() { serde_json::Map::new() } else { object("metadata", &to.metadata)? };
    Ok(Target { folder: to.folder, name: to.name, key: to.key, mime: to.mime, created_at: to.created_at, metadata })
}

impl From<Stored> for wit::Stored {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            path: stored.path,
            size: stored.size,
            mime: stored.mime,
            sha256: stored.sha256,
            outcome: stored.written.into(),
        }
    }
}
