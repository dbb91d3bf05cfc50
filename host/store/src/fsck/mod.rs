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
use crate::kv::{Committed, Sequence};
use crate::store::Store;
use crate::{due, feed, index, key, queue, secondary};

mod checker;
mod contents;
mod finding;

pub(crate) use checker::{Checker, Primary, reason};
pub use finding::Problem;
use finding::{Finding, Remedy};

/// How many entries are read at once.
const PAGE: usize = 256;
/// How often a repair goes through the store: what one repair uncovers is for the next.
const ROUNDS: usize = 4;
/// While the store is used, a younger blob may be on its way into a document: the slowest upload is given a day.
pub const ORPHAN_AGE: TimeDelta = TimeDelta::days(1);

/// What the program above keeps in its documents: the store by itself knows no type.
pub trait Schema: Send + Sync {
    /// What a document refers to.
    ///
    /// # Errors
    /// In words, when the document is not what its type says.
    fn links(&self, document: &DocRef, body: &Map) -> Result<Links, String>;

    /// Why a document does not fit the one that it belongs to, in words; `None` when it does. `look` reads another document.
    ///
    /// # Errors
    /// Those of `look`.
    fn misplaced(
        &self,
        document: &DocRef,
        body: &Map,
        look: &dyn Fn(&DocRef) -> Result<Option<Map>>,
    ) -> Result<Option<String>> {
        let _ = (document, body, look);
        Ok(None)
    }

    /// The type of the documents whose ids a unique index holds; `None` for an index that is not ours.
    fn indexed(&self, index: &str) -> Option<Doctype>;
}

/// What a document refers to, besides its own content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Links {
    /// Its contents.
    pub contents: Vec<ContentLink>,
    /// Its keys in unique indexes, as index and key; the value of each is its id.
    pub unique: Vec<(&'static str, String)>,
}

/// A content, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentLink {
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

impl Schema for NoSchema {
    fn links(&self, _: &DocRef, _: &Map) -> Result<Links, String> {
        Ok(Links::default())
    }

    fn indexed(&self, _: &str) -> Option<Doctype> {
        None
    }
}

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct Fsck {
    /// Whether to read every content and compare it with what its document says.
    pub deep: bool,
    /// Whether to repair what follows from something else.
    pub repair: bool,
}

