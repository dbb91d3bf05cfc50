//! Content that a run has opened.

use std::io::SeekFrom;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use konnector_sandbox::capability::{CapabilityError, OpenFile};
use konnector_store::VerifiedReader;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::super::to_capability_error;

/// The content of a file at the time it was opened. A blob is never overwritten, and remains readable for its readers.
pub(super) struct RunContent {
    pub(super) reader: VerifiedReader,
    pub(super) size: u64,
}

#[async_trait]
impl OpenFile for RunContent {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&mut self, offset: u64, max: u32) -> Result<Bytes, CapabilityError> {
        let length = u64::from(max).min(self.size.saturating_sub(offset));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let failed = |error| to_capability_error(crate::Error::io("reading the content of a file")(error));
        // Reading from start to end fails if the whole content does not match its checksum.
        self.reader.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut part = BytesMut::zeroed(usize::try_from(length).unwrap_or_default());
        self.reader.read_exact(&mut part).await.map_err(failed)?;
        Ok(part.freeze())
    }
}
