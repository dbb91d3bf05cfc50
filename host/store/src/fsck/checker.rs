//! What the checks of each kind of entry share.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finding::{Finding, Problem, Remedy};
use super::{ContentLink, Schema};
use crate::Map;
use crate::blob::Blobs;
use crate::document::{self, Record};
use crate::error::{Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Space};
use crate::kv::{Batch, Kv};
use crate::secondary::Definitions;
use crate::{feed, frame, view};

/// Looks at one entry after the other and gathers what it finds.
pub(crate) struct Checker<'a> {
    pub(crate) kv: &'a dyn Kv,
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) schema: &'a dyn Schema,
    /// The indexes of the type that was looked at last: documents come type by type.
    pub(crate) definitions: Option<(Vec<u8>, Definitions)>,
    pub(super) found: Vec<Finding>,
    /// Contents that the entries refer to, still to be looked for.
    pub(super) contents: Vec<(DocRef, ContentLink)>,
    /// Some document could not be read, so that nobody knows which contents it refers to.
    pub(super) unclear: bool,
}

/// What an entry that others follow from says.
pub(crate) enum Primary<T> {
    Absent,
    /// It is a finding of its own; what follows from it is left alone.
    Unreadable,
    Is(T),
}

impl<'a> Checker<'a> {
    pub(super) fn new(kv: &'a dyn Kv, blobs: &'a dyn Blobs, schema: &'a dyn Schema) -> Self {
        let (definitions, found, contents) = (None, Vec::new(), Vec::new());
        Self { kv, blobs, schema, definitions, found, contents, unclear: false }
    }

