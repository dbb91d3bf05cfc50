//! Code shared by the checks of each kind of entry.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finding::{FsckFinding, FsckProblem, Repair};
use super::{BlobLink, DocumentSchema};
use crate::Map;
use crate::blob::Blobs;
use crate::document::{self, DocumentRecord};
use crate::error::{Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Keyspace};
use crate::kv::{Batch, Kv};
use crate::secondary_index::CatalogEntries;
use crate::{feed, frame, view};

/// Checks one entry after the other and collects the findings.
pub(crate) struct Checker<'a> {
    pub(crate) kv: &'a dyn Kv,
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) schema: &'a dyn DocumentSchema,
    /// The indexes of the doctype of the last checked document; documents are sorted by doctype.
    pub(crate) definitions: Option<(Vec<u8>, CatalogEntries)>,
    pub(super) findings: Vec<FsckFinding>,
    /// Blobs that the entries refer to and that are still to be checked.
    pub(super) blob_links: Vec<(DocRef, BlobLink)>,
    /// Whether a document could not be read, so the blobs that it refers to are unknown.
    pub(super) has_unreadable_documents: bool,
}

/// The state of a source entry, from which other entries are derived.
pub(crate) enum SourceEntry<T> {
    Absent,
    /// The entry is a finding of its own; entries derived from it are not checked.
    Unreadable,
    Found(T),
}

impl<'a> Checker<'a> {
    pub(super) fn new(kv: &'a dyn Kv, blobs: &'a dyn Blobs, schema: &'a dyn DocumentSchema) -> Self {
        let (definitions, found, contents) = (None, Vec::new(), Vec::new());
        Self { kv, blobs, schema, definitions, findings: found, blob_links: contents, has_unreadable_documents: false }
    }

    /// Reports a problem that no repair solves.
    pub(crate) fn report(&mut self, problem: FsckProblem) {
        self.findings.push(FsckFinding { problem, repair: None });
    }

    fn report_repairable(&mut self, problem: FsckProblem, batch: Batch) {
        self.findings.push(FsckFinding { problem, repair: Some(Repair::Write(batch)) });
    }

