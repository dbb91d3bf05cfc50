//! Receipt of a run, which lists the contacted hosts, the effects and the resource usage. Stored with the job for its
//! user to read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::meter::{Meter, WriteCounters};
use crate::program::{Preparation, Program};
use konnector_egress::HostRecord;

/// The receipt of one run. Older receipts must always remain readable, so every field has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// Traffic with each host.
    pub hosts: Vec<HostRecord>,
    /// Number of requests sent, in total for all hosts.
    pub requests: u64,
    /// Number of bytes sent over the network.
    pub bytes_up: u64,
    /// Number of bytes received over the network.
    pub bytes_down: u64,
    /// Numbers of documents, for each effect of a write.
    pub documents: WriteCount,
    /// Numbers of files, for each effect of a write.
    pub files: WriteCount,
    /// Number of files that could not be saved when the konnector closed them; the log says why.
    pub files_not_saved: u64,
    /// Number of bytes written to files.
    pub file_bytes: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Number of milliseconds from start to end, including the time spent waiting for the user.
    pub wall_ms: u64,
    /// Part of `wall_ms` that was spent waiting for the user.
    pub waited_ms: u64,
    /// Where the machine code came from.
    pub code: CodeOrigin,
    /// Number of microseconds that preparing the code took: finding, loading and linking it, or compiling it. 0 if it
    /// was in memory.
    pub prepare_us: u64,
    /// Number of microseconds that creating the instance took.
    pub instantiate_us: u64,
    /// Peak of linear memory in bytes.
    pub peak_memory: u64,
    /// Number of log lines written.
    pub log_lines: u64,
    /// Number of log lines dropped because the budget was exhausted.
    pub log_lines_dropped: u64,
    /// Whether the konnector can read the account's passwords.
    pub reads_secrets: bool,
    /// Number of times that the konnector read them.
    pub secrets_read: u64,
}

/// Where the machine code of a run came from; see [`Preparation`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeOrigin {
    /// The code was still in memory.
    #[default]
    Memory,
    /// The code was loaded from the cache on disk.
    Disk,
    /// The component was compiled.
    Compiled,
}

/// Numbers of written documents or files, for each effect of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteCount {
    /// Number of items that did not exist before.
    pub created: u64,
    /// Number of items that existed and were changed.
    pub updated: u64,
    /// Number of items that existed and were identical.
    pub unchanged: u64,
    /// Number of items that were deleted, or moved to the trash.
    pub deleted: u64,
}

impl WriteCount {
    /// Returns the number of entries that are stored as the konnector wants them.
    #[must_use]
    pub const fn up_to_date(&self) -> u64 {
        self.created + self.updated + self.unchanged
    }
}

impl Receipt {
    pub(crate) fn new(
        meter: &Meter,
        clock: &Clock,
        hosts: Vec<HostRecord>,
        program: &Program,
        reads_secrets: bool,
    ) -> Self {
        let wall = clock.wall_elapsed();
        let (code, prepared) = match program.preparation() {
            Preparation::Memory => (CodeOrigin::Memory, Duration::ZERO),
            Preparation::Disk(time) => (CodeOrigin::Disk, time),
            Preparation::Compiled(time) => (CodeOrigin::Compiled, time),
        };
        Self {
            requests: hosts.iter().map(|host| host.requests).sum(),
            bytes_up: hosts.iter().map(|host| host.bytes_up).sum(),
            bytes_down: hosts.iter().map(|host| host.bytes_down).sum(),
            hosts,
            documents: (&meter.documents).into(),
            files: (&meter.files).into(),
            files_not_saved: meter.files_not_saved.get(),
            file_bytes: meter.file_bytes.get(),
            cpu_ms: milliseconds(meter.cpu()),
            wall_ms: milliseconds(wall),
            waited_ms: milliseconds(wall.saturating_sub(clock.running_time())),
            code,
            prepare_us: u64::try_from(prepared.as_micros()).unwrap_or(u64::MAX),
            instantiate_us: meter.instantiate_us.get(),
            peak_memory: meter.peak_memory.get(),
            log_lines: meter.log_lines.get(),
            log_lines_dropped: meter.log_lines_dropped.get(),
            reads_secrets,
            secrets_read: meter.secrets_revealed.get(),
        }
    }
}

impl From<&WriteCounters> for WriteCount {
    fn from(writes: &WriteCounters) -> Self {
        Self {
            created: writes.created.get(),
            updated: writes.updated.get(),
            unchanged: writes.unchanged.get(),
            deleted: writes.deleted.get(),
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
