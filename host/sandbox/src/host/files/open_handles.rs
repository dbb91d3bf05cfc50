//! Uploads and open files that a guest holds. Its resource table has them, so that they go with the store.

use std::sync::Arc;

use crate::capability::{CapabilityError, OpenFile, QuotaKind, Upload};
use crate::host::content_type_check::{ContentTypeCheck, HEAD_BYTES};
use crate::memory::MemoryCharge;

/// One of those that a run may hold; dropping it frees it.
#[derive(Debug)]
pub struct HandlePermit {
    _of: Arc<()>,
}

/// How many of one kind a run holds.
#[derive(Debug, Default)]
pub(crate) struct HandleCounter(Arc<()>);

impl HandleCounter {
    /// Takes one, of which there are `limit`.
    pub(super) fn acquire(&self, limit: u32, quota: QuotaKind) -> Result<HandlePermit, CapabilityError> {
        if Arc::strong_count(&self.0) > limit as usize {
            return Err(CapabilityError::QuotaExceeded(quota));
        }
        Ok(HandlePermit { _of: Arc::clone(&self.0) })
    }
}

/// An upload that the guest holds.
pub struct OpenUpload {
    /// `None` after a write that failed: what was sent has a hole, and must never become a file.
    upload: Option<Box<dyn Upload>>,
    /// What its name and media type promise, until enough was written to tell.
    type_check: Option<ContentTypeCheck>,
    head: Vec<u8>,
    _permit: HandlePermit,
    /// For the target, which is kept until the file is there.
    _memory: MemoryCharge,
}

impl OpenUpload {
    pub(super) fn new(
        upload: Box<dyn Upload>,
        promise: ContentTypeCheck,
        slot: HandlePermit,
        memory: MemoryCharge,
    ) -> Self {
        Self { upload: Some(upload), type_check: Some(promise), head: Vec::new(), _permit: slot, _memory: memory }
    }

    /// Looks at what is about to be written, as at what is downloaded.
    pub(super) fn check_chunk(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        if self.type_check.is_none() {
            return Ok(());
        }
        self.head.extend(chunk.iter().take(HEAD_BYTES.saturating_sub(self.head.len())));
        if self.head.len() < HEAD_BYTES { Ok(()) } else { self.check_content_type() }
    }

    /// Compares what was written with what was promised, unless that was done.
    pub(super) fn check_content_type(&mut self) -> Result<(), CapabilityError> {
        let Some(promise) = self.type_check.take() else { return Ok(()) };
        promise
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
