//! Checks the consistency of a store and repairs derived entries.
//!
//! Documents, tombstones, the queue states of jobs and the due times of triggers are *source entries*, which cannot be
//! derived from other entries. Places on timelines, leases, locks and index entries are derived from them. A check
//! reads everything once and compares; a repair rewrites or removes derived entries, and never changes a source. Memory
//! grows only with the number of blobs, by some 20 bytes each.

use std::collections::HashSet;

use chrono::TimeDelta;
use konnector_manifest::Doctype;
use serde::Serialize;

use crate::Map;
use crate::blob::BlobId;
use crate::error::Result;
use crate::id::DocRef;
use crate::kv::{CommitOutcome, Sequence};
use crate::store::Store;
use crate::{feed, key, queue, schedule, secondary_index, unique_index};

mod blobs;
mod checker;
mod finding;

pub(crate) use checker::{Checker, SourceEntry, error_reason};
pub use finding::FsckProblem;
use finding::{FsckFinding, Repair};

/// Number of entries read at once.
const PAGE_SIZE: usize = 256;
/// Number of passes of a repair over the store. Problems that one pass uncovers are repaired by the next.
const MAX_REPAIR_ROUNDS: usize = 4;
/// While the store is in use, a younger blob may still be waiting for its document, because the slowest upload may take
/// a day.
pub const MIN_ORPHAN_AGE: TimeDelta = TimeDelta::days(1);

/// Knowledge that the layers above have about their documents. The store itself knows no types.
pub trait DocumentSchema: Send + Sync {
    /// Returns the references of a document.
    ///
    /// # Errors
    ///
    /// If the document does not match its doctype; the error describes the mismatch.
    fn links(&self, document: &DocRef, body: &Map) -> Result<Links, String>;

    /// Returns a description of why a document does not match the one that it belongs to; `None` if the document
    /// matches. `look` reads another document.
    ///
    /// # Errors
    ///
    /// If `look` fails.
    fn placement_error(
        &self,
        document: &DocRef,
        body: &Map,
        look: &dyn Fn(&DocRef) -> Result<Option<Map>>,
    ) -> Result<Option<String>> {
        let _ = (document, body, look);
        Ok(None)
    }

    /// Returns the doctype of the documents whose ids a unique index contains; `None` for an unknown index.
    fn index_doctype(&self, index: &str) -> Option<Doctype>;
}

/// References of a document, except to its own body.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Links {
    /// Blobs that the document refers to.
    pub blobs: Vec<BlobLink>,
    /// Keys of the document in unique indexes, as index and key; the value of each is the id of the document.
    pub unique_keys: Vec<(&'static str, String)>,
}

/// Reference to a blob, with its known properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobLink {
    /// Id of the blob.
    pub blob: BlobId,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal, if known.
    pub sha256: Option<String>,
}

/// Schema of a store whose documents refer to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSchema;

impl DocumentSchema for NoSchema {
    fn links(&self, _: &DocRef, _: &Map) -> Result<Links, String> {
        Ok(Links::default())
    }

    fn index_doctype(&self, _: &str) -> Option<Doctype> {
        None
    }
}

/// Options of a check.
#[derive(Debug, Clone, Copy)]
pub struct FsckOptions {
    /// Whether to read every blob and compare it with its document.
    pub deep: bool,
    /// Whether to repair derived entries.
    pub repair: bool,
}

/// Progress of a check.
#[derive(Debug, Clone, Copy)]
pub enum FsckProgress<'a> {
    /// Number of entries read in this pass.
    Read(u64),
    /// A problem that remains.
    Found(&'a FsckProblem),
    /// A problem that was repaired.
    Repaired(&'a FsckProblem),
}

/// Result of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FsckSummary {
    /// Number of database entries.
    pub entries: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Number of remaining problems.
    pub problems: u64,
    /// Number of repaired problems.
    pub repaired: u64,
}