    /// Notes a problem that no repair solves.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.found.push(Finding { problem, remedy: None });
    }

    fn repairable(&mut self, problem: Problem, batch: Batch) {
        self.found.push(Finding { problem, remedy: Some(Remedy::Write(batch)) });
    }

    /// Reads an entry that others follow from; what cannot be read is a finding.
    pub(crate) fn primary<T: DeserializeOwned>(&mut self, key: &[u8], bytes: &[u8], what: &str) -> Option<T> {
        match view::decode(key, bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                self.report(Problem::Damaged { what: format!("{what} ({})", name(key)), reason: reason(&error) });
                None
            }
        }
    }

    /// Reads an entry that others follow from, on behalf of one of those.
    pub(crate) fn look<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Primary<T>> {
        match view::read(self.kv, key) {
            Ok(Some(record)) => Ok(Primary::Is(record)),
            Ok(None) => Ok(Primary::Absent),
            Err(Error::Corrupt { .. }) => Ok(Primary::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Which document lies under a key.
    pub(crate) fn document_at(&self, key: &[u8]) -> Result<Primary<DocRef>> {
        Ok(match self.look::<Record>(key)? {
            Primary::Absent => Primary::Absent,
            Primary::Unreadable => Primary::Unreadable,
            Primary::Is(record) => match key::instance(key).zip(key::document_id(key).ok()) {
                Some((instance, id)) => Primary::Is(DocRef::new(&instance, &record.doctype, id)),
                None => Primary::Unreadable,
            },
        })
    }

    /// The content of the document under a key.
    pub(crate) fn body_at(&self, key: &[u8]) -> Result<Primary<Map>> {
        let record = match self.look::<Record>(key)? {
            Primary::Absent => return Ok(Primary::Absent),
            Primary::Unreadable => return Ok(Primary::Unreadable),
            Primary::Is(record) => record,
        };
        match document::body(self.blobs, &record) {
            Ok(body) => Ok(Primary::Is(body)),
            Err(error) if error.is_content_lost() => Ok(Primary::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Insists on an entry that follows from another one.
    pub(crate) fn expect<T>(&mut self, key: Vec<u8>, record: &T, what: &str, of: impl ToString) -> Result<()>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let bytes = self.kv.get(&key)?;
        let found = bytes.as_ref().map(|bytes| view::decode::<T>(&key, bytes));
        let (what, of) = (what.to_owned(), of.to_string());
        let problem = match found {
            Some(Ok(found)) if found == *record => return Ok(()),
            Some(_) => Problem::Differs { what, of },
            None => Problem::Missing { what, of },
        };
        let mut batch = Batch::default();
        batch.check(key.clone(), bytes).put(key.clone(), frame::encode(|| name(&key), record)?);
        self.repairable(problem, batch);
        Ok(())
    }

    /// Notes that a document, or the trace of a deleted one, has no place in its feed.
    pub(crate) fn missing_change(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        log: Vec<u8>,
        record: &feed::Record,
        place: Vec<u8>,
    ) -> Result<()> {
        let problem = Problem::Missing { what: "the last change".to_owned(), of: name(key) };
        let mut batch = Batch::default();
        batch.check(key.to_vec(), Some(bytes.to_vec())).append(log, record, place)?;
        self.repairable(problem, batch);
        Ok(())
    }

    /// Notes an entry that follows from nothing.
    pub(crate) fn stray(&mut self, key: &[u8], bytes: &[u8], what: &str, reason: impl Into<String>) {
        let problem = Problem::Stray { what: format!("{what} ({})", name(key)), reason: reason.into() };
        let mut batch = Batch::default();
        batch.check(key.to_vec(), Some(bytes.to_vec())).remove(key.to_vec());
        self.repairable(problem, batch);
    }

    /// Looks at a document: its own content, what follows from it, what it refers to.
    pub(super) fn document(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let Some(record) = self.primary::<Record>(key, bytes, "a document") else {
            self.unclear = true;
            return Ok(());
        };
        let at = match key::instance(key).zip(key::document_id(key).ok()) {
            Some((instance, id)) => DocRef::new(&instance, &record.doctype, id),
            None => DocRef::new(&InstanceId::global(), &record.doctype, ""),
        };
        if key::of_document(Space::Document, &at).ok().as_deref() != Some(key) {
            let reason = format!("it says that it is {at}");
            self.report(Problem::Damaged { what: format!("a document ({})", name(key)), reason });
            self.unclear = true;
            return Ok(());
        }
        feed::check_numbered(self, key, bytes, &record.rev, false)?;
        self.contents.extend(record.link().map(|link| (at.clone(), link)));
        let body = match document::body(self.blobs, &record) {
            Ok(body) => body,
            // Found where the contents are looked for.
            Err(Error::BlobNotFound { .. }) => {
                self.unclear = true;
                return Ok(());
            }
            Err(error @ (Error::Corrupt { .. } | Error::BlobUnreadable { .. })) => {
                self.unclear = true;
                self.report(Problem::Unclear { document: at.to_string(), reason: reason(&error) });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        crate::secondary::check_document(self, &at, &body)?;
        let look = |other: &DocRef| Ok(document::read(self.kv, self.blobs, other)?.map(|found| found.body));
        match self.schema.misplaced(&at, &body, &look) {
            Ok(None) => {}
            Ok(Some(reason)) => self.report(Problem::Misplaced { document: at.to_string(), reason }),
            // Another document cannot be read, which is a finding of its own.
            Err(error) if error.is_content_lost() => {}
            Err(error) => return Err(error),
        }
        match self.schema.links(&at, &body) {
            Ok(links) => {
                self.contents.extend(links.contents.into_iter().map(|link| (at.clone(), link)));
                for (index, key) in &links.unique {
                    crate::index::check_claim(self, &at, index, key)?;
                }
            }
            Err(reason) => {
                self.unclear = true;
                self.report(Problem::Unclear { document: at.to_string(), reason });
            }
        }
        Ok(())
    }

    /// Looks at the trace of a deleted document.
    pub(super) fn tombstone(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let what = "the trace of a deletion";
        let Some(trace) = self.primary::<document::Tombstone>(key, bytes, what) else { return Ok(()) };
        if self.kv.get(&key::in_space(key, Space::Document))?.is_some() {
            self.stray(key, bytes, what, "the document is there");
            return Ok(());
        }
        feed::check_numbered(self, key, bytes, &trace.rev, true)
    }
}

/// A key for a sentence.
pub(crate) fn name(key: &[u8]) -> String {
    let plain = || format!("entry {}", key.escape_ascii());
    key::instance(key).zip(key::in_instance(key)).map_or_else(plain, |(instance, path)| {
        format!("{} of instance {instance}", path.escape_ascii().to_string().replace("\\x00", "/"))
    })
}

/// What does not fit, without the advice of an error.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Corrupt { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}
