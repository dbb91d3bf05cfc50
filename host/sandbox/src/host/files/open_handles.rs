//! Uploads and open files that a guest holds. They are in its resource table, so they are dropped with the store.

use std::sync::Arc;

use konnector_manifest::Limit;

use crate::capability::{CapabilityError, OpenFile, QuotaKind, Upload};
use crate::host::content_type_check::{ContentTypeCheck, HEAD_BYTES};
use crate::memory::MemoryCharge;

/// Permit for one upload or open file of a run; released when dropped.
#[derive(Debug)]
pub struct HandlePermit {
    _of: Arc<()>,
}

/// Counts the handles of one kind that a run holds.
#[derive(Debug, Default)]
pub(crate) struct HandleCounter(Arc<()>);

impl HandleCounter {
    /// Acquires one of `permits` permits, which are the value of `limit`.
    pub(super) fn acquire(&self, permits: u32, limit: Limit) -> Result<HandlePermit, CapabilityError> {
        if Arc::strong_count(&self.0) > permits as usize {
            return Err(CapabilityError::QuotaExceeded(QuotaKind::Limit { limit, value: permits.into() }));
        }
        Ok(HandlePermit { _of: Arc::clone(&self.0) })
    }
}

/// An upload that the guest holds.
pub struct OpenUpload {
    /// `None` after a failed write, because the content has a hole and must never become a file.
    upload: Option<Box<dyn Upload>>,
    /// Expected content type, until enough bytes were written to check it.
    type_check: Option<ContentTypeCheck>,
    head: Vec<u8>,
    _permit: HandlePermit,
    /// Charge for the target, which is held until the file exists.
    _memory: MemoryCharge,
}

impl OpenUpload {
    pub(super) fn new(
        upload: Box<dyn Upload>,
        type_check: ContentTypeCheck,
        slot: HandlePermit,
        memory: MemoryCharge,
    ) -> Self {
        Self { upload: Some(upload), type_check: Some(type_check), head: Vec::new(), _permit: slot, _memory: memory }
    }

    /// Checks a chunk that is about to be written, as for a download.
    pub(super) fn check_chunk(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        if self.type_check.is_none() {
            return Ok(());
        }
        self.head.extend(chunk.iter().take(HEAD_BYTES.saturating_sub(self.head.len())));
        if self.head.len() < HEAD_BYTES { Ok(()) } else { self.check_content_type() }
    }

    /// Compares the written bytes with the expected content type, unless that was already done.
    pub(super) fn check_content_type(&mut self) -> Result<(), CapabilityError> {
        let Some(type_check) = self.type_check.take() else { return Ok(()) };
        type_check
            .check(&std::mem::take(&mut self.head))
            .map_err(|wrong| CapabilityError::Invalid(format!("content: {wrong}")))
    }

    pub(super) fn take(&mut self) -> Option<Box<dyn Upload>> {
        self.upload.take()
    }

    pub(super) fn put_back(&mut self, upload: Box<dyn Upload>) {
        self.upload = Some(upload);
    }
}

/// An open file that the guest holds.
pub struct OpenFileHandle {
    pub(super) content: Box<dyn OpenFile>,
    _permit: HandlePermit,
}

impl OpenFileHandle {
    pub(super) fn new(content: Box<dyn OpenFile>, slot: HandlePermit) -> Self {
        Self { content, _permit: slot }
    }
}

pub(super) fn broken_upload() -> CapabilityError {
    CapabilityError::Invalid("an earlier write to this upload failed; begin a new one".to_owned())
}