    /// Reads a source entry; reports a finding if it cannot be read.
    pub(crate) fn read_or_report<T: DeserializeOwned>(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        description: &str,
    ) -> Option<T> {
        match view::decode(key, bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                self.report(FsckProblem::Damaged {
                    what: format!("{description} ({})", describe_key(key)),
                    reason: error_reason(&error),
                });
                None
            }
        }
    }

    /// Reads a source entry during the check of an entry derived from it.
    pub(crate) fn read_source<T: DeserializeOwned>(&self, key: &[u8]) -> Result<SourceEntry<T>> {
        match view::read(self.kv, key) {
            Ok(Some(record)) => Ok(SourceEntry::Found(record)),
            Ok(None) => Ok(SourceEntry::Absent),
            Err(Error::Corrupt { .. }) => Ok(SourceEntry::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Returns the document under a key.
    pub(crate) fn document_at(&self, key: &[u8]) -> Result<SourceEntry<DocRef>> {
        Ok(match self.read_source::<DocumentRecord>(key)? {
            SourceEntry::Absent => SourceEntry::Absent,
            SourceEntry::Unreadable => SourceEntry::Unreadable,
            SourceEntry::Found(record) => match key::instance(key).zip(key::document_id(key).ok()) {
                Some((instance, id)) => SourceEntry::Found(DocRef::new(&instance, &record.doctype, id)),
                None => SourceEntry::Unreadable,
            },
        })
    }

    /// Returns the body of the document under a key.
    pub(crate) fn body_at(&self, key: &[u8]) -> Result<SourceEntry<Map>> {
        let record = match self.read_source::<DocumentRecord>(key)? {
            SourceEntry::Absent => return Ok(SourceEntry::Absent),
            SourceEntry::Unreadable => return Ok(SourceEntry::Unreadable),
            SourceEntry::Found(record) => record,
        };
        match document::body(self.blobs, &record) {
            Ok(body) => Ok(SourceEntry::Found(body)),
            Err(error) if error.is_blob_lost() => Ok(SourceEntry::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Requires a derived entry to exist.
    pub(crate) fn expect_entry<T>(&mut self, key: Vec<u8>, record: &T, what: &str, of: impl ToString) -> Result<()>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let bytes = self.kv.get(&key)?;
        let found = bytes.as_ref().map(|bytes| view::decode::<T>(&key, bytes));
        let (what, of) = (what.to_owned(), of.to_string());
        let problem = match found {
            Some(Ok(found)) if found == *record => return Ok(()),
            Some(_) => FsckProblem::Mismatch { what, of },
            None => FsckProblem::Missing { what, owner: of },
        };
        let mut batch = Batch::default();
        batch.check(key.clone(), bytes).put(key.clone(), frame::encode(|| describe_key(&key), record)?);
        self.report_repairable(problem, batch);
        Ok(())
    }

    /// Reports that a document or tombstone has no place in its feed.
    pub(crate) fn report_missing_change(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        log: Vec<u8>,
        record: &feed::FeedEntry,
        number_key: Vec<u8>,
    ) -> Result<()> {
        let problem = FsckProblem::Missing { what: "the feed entry".to_owned(), owner: describe_key(key) };
        let mut batch = Batch::default();
        batch.check(key.to_vec(), Some(bytes.to_vec())).append(log, record, number_key)?;
        self.report_repairable(problem, batch);
        Ok(())
    }

    /// Reports an entry without a source.
    pub(crate) fn report_stray(&mut self, key: &[u8], bytes: &[u8], description: &str, reason: impl Into<String>) {
        let problem =
            FsckProblem::Stray { what: format!("{description} ({})", describe_key(key)), reason: reason.into() };
        let mut batch = Batch::default();
        batch.check(key.to_vec(), Some(bytes.to_vec())).remove(key.to_vec());
        self.report_repairable(problem, batch);
    }

    /// Checks the body, the derived entries and the references of a document.
    pub(super) fn check_document(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let Some(record) = self.read_or_report::<DocumentRecord>(key, bytes, "a document") else {
            self.has_unreadable_documents = true;
            return Ok(());
        };
        let document = match key::instance(key).zip(key::document_id(key).ok()) {
            Some((instance, id)) => DocRef::new(&instance, &record.doctype, id),
            None => DocRef::new(&InstanceId::global(), &record.doctype, ""),
        };
        if key::of_document(Keyspace::Document, &document).ok().as_deref() != Some(key) {
            let reason = format!("its content names {document}");
            self.report(FsckProblem::Damaged { what: format!("a document ({})", describe_key(key)), reason });
            self.has_unreadable_documents = true;
            return Ok(());
        }
        feed::check_in_feed(self, key, bytes, &record.rev, false)?;
        self.blob_links.extend(record.blob_link().map(|link| (document.clone(), link)));
        let body = match document::body(self.blobs, &record) {
            Ok(body) => body,
            // The check of the blobs reports this.
            Err(Error::BlobNotFound { .. }) => {
                self.has_unreadable_documents = true;
                return Ok(());
            }
            Err(error @ (Error::Corrupt { .. } | Error::BlobUnreadable { .. })) => {
                self.has_unreadable_documents = true;
                self.report(FsckProblem::InvalidDocument {
                    document: document.to_string(),
                    reason: error_reason(&error),
                });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        crate::secondary_index::check_document(self, &document, &body)?;
        let look = |other: &DocRef| Ok(document::read(self.kv, self.blobs, other)?.map(|found| found.body));
        match self.schema.placement_error(&document, &body, &look) {
            Ok(None) => {}
            Ok(Some(reason)) => self.report(FsckProblem::Misplaced { document: document.to_string(), reason }),
            // Another document cannot be read, which is a finding of its own.
            Err(error) if error.is_blob_lost() => {}
            Err(error) => return Err(error),
        }
        match self.schema.links(&document, &body) {
            Ok(links) => {
                self.blob_links.extend(links.blobs.into_iter().map(|link| (document.clone(), link)));
                for (index, key) in &links.unique_keys {
                    crate::unique_index::check_unique_key(self, &document, index, key)?;
                }
            }
            Err(reason) => {
                self.has_unreadable_documents = true;
                self.report(FsckProblem::InvalidDocument { document: document.to_string(), reason });
            }
        }
        Ok(())
    }

    /// Checks the tombstone of a deleted document.
    pub(super) fn check_tombstone(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let description = "the tombstone of a deleted document";
        let Some(tombstone) = self.read_or_report::<document::Tombstone>(key, bytes, description) else {
            return Ok(());
        };
        if self.kv.get(&key::with_keyspace(key, Keyspace::Document))?.is_some() {
            self.report_stray(key, bytes, description, "the document exists");
            return Ok(());
        }
        feed::check_in_feed(self, key, bytes, &tombstone.rev, true)
    }
}

/// Formats a key for a sentence.
pub(crate) fn describe_key(key: &[u8]) -> String {
    let plain = || format!("entry {}", key.escape_ascii());
    key::instance(key).zip(key::instance_suffix(key)).map_or_else(plain, |(instance, path)| {
        format!("{} of instance {instance}", path.escape_ascii().to_string().replace("\\x00", "/"))
    })
}

/// Returns the mismatch, without the advice of an error.
pub(crate) fn error_reason(error: &Error) -> String {
    match error {
        Error::Corrupt { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}
