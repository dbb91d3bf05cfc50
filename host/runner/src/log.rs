//! Destinations of a run's log lines: listeners, immediately, and a blob at the end.

use parking_lot::Mutex;
use std::io::Write as _;

use bytes::Bytes;
use konnector_sandbox::capability::{Log, LogLine};
use konnector_store::{BlobInfo, DocRef};
use serde_json::json;

use crate::Result;
use konnector_documents::doctype::JOB_LOGS;
use konnector_documents::realtime::{ChangeKind, RealtimeEvent};
use konnector_jobs::JobContext;

/// Log lines of one job, collected until its run ends.
pub struct JobLog {
    domain: JobContext,
    job: DocRef,
    lines: Mutex<Vec<u8>>,
}

impl JobLog {
    pub const fn new(domain: JobContext, job: DocRef) -> Self {
        Self { domain, job, lines: Mutex::new(Vec::new()) }
    }

    /// Stores the lines; returns the blob, or `None` if there are no lines.
    pub async fn store(&self) -> Result<Option<BlobInfo>> {
        let lines = std::mem::take(&mut *self.lines.lock());
        if lines.is_empty() {
            return Ok(None);
        }
        let mut writer = self.domain.core().store().blobs().create().await?;
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
            && self.domain.core().bus().has_listeners(&self.job.instance)
        {
            self.domain.core().bus().publish(RealtimeEvent {
                instance: self.job.instance.clone(),
                kind: ChangeKind::Created,
                doctype: JOB_LOGS.clone(),
                id: self.job.id.clone(),
                doc,
            });
        }
    }
}
