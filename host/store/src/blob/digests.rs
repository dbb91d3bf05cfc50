//! The checksums of a blob, computed while it is written.

use md5::Md5;
use sha2::{Digest, Sha256};

use super::{BlobId, BlobInfo};

#[derive(Default)]
pub(super) struct Digests {
    size: u64,
    md5: Md5,
    sha256: Sha256,
}

impl Digests {
    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.size += chunk.len() as u64;
        self.md5.update(chunk);
        self.sha256.update(chunk);
    }

    pub(super) fn finish(self, id: BlobId) -> BlobInfo {
        BlobInfo { id, size: self.size, md5: self.md5.finalize().into(), sha256: self.sha256.finalize().into() }
    }
}
