//! Destinations of a run's log lines: listeners, immediately, and a blob at the end.

use parking_lot::Mutex;
use std::io::Write as _;

use bytes::Bytes;
use konnector_sandbox::capability::{Log, LogLine};
use konnector_store::{BlobInfo, DocRef};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::doctype::JOB_LOGS;
use crate::handles::Jobs;
use crate::realtime::{ChangeKind, RealtimeEvent};
use crate::{Platform, Result};

/// Log lines of one job, collected until its run ends.
pub struct JobLog {
    platform: Platform,
    job: DocRef,
    lines: Mutex<Vec<u8>>,
}

impl JobLog {
    pub const fn new(platform: Platform, job: DocRef) -> Self {
        Self { platform, job, lines: Mutex::new(Vec::new()) }
    }

    /// Stores the lines; returns the blob, or `None` if there are no lines.
    pub async fn store(&self) -> Result<Option<BlobInfo>> {
        let lines = std::mem::take(&mut *self.lines.lock());
        if lines.is_empty() {
            return Ok(None);
        }
        let mut writer = self.platform.store().blobs().create().await?;
        writer.write(Bytes::from(lines)).await?;
        Ok(Some(writer.finish().await?))
    }
}

impl Log for JobLog {
    fn write_line(&self, line: LogLine) {
        let fields: serde_json::Map<_, _> = line.fields.into_iter().map(|(name, value)| (name, json!(value))).collect();
        let entry = json!({
            "after_ms": u64::try_from(line.elapsed.as_millis()).unwrap_or(u64::MAX),
            "level": line.level,
            "message": line.message,
            "fields": fields,
        });
        {
            let mut lines = self.lines.lock();
            // Writing to memory cannot fail.
            drop(writeln!(lines, "{entry}"));
        }
        if let serde_json::Value::Object(doc) = entry
            && self.platform.bus().has_listeners(&self.job.instance)
        {
            self.platform.bus().publish(RealtimeEvent {
                instance: self.job.instance.clone(),
                kind: ChangeKind::Created,
                doctype: JOB_LOGS.clone(),
                id: self.job.id.clone(),
                doc,
            });
        }
    }
}

impl Jobs {
    /// Returns the stored log lines of a job, one JSON object per line. If they do not match their checksum, an
    /// additional first line reports it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotFound`] if the job does not exist.
    pub async fn log(&self, instance: &crate::instance::Instance, id: &str) -> Result<Vec<u8>> {
        let job = self.get(instance, id)?;
        let Some(blob) = job.log else { return Ok(Vec::new()) };
        let mut lines = self.platform.konnectors().read_blob(&blob).await?;
        // Older logs have no checksum.
        if job.log_checksum.is_some_and(|expected| expected != hex::encode(Sha256::digest(&lines))) {
            let message = "this log is damaged: some lines may be changed or missing";
            let warning = json!({ "after_ms": 0, "level": "error", "message": message, "fields": {} });
            lines.splice(..0, format!("{warning}\n").into_bytes());
        }
        Ok(lines)
    }
}
