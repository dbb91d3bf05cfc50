//! Pages of an index, and of all documents by id.

use konnector_manifest::{Doctype, Verb};
use konnector_query::{Direction, FieldPath, IndexRange};
use konnector_sandbox::capability::{CapabilityError, Document, Object, Order, Page, Query, Range};
use serde_json::Value;

use super::{RunDocuments, to_capability_error, to_guest_document};
use konnector_documents::scan::{DocumentScan, ScanOrder};

/// Approximate maximum size in bytes of the documents of one page. A page ends after the document that exceeds it.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// A page that is being filled.
struct PageBuilder {
    documents: Vec<Document>,
    limit: usize,
    remaining_bytes: usize,
}

impl PageBuilder {
    /// Adds a document; returns whether the page is full.
    fn push(&mut self, document: Document) -> bool {
        self.remaining_bytes = self.remaining_bytes.saturating_sub(json_size(&document.body));
        self.documents.push(document);
        self.documents.len() >= self.limit || self.remaining_bytes == 0
    }
}

impl RunDocuments {
    /// Returns a page of documents that the rules allow the run to read.
    pub(super) async fn page(&self, doctype: &Doctype, query: &Query) -> Result<Page, CapabilityError> {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut page = PageBuilder { documents: Vec::new(), limit, remaining_bytes: MAX_PAGE_BYTES };
        let direction = match query.order {
            Order::Ascending => Direction::Forward,
            Order::Descending => Direction::Backward,
        };
        let (domain, instance) = (&self.0.domain, &self.0.instance.id);
        let order = self.scan_order(doctype, query).await?;
        let mut scan = DocumentScan::new(domain.core(), (instance, doctype), order, direction, query.cursor.as_deref())
            .map_err(to_query_error)?;
        while let Some((document, position)) = scan.next().await.map_err(to_query_error)? {
            let wanted = matches(query, &document) && self.may_read(doctype, &document);
            if wanted && page.push(to_guest_document(document)) {
                return Ok(Page { documents: page.documents, next_cursor: Some(scan.cursor(&position)) });
            }
        }
        Ok(Page { documents: page.documents, next_cursor: None })
    }

    async fn scan_order(&self, doctype: &Doctype, query: &Query) -> Result<ScanOrder, CapabilityError> {
        if query.index_fields.is_empty() {
            return Ok(ScanOrder::Ids);
        }
        // Fields that are reserved for the domain cannot be queried.
        let reserved = |path: &&String| FieldPath::parse(path).is_ok_and(|path| path.is_reserved());
        if let Some(path) = query.index_fields.iter().find(reserved) {
            return Err(CapabilityError::Invalid(format!("index: `{path}` is a reserved field and cannot be queried")));
        }
        let index = self
            .0
            .domain
            .core()
            .store()
            .ensure_index(&self.0.instance.id, doctype, &query.index_fields)
            .await
            .map_err(to_query_error)?;
        Ok(ScanOrder::Index(index, range_of(query)))
    }

    fn may_read(&self, doctype: &Doctype, document: &konnector_store::Document) -> bool {
        self.0.permissions.allows_document(Verb::Get, doctype, &document.id, &document.body)
    }
}

fn range_of(query: &Query) -> IndexRange {
    match &query.range {
        Range::Any => IndexRange::equal(&query.equals),
        Range::Between(lower, upper) => IndexRange::between(&query.equals, lower.as_ref(), upper.as_ref()),
        Range::Prefix(prefix) => IndexRange::with_prefix(&query.equals, prefix),
    }
}

/// Checks values that an index does not distinguish: strings that are equal in the collation, and the exact prefix of a
/// string.
fn matches(query: &Query, document: &konnector_store::Document) -> bool {
    let value = |path: &String| match path.as_str() {
        "_id" => Some(Value::String(document.id.clone())),
        path => FieldPath::parse(path).ok()?.lookup(&document.body).value().cloned(),
    };
    let mut paths = query.index_fields.iter();
    let equal = query
        .equals
        .iter()
        .zip(paths.by_ref())
        .all(|(wanted, path)| value(path).is_some_and(|value| is_equal(&value, wanted)));
    equal
        && match (&query.range, paths.next()) {
            (Range::Prefix(prefix), Some(path)) => {
                value(path).is_some_and(|value| value.as_str().is_some_and(|text| text.starts_with(prefix.as_str())))
            }
            _ => true,
        }
}

/// Strings must be equal character by character; for other values the index decides (1 equals 1.0).
fn is_equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::String(value), Value::String(wanted)) => value == wanted,
        _ => true,
    }
}

/// Arguments that the store rejects are errors of the guest.
fn to_query_error(error: konnector_store::Error) -> CapabilityError {
    match error {
        konnector_store::Error::Invalid { field, reason } => CapabilityError::Invalid(format!("{field}: {reason}")),
        error => to_capability_error(error.into()),
    }
}

/// Approximate size of a document as JSON, in bytes.
fn json_size(body: &Object) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 8,
            Value::String(text) => text.len() + 3,
            Value::Array(items) => items.iter().map(of).sum::<usize>() + 2,
            Value::Object(members) => json_size(members),
        }
    }
    body.iter().map(|(name, value)| name.len() + 4 + of(value)).sum::<usize>() + 2
}
