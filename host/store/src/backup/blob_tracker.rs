//! Tracks which blobs the entries of a backup refer to, and whether the backup contains each of them as it was written.
//!
//! A blob takes some 300 bytes here until the backup contains it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::blob::BlobId;
use crate::document::{self, DocumentRecord};
use crate::error::{Error, Result};
use crate::fsck::{BlobLink, DocumentSchema, FsckProblem, error_reason};
use crate::id::DocRef;
use crate::{Map, key, view};

/// Number of listed problems; further ones are only counted. The list is for a person at a terminal.
const MAX_LISTED_PROBLEMS: usize = 100;

/// A blob that an entry refers to.
pub(super) struct ExpectedBlob {
    pub(super) document: DocRef,
    pub(super) link: BlobLink,
    /// Whether the blob is the body of the document itself, which may refer to other blobs.
    pub(super) is_body: bool,
}

/// A blob that is in the backup.
pub(super) struct BlobDigest {
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
}

pub(super) struct BlobTracker<'a> {
    schema: &'a dyn DocumentSchema,
    expected: BTreeMap<BlobId, ExpectedBlob>,
    /// The references of the entry under a key, until a later entry replaces it.
    by_key: HashMap<Vec<u8>, Vec<BlobId>>,
    /// Blobs that no entry before them refers to; a body that comes later may.
    unclaimed: HashMap<BlobId, BlobDigest>,
    verified: HashSet<BlobId>,
    problems: Vec<FsckProblem>,
    omitted: u64,
}

impl<'a> BlobTracker<'a> {
    pub(super) fn new(schema: &'a dyn DocumentSchema) -> Self {
        let (expected, by_key, early, settled) = (BTreeMap::new(), HashMap::new(), HashMap::new(), HashSet::new());
        Self { schema, expected, by_key, unclaimed: early, verified: settled, problems: Vec::new(), omitted: 0 }
    }

    /// Adds an entry of the backup, replacing an earlier one with its key; `None` if it was removed.
    pub(super) fn add_entry(&mut self, key: &[u8], value: Option<&[u8]>) {
        if !key::is_document(key) {
            return;
        }
        for blob in self.by_key.remove(key).unwrap_or_default() {
            self.expected.remove(&blob);
        }
        let Some(value) = value else { return };
        let name = || format!("the document under key {}", key.escape_ascii());
        let read = || -> Result<(DocRef, DocumentRecord)> {
            let record: DocumentRecord = view::decode(key, value)?;
            let unnamed = || Error::Corrupt { what: name(), reason: "it belongs to no instance".to_owned() };
            let instance = key::instance(key).ok_or_else(unnamed)?;
            Ok((DocRef::new(&instance, &record.doctype, key::document_id(key)?), record))
        };
        match read() {
            Ok((document, record)) => {
                let links = if let Some(link) = record.blob_link() {
                    let blob = link.blob;
                    self.expect_blob(ExpectedBlob { document, link, is_body: true });
                    vec![blob]
                } else if let document::StoredBody::Inline(body) = record.body {
                    self.expect_linked(&document, &body)
                } else {
                    Vec::new()
                };
                if !links.is_empty() {
                    self.by_key.insert(key.to_vec(), links);
                }
            }
            Err(error) => self.report(FsckProblem::Damaged { what: name(), reason: error_reason(&error) }),
        }
    }

    fn expect_linked(&mut self, document: &DocRef, body: &Map) -> Vec<BlobId> {
        match self.schema.links(document, body) {
            Ok(links) => {
                let blobs = links.blobs.iter().map(|link| link.blob).collect();
                for link in links.blobs {
                    self.expect_blob(ExpectedBlob { document: document.clone(), link, is_body: false });
                }
                blobs
            }
            Err(reason) => {
                self.report(FsckProblem::InvalidDocument { document: document.to_string(), reason });
                Vec::new()
            }
        }
    }

    fn expect_blob(&mut self, expected: ExpectedBlob) {
        let blob = expected.link.blob;
        match self.unclaimed.remove(&blob) {
            Some(digest) => self.verify(&expected, &digest, None),
            None if self.verified.contains(&blob) => {}
            None => drop(self.expected.insert(blob, expected)),
        }
    }

    /// Returns the next blob to write.
    pub(super) fn next_expected(&mut self) -> Option<ExpectedBlob> {
        let (blob, expected) = self.expected.pop_first()?;
        self.verified.insert(blob);
        Some(expected)
    }

    /// Returns whether a blob is the body of a document, in which case its bytes are needed.
    pub(super) fn is_body(&self, blob: &BlobId) -> bool {
        self.expected.get(blob).is_some_and(|expected| expected.is_body)
    }

    /// Adds a blob of the backup, with its bytes if it is a body.
    pub(super) fn add_blob(&mut self, blob: BlobId, digest: BlobDigest, bytes: Option<&[u8]>) {
        match self.expected.remove(&blob) {
            Some(expected) => {
                self.verified.insert(blob);
                self.verify(&expected, &digest, bytes);
            }
            None => drop(self.unclaimed.insert(blob, digest)),
        }
    }

    fn verify(
        &mut self,
        ExpectedBlob { document, link, is_body }: &ExpectedBlob,
        digest: &BlobDigest,
        bytes: Option<&[u8]>,
    ) {
        let found = hex::encode(digest.sha256);
        let size = link.size.filter(|recorded| *recorded != digest.size);
        let reason = match (size, link.sha256.as_ref().filter(|recorded| **recorded != found)) {
            (Some(recorded), _) => format!("it is {} bytes long instead of {recorded}", digest.size),
            (None, Some(recorded)) => format!("its SHA-256 is {found} instead of {recorded}"),
            (None, None) => {
                if let Some(bytes) = bytes.filter(|_| *is_body) {
                    self.add_body(document, link, bytes);
                }
                return;
            }
        };
        self.report(FsckProblem::BlobDamaged { document: document.to_string(), blob: link.blob, reason });
    }

    /// Adds the body of a document.
    pub(super) fn add_body(&mut self, document: &DocRef, link: &BlobLink, bytes: &[u8]) {
        match document::parse_body(link.blob, link.sha256.as_deref(), bytes) {
            Ok(body) => drop(self.expect_linked(document, &body)),
            Err(error) => self.report_unreadable(document, link.blob, &error),
        }
    }

    /// Reports a blob that could not be read.
    pub(super) fn report_unreadable(&mut self, document: &DocRef, blob: BlobId, error: &Error) {
        let document = document.to_string();
        self.report(match error {
            Error::BlobNotFound { .. } => FsckProblem::BlobMissing { document, blob },
            error => FsckProblem::BlobDamaged { document, blob, reason: error_reason(error) },
        });
    }

    fn report(&mut self, problem: FsckProblem) {
        if self.problems.len() < MAX_LISTED_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.omitted += 1;
        }
    }

    /// Requires every blob to be present.
    ///
    /// # Errors
    ///
    /// [`Error::BlobsDamaged`] if a blob is missing or damaged.
    pub(super) fn finish(mut self) -> Result<()> {
        for (blob, expected) in std::mem::take(&mut self.expected) {
            self.report(FsckProblem::BlobMissing { document: expected.document.to_string(), blob });
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Error::BlobsDamaged { problems: self.problems, omitted: self.omitted })
    }
}
