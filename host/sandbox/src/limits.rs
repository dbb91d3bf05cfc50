//! What one run may use up.

use std::time::Duration;

use crate::http::HttpBudget;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The budget of one run. A run that goes over one of these is refused the next step, or ended, with a sentence that names the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of linear memory, all memories of the component together.
    pub memory: u64,
    /// Table elements, all tables of the component together.
    pub table_elements: u64,
    /// Time from the first instruction to the end, waiting for the user left out.
    pub wall: Duration,
    /// Time on a processor, host functions included.
    pub cpu: Duration,
    /// How long the user is waited for, each time.
    pub answer: Duration,
    /// How long a run may go on after it was cancelled, to tidy up.
    pub grace: Duration,
    /// Bytes of log text, names and values of fields included.
    pub log_bytes: u64,
    /// Number of log lines.
    pub log_lines: u64,
    /// Bytes of one log line; the rest of a longer one is cut off.
    pub log_line_bytes: usize,
    /// Documents written or deleted.
    pub documents: u64,
    /// Files written or removed.
    pub files: u64,
    /// Bytes written to files.
    pub file_bytes: u64,
    /// Uploads open at one time.
    pub uploads: u32,
    /// Bytes in `/tmp` and in files below `/files` that are not written from beginning to end.
    pub scratch_bytes: u64,
    /// Files and directories in `/tmp`.
    pub scratch_files: u32,
    /// Files below `/files` open at one time; of these, [`uploads`](Self::uploads) for writing.
    pub open_files: u32,
    /// Resources (streams, pollables, uploads) open at one time.
    pub handles: usize,
    /// Bytes that the guest may pass in one call of a host function.
    pub host_call_bytes: usize,
    /// What the run may ask of the network; the [`Session`](crate::http::Session) keeps it.
    pub http: HttpBudget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 * MIB,
            table_elements: 100_000,
            wall: Duration::from_secs(300),
            cpu: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            grace: Duration::from_secs(2),
            log_bytes: MIB,
            log_lines: 10_000,
            log_line_bytes: 8 << 10,
            documents: 20_000,
            files: 2_000,
            file_bytes: 2 * KIB * MIB,
            uploads: 8,
            scratch_bytes: 32 * MIB,
            scratch_files: 10_000,
            open_files: 64,
            handles: 2_048,
            host_call_bytes: 16 << 20,
            http: HttpBudget::default(),
        }
    }
}