/// What a check tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// How many entries were read in this round.
    Read(u64),
    /// A problem that is left.
    Found(&'a Problem),
    /// A problem that was solved.
    Repaired(&'a Problem),
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
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
        schema: &dyn Schema,
        options: Fsck,
        told: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Summary> {
        let mut repaired = 0;
        for _ in 0..if options.repair { ROUNDS } else { 0 } {
            let mut solved = 0;
            self.pass(schema, options, &mut |event| match event {
                Seen::Read(entries) => told(Progress::Read(entries)),
                Seen::Finding(..) => {}
                Seen::Repaired(problem) => {
                    solved += 1;
                    told(Progress::Repaired(problem));
                }
            })
            .await?;
            if solved == 0 {
                break;
            }
            repaired += solved;
        }
        let mut problems = 0;
        let options = Fsck { repair: false, ..options };
        let (entries, blobs) = self
            .pass(schema, options, &mut |event| match event {
                Seen::Read(entries) => told(Progress::Read(entries)),
                Seen::Finding(problem) => {
                    problems += 1;
                    told(Progress::Found(problem));
                }
                Seen::Repaired(_) => {}
            })
            .await?;
        if problems == 0 {
            self.note_checked();
        }
        Ok(Summary { entries, blobs, problems, repaired })
    }

    /// Goes through the store once; answers how many entries and blobs there are.
    async fn pass(
        &self,
        schema: &dyn Schema,
        options: Fsck,
        seen: &mut (dyn FnMut(Seen<'_>) + Send),
    ) -> Result<(u64, u64)> {
        let mut unused: HashSet<BlobId> = self.blobs().list().await?.into_iter().collect();
        let blobs = unused.len() as u64;
        let mut check = Checker::new(self.kv(), self.blobs(), schema);
        let (mut range, mut entries) = (key::everything(), 0);
        loop {
            let page = self.kv().scan(&range.from, &range.to, PAGE, false)?;
            let Some((last, _)) = page.last() else { break };
            range.behind(last);
            entries += page.len() as u64;
            for (key, bytes) in &page {
                check.entry(key, bytes)?;
            }
            for (document, link) in std::mem::take(&mut check.contents) {
                let first = unused.remove(&link.blob);
                if let Some(problem) = self.content(&document, &link, first, options.deep).await? {
                    check.report(problem);
                }
            }
            for finding in std::mem::take(&mut check.found) {
                self.settle(finding, options.repair, seen).await?;
            }
            seen(Seen::Read(entries));
            tokio::task::yield_now().await;
        }
        // What refers to a blob may be what cannot be read.
        if !check.unclear {
            for blob in unused {
                let problem = Problem::ContentUnused { blob };
                self.settle(Finding { problem, remedy: Some(Remedy::RemoveBlob(blob)) }, options.repair, seen).await?;
            }
        }
        Ok((entries, blobs))
    }

    async fn settle(&self, finding: Finding, repair: bool, seen: &mut (dyn FnMut(Seen<'_>) + Send)) -> Result<()> {
        let Finding { problem, remedy } = finding;
        let solved = match remedy.filter(|_| repair) {
            None => false,
            Some(Remedy::Write(batch)) => self.kv().commit(batch).await? == Committed::Applied,
            Some(Remedy::RemoveBlob(blob)) => match self.blobs().remove(&blob).await {
                Ok(()) => true,
                // It stays a finding: a content that nothing needs keeps neither the other repairs nor the server from going on.
                Err(error) => {
                    tracing::warn!(%blob, %error, "a content that nothing needs cannot be removed; remove it by hand");
                    false
                }
            },
        };
        seen(if solved { Seen::Repaired(&problem) } else { Seen::Finding(&problem) });
        Ok(())
    }
}

/// What a round tells.
enum Seen<'a> {
    Read(u64),
    Finding(&'a Problem),
    Repaired(&'a Problem),
}

impl Checker<'_> {
    fn entry(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        match (key, key.get(17)) {
            ([0, ..], _) => self.setting(key, bytes),
            ([1, ..], Some(b'd')) => return self.document(key, bytes),
            ([1, ..], Some(b't')) => return self.tombstone(key, bytes),
            ([1, ..], Some(b'n')) => return feed::check_number(self, key, bytes),
            ([1, ..], Some(b'c')) => return feed::check_change(self, key, bytes),
            ([1, ..], Some(b'j')) => return queue::check_standing(self, key, bytes),
            ([1, ..], Some(b's')) => return due::check_schedule(self, key, bytes),
            ([1, ..], Some(b'u')) => return index::check_entry(self, key, bytes),
            ([1, ..], Some(b'k')) | ([2, b's', ..], _) => return queue::check_lock(self, key, bytes),
            ([1, ..], Some(b'x')) => return secondary::check_catalog(self, key, bytes),
            ([1, ..], Some(b'i')) => return secondary::check_entry(self, key, bytes),
            ([2, b'r' | b'q', ..], _) => return queue::check_place(self, key, bytes),
            ([2, b'l', ..], _) => return queue::check_lease(self, key, bytes),
            ([2, b'w', ..], _) => return due::check_place(self, key, bytes),
            _ => self.report(Problem::Unknown { what: checker::name(key) }),
        }
        Ok(())
    }

    fn setting(&mut self, key: &[u8], bytes: &[u8]) {
        if key == key::format() {
            self.primary::<u32>(key, bytes, "the format of the data folder");
        } else if key == key::program() {
            self.primary::<String>(key, bytes, "the version of the program");
        } else if key == key::sequence() {
            self.primary::<Sequence>(key, bytes, "the last number that a change was given");
        } else {
            self.report(Problem::Unknown { what: checker::name(key) });
        }
    }
}

#[cfg(test)]
mod tests;
