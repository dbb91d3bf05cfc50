//! The stored log of a job's last run.

use konnector_documents::instance::Instance;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{Jobs, Result};

impl Jobs {
    /// Returns the stored log lines of a job, one JSON object per line. If they do not match their checksum, an
    /// additional first line reports it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if the job does not exist.
    pub async fn log(&self, instance: &Instance, id: &str) -> Result<Vec<u8>> {
        let job = self.get(instance, id)?;
        let Some(blob) = job.log else { return Ok(Vec::new()) };
        let mut lines = self.context.konnectors().read_blob(&blob).await?;
        // Older logs have no checksum.
        if job.log_checksum.is_some_and(|expected| expected != hex::encode(Sha256::digest(&lines))) {
            let message = "this log is damaged: some lines may be changed or missing";
            let warning = json!({ "after_ms": 0, "level": "error", "message": message, "fields": {} });
            lines.splice(..0, format!("{warning}\n").into_bytes());
        }
        Ok(lines)
    }
}
