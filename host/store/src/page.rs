//! Pages of documents, bounded in bytes, and document counts.

use konnector_manifest::Doctype;
use serde_json::Value;

use crate::Map;
use crate::document::{self, Document};
use crate::error::Result;
use crate::id::{DocRef, InstanceId};
use crate::key::{self, KeyRange, Keyspace};
use crate::store::Store;
use crate::view;

/// Maximum number of bytes of the documents on a page: two documents of the maximum size, or thousands of the usual
/// size.
pub const MAX_PAGE_BYTES: usize = 16 << 20;
/// Number of entries counted at once.
const COUNT_BATCH_SIZE: usize = 1_000;

/// A page of documents of a doctype, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct ListPage {
    /// The documents, at least one if any exist.
    pub documents: Vec<Document>,
    /// Whether more documents follow.
    pub has_more: bool,
}

impl Store {
    /// Returns up to `limit` documents of a doctype in the order of their ids (by bytes), starting after `after`.
    /// Returns fewer if they are large, because a page ends with the document that brings it to [`MAX_PAGE_BYTES`].
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn page(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage> {
        self.read_page((instance, doctype), &range_after(instance, doctype, after)?, limit, false)
    }

    /// Like `page`, but in descending order of ids, starting before `before`.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn page_backward(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        before: Option<&str>,
        limit: usize,
    ) -> Result<ListPage> {
        let mut range = key::documents(instance, doctype);
        if let Some(before) = before {
            range.to = key::of_document(Keyspace::Document, &DocRef::new(instance, doctype, before))?;
        }
        self.read_page((instance, doctype), &range, limit, true)
    }

    fn read_page(
        &self,
        (instance, doctype): (&InstanceId, &Doctype),
        range: &KeyRange,
        limit: usize,
        reverse: bool,
    ) -> Result<ListPage> {
        let entries = self.kv().scan(&range.from, &range.to, limit.saturating_add(1), reverse)?;
        let (mut documents, mut bytes, mut left) = (Vec::new(), 0, entries.len());
        for (key, value) in entries {
            if documents.len() >= limit || bytes >= MAX_PAGE_BYTES {
                break;
            }
            left -= 1;
            let record = view::decode(&key, &value)?;
            let document_ref = DocRef::new(instance, doctype, key::document_id(&key)?);
            if let Some(found) = document::resolve(self.kv(), self.blobs(), &document_ref, Some(record))? {
                bytes += approximate_size(&found.body);
                documents.push(found);
            }
        }
        Ok(ListPage { documents, has_more: left > 0 })
    }

    /// Counts the documents of a doctype. Scans their entries without decoding any document, and yields between two
    /// steps.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub async fn count(&self, instance: &InstanceId, doctype: &Doctype) -> Result<usize> {
        let mut range = key::documents(instance, doctype);
        let mut count = 0;
        loop {
            let entries = self.kv().scan(&range.from, &range.to, COUNT_BATCH_SIZE, false)?;
            let Some((last, _)) = entries.last() else { return Ok(count) };
            range.start_after(last);
            count += entries.len();
            tokio::task::yield_now().await;
        }
    }

    /// Skips `skip` documents after `after`; returns the id of the last one, `None` if there are not that many.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub async fn skip_documents(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        after: Option<&str>,
        skip: usize,
    ) -> Result<Option<String>> {
        let mut range = range_after(instance, doctype, after)?;
        let (mut last, mut left) = (after.map(str::to_owned), skip);
        while left > 0 {
            let entries = self.kv().scan(&range.from, &range.to, left.min(COUNT_BATCH_SIZE), false)?;
            let Some((key, _)) = entries.last() else { return Ok(None) };
            range.start_after(key);
            left -= entries.len();
            last = Some(key::document_id(key)?.to_owned());
            tokio::task::yield_now().await;
        }
        Ok(last)
    }
}

/// Returns the range of the documents of a doctype after one of them.
pub(crate) fn range_after(instance: &InstanceId, doctype: &Doctype, after: Option<&str>) -> Result<KeyRange> {
    let mut range = key::documents(instance, doctype);
    if let Some(after) = after {
        range.start_after(&key::of_document(Keyspace::Document, &DocRef::new(instance, doctype, after))?);
    }
    Ok(range)
}

/// Estimates how many bytes the fields of a document take in memory.
#[must_use]
pub fn approximate_size(members: &Map) -> usize {
    /// Estimates the size of one value.
    const VALUE_OVERHEAD: usize = 32;
    fn value_size(value: &Value) -> usize {
        VALUE_OVERHEAD
            + match value {
                Value::String(text) => text.len(),
                Value::Array(items) => items.iter().map(value_size).sum(),
                Value::Object(members) => approximate_size(members),
                Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            }
    }
    members.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}
