//! Checking a store against itself, and repairing what follows from something else.
//!
//! Documents, the traces of deletions, where jobs stand and when triggers are due are *primaries*: nothing else tells them. Places on
//! timelines, leases, locks and entries of indexes follow from them. A check reads everything once and compares; a repair writes
//! anew or removes what follows, and never touches a primary. Memory grows with nothing but the number of blobs, by some 20 bytes each.

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

/// How many entries are read at once.
const PAGE_SIZE: usize = 256;
/// How often a repair goes through the store: what one repair uncovers is for the next.
const MAX_REPAIR_ROUNDS: usize = 4;
/// While the store is used, a younger blob may be on its way into a document: the slowest upload is given a day.
pub const MIN_ORPHAN_AGE: TimeDelta = TimeDelta::days(1);

/// What the program above keeps in its documents: the store by itself knows no type.
pub trait DocumentSchema: Send + Sync {
    /// What a document refers to.
    ///
    /// # Errors
    /// In words, when the document is not what its type says.
    fn links(&self, document: &DocRef, body: &Map) -> Result<Links, String>;

    /// Why a document does not fit the one that it belongs to, in words; `None` when it does. `look` reads another document.
    ///
    /// # Errors
    /// Those of `look`.
    fn placement_error(
        &self,
        document: &DocRef,
        body: &Map,
        look: &dyn Fn(&DocRef) -> Result<Option<Map>>,
    ) -> Result<Option<String>> {
        let _ = (document, body, look);
        Ok(None)
    }

    /// The type of the documents whose ids a unique index holds; `None` for an index that is not ours.
    fn index_doctype(&self, index: &str) -> Option<Doctype>;
}

/// What a document refers to, besides its own content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Links {
    /// Its contents.
    pub blobs: Vec<BlobLink>,
    /// Its keys in unique indexes, as index and key; the value of each is its id.
    pub unique_keys: Vec<(&'static str, String)>,
}

/// A content, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobLink {
    /// Where it is.
    pub blob: BlobId,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its SHA-256, hexadecimal.
    pub sha256: Option<String>,
}

/// For a store whose documents refer to nothing.
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

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct FsckOptions {
    /// Whether to read every content and compare it with what its document says.
    pub deep: bool,
    /// Whether to repair what follows from something else.
    pub repair: bool,
}

/// What a check tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum FsckProgress<'a> {
    /// How many entries were read in this round.
    Read(u64),
    /// A problem that is left.
    Found(&'a FsckProblem),
    /// A problem that was solved.
    Repaired(&'a FsckProblem),
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FsckSummary {
    /// Entries of the database.
    pub entries: u64,
    /// Contents.
    pub blobs: u64,
    /// Problems that are left.
    pub problems: u64,
    /// Problems that were solved.
    pub repaired: u64,
}

impl Store {
    /// Checks everything. Nobody may write meanwhile: a commit that falls into it is taken for a problem, and a blob that a commit is to
    /// refer to for one that nothing needs.
    ///
    /// # Errors
    /// When the database or the disk fails. What is damaged is no error, but a problem.
    pub async fn fsck(
        &self,
        schema: &dyn DocumentSchema,
        options: FsckOptions,
        told: &mut (dyn FnMut(FsckProgress<'_>) + Send),
    ) -> Result<FsckSummary> {
        let mut repaired = 0;
        for _ in 0..if options.repair { MAX_REPAIR_ROUNDS } else { 0 } {
            let mut solved = 0;
            self.run_pass(schema, options, &mut |event| match event {
                PassEvent::Read(entries) => told(FsckProgress::Read(entries)),
                PassEvent::Finding(..) => {}
                PassEvent::Repaired(problem) => {
                    solved += 1;
                    told(FsckProgress::Repaired(problem));
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
                PassEvent::Read(entries) => told(FsckProgress::Read(entries)),
                PassEvent::Finding(problem) => {
                    problems += 1;
                    told(FsckProgress::Found(problem));
                }
                PassEvent::Repaired(_) => {}
            })
            .await?;
        if problems == 0 {
            self.mark_checked();
        }
        Ok(FsckSummary { entries, blobs, problems, repaired })
    }

    /// Goes through the store once; answers how many entries and blobs there are.
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
        // What refers to a blob may be what cannot be read.
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
                // It stays a finding: a content that nothing needs keeps neither the other repairs nor the server from going on.
                Err(error) => {
                    tracing::warn!(%blob, %error, "a content that nothing needs cannot be removed; remove it by hand");
                    false
                }
            },
        };
        seen(if solved { PassEvent::Repaired(&problem) } else { PassEvent::Finding(&problem) });
        Ok(())
    }
}

/// What a round tells.
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
            self.read_or_report::<Sequence>(key, bytes, "the last number that a change was given");
        } else {
            self.report(FsckProblem::Unknown { what: checker::describe_key(key) });
        }
    }
}

#[cfg(test)]
mod tests;