impl Store {
    /// Checks everything. No one may write in the meantime, because a concurrent commit would be reported as a problem,
    /// and a blob that a commit is about to refer to as an orphan.
    ///
    /// # Errors
    ///
    /// If the store fails. Damaged data is not an error but a problem.
    pub async fn fsck(
        &self,
        schema: &dyn DocumentSchema,
        options: FsckOptions,
        progress: &mut (dyn FnMut(FsckProgress<'_>) + Send),
    ) -> Result<FsckSummary> {
        let mut repaired = 0;
        for _ in 0..if options.repair { MAX_REPAIR_ROUNDS } else { 0 } {
            let mut solved = 0;
            self.run_pass(schema, options, &mut |event| match event {
                PassEvent::Read(entries) => progress(FsckProgress::Read(entries)),
                PassEvent::Finding(..) => {}
                PassEvent::Repaired(problem) => {
                    solved += 1;
                    progress(FsckProgress::Repaired(problem));
                }
            })
            .await?;
            if solved == 0 {
                break;
            }
            repaired += solved;
        }
        let mut problems = 0;
        let options = FsckOptions { repair: false, ..options };
        let (entries, blobs) = self
            .run_pass(schema, options, &mut |event| match event {
                PassEvent::Read(entries) => progress(FsckProgress::Read(entries)),
                PassEvent::Finding(problem) => {
                    problems += 1;
                    progress(FsckProgress::Found(problem));
                }
                PassEvent::Repaired(_) => {}
            })
            .await?;
        if problems == 0 {
            self.mark_checked();
        }
        Ok(FsckSummary { entries, blobs, problems, repaired })
    }

    /// Makes one pass over the store; returns the number of entries and blobs.
    async fn run_pass(
        &self,
        schema: &dyn DocumentSchema,
        options: FsckOptions,
        seen: &mut (dyn FnMut(PassEvent<'_>) + Send),
    ) -> Result<(u64, u64)> {
        let mut unused: HashSet<BlobId> = self.blobs().list().await?.into_iter().collect();
        let blobs = unused.len() as u64;
        let mut check = Checker::new(self.kv(), self.blobs(), schema);
        let (mut range, mut entries) = (key::all(), 0);
        loop {
            let page = self.kv().scan(&range.from, &range.to, PAGE_SIZE, false)?;
            let Some((last, _)) = page.last() else { break };
            range.start_after(last);
            entries += page.len() as u64;
            for (key, bytes) in &page {
                check.check_entry(key, bytes)?;
            }
            for (document, link) in std::mem::take(&mut check.blob_links) {
                let first = unused.remove(&link.blob);
                if let Some(problem) = self.check_blob(&document, &link, first, options.deep).await? {
                    check.report(problem);
                }
            }
            for finding in std::mem::take(&mut check.findings) {
                self.apply_or_report(finding, options.repair, seen).await?;
            }
            seen(PassEvent::Read(entries));
            tokio::task::yield_now().await;
        }
        // An unreadable document may refer to any blob.
        if !check.has_unreadable_documents {
            for blob in unused {
                let problem = FsckProblem::BlobOrphaned { blob };
                self.apply_or_report(
                    FsckFinding { problem, repair: Some(Repair::RemoveBlob(blob)) },
                    options.repair,
                    seen,
                )
                .await?;
            }
        }
        Ok((entries, blobs))
    }

    async fn apply_or_report(
        &self,
        finding: FsckFinding,
        repair: bool,
        seen: &mut (dyn FnMut(PassEvent<'_>) + Send),
    ) -> Result<()> {
        let FsckFinding { problem, repair: remedy } = finding;
        let solved = match remedy.filter(|_| repair) {
            None => false,
            Some(Repair::Write(batch)) => self.kv().commit(batch).await? == CommitOutcome::Applied,
            Some(Repair::RemoveBlob(blob)) => match self.blobs().remove(&blob).await {
                Ok(()) => true,
                // It remains a finding, because an orphaned blob must not block the other repairs or the server.
                Err(error) => {
                    tracing::warn!(%blob, %error, "cannot remove an unreferenced blob; delete it by hand");
                    false
                }
            },
        };
        seen(if solved { PassEvent::Repaired(&problem) } else { PassEvent::Finding(&problem) });
        Ok(())
    }
}

/// Event of a pass.
enum PassEvent<'a> {
    Read(u64),
    Finding(&'a FsckProblem),
    Repaired(&'a FsckProblem),
}

impl Checker<'_> {
    fn check_entry(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        match (key, key.get(17)) {
            ([0, ..], _) => self.check_setting(key, bytes),
            ([1, ..], Some(b'd')) => return self.check_document(key, bytes),
            ([1, ..], Some(b't')) => return self.check_tombstone(key, bytes),
            ([1, ..], Some(b'n')) => return feed::check_position(self, key, bytes),
            ([1, ..], Some(b'c')) => return feed::check_change(self, key, bytes),
            ([1, ..], Some(b'j')) => return queue::check_record(self, key, bytes),
            ([1, ..], Some(b's')) => return schedule::check_schedule(self, key, bytes),
            ([1, ..], Some(b'u')) => return unique_index::check_entry(self, key, bytes),
            ([1, ..], Some(b'k')) | ([2, b's', ..], _) => return queue::check_lock(self, key, bytes),
            ([1, ..], Some(b'x')) => return secondary_index::check_catalog(self, key, bytes),
            ([1, ..], Some(b'i')) => return secondary_index::check_entry(self, key, bytes),
            ([2, b'r' | b'q', ..], _) => return queue::check_queue_entry(self, key, bytes),
            ([2, b'l', ..], _) => return queue::check_lease(self, key, bytes),
            ([2, b'w', ..], _) => return schedule::check_due_entry(self, key, bytes),
            _ => self.report(FsckProblem::Unknown { what: checker::describe_key(key) }),
        }
        Ok(())
    }

    fn check_setting(&mut self, key: &[u8], bytes: &[u8]) {
        if key == key::format() {
            self.read_or_report::<u32>(key, bytes, "the format of the data folder");
        } else if key == key::program() {
            self.read_or_report::<String>(key, bytes, "the version of the program");
        } else if key == key::sequence() {
            self.read_or_report::<Sequence>(key, bytes, "the last assigned change number");
        } else {
            self.report(FsckProblem::Unknown { what: checker::describe_key(key) });
        }
    }
}

#[cfg(test)]
mod tests;
