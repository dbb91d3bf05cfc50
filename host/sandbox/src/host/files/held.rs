//! Uploads and open files that a guest holds. Its resource table has them, so that they go with the store.

use std::sync::Arc;

use crate::capability::{Error, OpenFile, Quota, Upload};
use crate::host::promise::{BEGINNING, Promise};
use crate::memory::Charge;

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
    /// What its name and media type promise, until enough was written to tell.
    promise: Option<Promise>,
    beginning: Vec<u8>,
    _slot: Slot,
    /// For the target, which is kept until the file is there.
    _memory: Charge,
}

impl OpenUpload {
    pub(super) fn new(upload: Box<dyn Upload>, promise: Promise, slot: Slot, memory: Charge) -> Self {
        Self { upload: Some(upload), promise: Some(promise), beginning: Vec::new(), _slot: slot, _memory: memory }
    }

    /// Looks at what is about to be written, as at what is downloaded.
    pub(super) fn check(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if self.promise.is_none() {
            return Ok(());
        }
        self.beginning.extend(chunk.iter().take(BEGINNING.saturating_sub(self.beginning.len())));
        if self.beginning.len() < BEGINNING { Ok(()) } else { self.keep_promise() }
    }

    /// Compares what was written with what was promised, unless that was done.
    pub(super) fn keep_promise(&mut self) -> Result<(), Error> {
        let Some(promise) = self.promise.take() else { return Ok(()) };
        promise.check(&std::mem::take(&mut self.beginning)).map_err(|wrong| Error::Invalid(format!("content: {wrong}")))
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
