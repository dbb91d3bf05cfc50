//! Uploads and open files that a guest holds. Its resource table has them, so that they go with the store.

use std::sync::Arc;

use crate::capability::{Error, OpenFile, Quota, Upload};

/// One of those that a run may hold; dropping it frees it.
#[derive(Debug)]
pub struct Slot {
    _of: Arc<()>,
}

/// How many of one kind a run holds.
#[derive(Debug, Default)]
pub(crate) struct Held(Arc<()>);

impl Held {
    /// Takes one, of which there are `limit`.
    pub(super) fn slot(&self, limit: u32, quota: Quota) -> Result<Slot, Error> {
        if Arc::strong_count(&self.0) > limit as usize {
            return Err(Error::QuotaExceeded(quota));
        }
        Ok(Slot { _of: Arc::clone(&self.0) })
    }
}

/// An upload that the guest holds.
pub struct OpenUpload {
    /// `None` after a write that failed: what was sent has a hole, and must never become a file.
    upload: Option<Box<dyn Upload>>,
    _slot: Slot,
}

impl OpenUpload {
    pub(super) fn new(upload: Box<dyn Upload>, slot: Slot) -> Self {
        Self { upload: Some(upload), _slot: slot }
    }

    pub(super) fn take(&mut self) -> Option<Box<dyn Upload>> {
        self.upload.take()
    }

    pub(super) fn put_back(&mut self, upload: Box<dyn Upload>) {
        self.upload = Some(upload);
    }
}

/// An open file that the guest holds.
pub struct OpenContent {
    pub(super) content: Box<dyn OpenFile>,
    _slot: Slot,
}

impl OpenContent {
    pub(super) fn new(content: Box<dyn OpenFile>, slot: Slot) -> Self {
        Self { content, _slot: slot }
    }
}

pub(super) fn broken() -> Error {
    Error::Invalid("an earlier write to this upload failed; begin a new one".to_owned())
}
