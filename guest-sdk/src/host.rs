//! The host's imports. In a component these are the imports of the contract, elsewhere those of [`crate::testing`].

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::konnector::host::{account, documents, files, http, log, progress, secrets};
#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::imports::{account, documents, files, http, log, progress, secrets};

use crate::Result;
use crate::bindings::konnector::host::files::{SavedFile, Target};

/// The contract's limit for one chunk of an upload.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Stores content as a whole, so either all of it becomes visible or none.
pub(crate) fn store(target: &Target, content: &[u8]) -> Result<SavedFile> {
    let upload = files::begin_upload(target)?;
    for chunk in content.chunks(CHUNK_BYTES) {
        upload.write(chunk)?;
    }
    Ok(files::Upload::commit(upload)?)
}
