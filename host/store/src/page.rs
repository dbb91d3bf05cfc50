//! Documents in pages, which are bounded in bytes, and how many there are.

use konnector_manifest::Doctype;
use serde_json::Value;

use crate::Map;
use crate::document::{self, Document};
use crate::error::Result;
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Range, Space};
use crate::store::Store;
use crate::view;

/// Bytes of the documents on a page: two of the largest, or thousands of the usual size.
pub const MAX_PAGE_BYTES: usize = 16 << 20;
/// Entries that are counted at once.
const STEP: usize = 1_000;

/// Some documents of a type, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The documents, at least one where there are any.
    pub documents: Vec<Document>,
    /// Whether others follow.
    pub more: bool,
}

impl Store {
    /// Up to `limit` documents of a type in the order of their ids (by bytes), from behind `after` on. Fewer where they are large: a page ends
    /// with the document that brings it to [`MAX_PAGE_BYTES`].
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn page(&self, instance: &InstanceId, doctype: &Doctype, after: Option<&str>, limit: usize) -> Result<Page> {
        self.read_page((instance, doctype), &behind(instance, doctype, after)?, limit, false)
    }

    /// The same from the last id down, from before `before` on.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn page_back(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let mut range = key::documents(instance, doctype);
        if let Some(before) = before {
            range.to = key::of_document(Space::Document, &DocRef::new(instance, doctype, before))?;
        }
        self.read_page((instance, doctype), &range, limit, true)
    }

    fn read_page(
        &self,
        (instance, doctype): (&InstanceId, &Doctype),
        range: &Range,
        limit: usize,
        reverse: bool,
    ) -> Result<Page> {
        let entries = self.kv().scan(&range.from, &range.to, limit.saturating_add(1), reverse)?;
        let (mut documents, mut bytes, mut left) = (Vec::new(), 0, entries.len());
        for (key, value) in entries {
            if documents.len() >= limit || bytes >= MAX_PAGE_BYTES {
                break;
            }
            left -= 1;
            let record = view::decode(&key, &value)?;
            let at = DocRef::new(instance, doctype, key::document_id(&key)?);
            if let Some(found) = document::resolve(self.kv(), self.blobs(), &at, Some(record))? {
                bytes += weight(&found.body);
                documents.push(found);
            }
        }
        Ok(Page { documents, more: left > 0 })
    }

    /// How many documents a type has. Reads their entries, but none of them; between two steps others have a turn.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub async fn count(&self, instance: &InstanceId, doctype: &Doctype) -> Result<usize> {
        let mut range = key::documents(instance, doctype);
        let mut count = 0;
        loop {
            let entries = self.kv().scan(&range.from, &range.to, STEP, false)?;
            let Some((last, _)) = entries.last() else { return Ok(count) };
            range.behind(last);
            count += entries.len();
            tokio::task::yield_now().await;
        }
    }

    /// Passes over `skip` documents behind `after`; the id of the last one, `None` where there are not that many.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub async fn pass_over(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        after: Option<&str>,
        skip: usize,
    ) -> Result<Option<String>> {
        let mut range = behind(instance, doctype, after)?;
        let (mut last, mut left) = (after.map(str::to_owned), skip);
        while left > 0 {
            let entries = self.kv().scan(&range.from, &range.to, left.min(STEP), false)?;
            let Some((key, _)) = entries.last() else { return Ok(None) };
            range.behind(key);
            left -= entries.len();
            last = Some(key::document_id(key)?.to_owned());
            tokio::task::yield_now().await;
        }
        Ok(last)
    }
}

/// The entries of the documents of a type behind one of them.
pub(crate) fn behind(instance: &InstanceId, doctype: &Doctype, after: Option<&str>) -> Result<Range> {
    let mut range = key::documents(instance, doctype);
    if let Some(after) = after {
        range.behind(&key::of_document(Space::Document, &DocRef::new(instance, doctype, after))?);
    }
    Ok(range)
}

/// About how many bytes the members of a document take in memory.
#[must_use]
pub fn weight(members: &Map) -> usize {
    /// Of a value by itself.
    const OWN: usize = 32;
    fn of(value: &Value) -> usize {
        OWN + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of).sum(),
            Value::Object(members) => weight(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    members.iter().map(|(name, value)| name.len() + of(value)).sum()
}
