//! The interface `documents`.

use std::ops::Bound;

use konnector_manifest::Limit;

use super::argument::{
    MAX_CURSOR, MAX_DOCTYPE, MAX_NAME, check_length, check_locator, check_locators, check_optional_length,
};
use super::json::DocumentParser;
use super::{Context, Host, HostResult, check_batch, check_limit, parse_json, to_host_result};
use crate::bindings::konnector::host::documents as wit;
use crate::bindings::konnector::host::types::Locator;
use crate::capability::{CapabilityError, Change, Document, Item, Order, Page, Query, QuotaKind, Range, SavedDocument};

/// Maximum number of fields of one index.
const MAX_INDEX_FIELDS: usize = 8;
/// Maximum size of one field's path in bytes.
const MAX_FIELD_PATH: usize = 256;
/// Maximum size of the values in one query, and of its cursor, in bytes.
const MAX_QUERY_VALUES: usize = MAX_CURSOR;

impl Context {
    fn check_document_quota(&self, more: usize) -> Result<(), CapabilityError> {
        let total = self.meter.documents.total().saturating_add(more as u64);
        let value = self.capabilities.limits.documents;
        if total > value {
            Err(CapabilityError::QuotaExceeded(QuotaKind::Limit { limit: Limit::Documents, value }))
        } else {
            Ok(())
        }
    }

    async fn save_documents(
        &self,
        doctype: &str,
        items: Vec<wit::Item>,
    ) -> Result<Vec<SavedDocument>, CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        check_batch("items", items.len())?;
        self.check_document_quota(items.len())?;
        let mut documents = DocumentParser::new(items.iter().map(|item| item.body.len()));
        let mut read = Vec::with_capacity(items.len());
        for (position, wit::Item { key, body }) in items.into_iter().enumerate() {
            check_length(&format!("items[{position}].key"), &key, MAX_NAME)?;
            let body = documents.parse_document(&format!("items[{position}].body (key `{key}`)"), &body).await?;
            read.push(Item { key, body });
        }
        self.capabilities.documents.save(doctype, read).await
    }

    async fn update_documents(
        &self,
        doctype: &str,
        changes: Vec<wit::Change>,
    ) -> Result<Vec<SavedDocument>, CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        check_batch("changes", changes.len())?;
        self.check_document_quota(changes.len())?;
        let mut documents = DocumentParser::new(changes.iter().map(|change| change.body.len()));
        let mut read = Vec::with_capacity(changes.len());
        for (position, wit::Change { locator, rev, body }) in changes.into_iter().enumerate() {
            check_locator(&locator)?;
            check_optional_length(&format!("changes[{position}].rev"), rev.as_ref(), MAX_DOCTYPE)?;
            let body = documents.parse_document(&format!("changes[{position}].body"), &body).await?;
            read.push(Change { locator: locator.into(), rev, body });
        }
        self.capabilities.documents.update(doctype, read).await
    }

    async fn delete_documents(&self, doctype: &str, locators: Vec<Locator>) -> Result<u32, CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        check_batch("locators", locators.len())?;
        check_locators(&locators)?;
        self.check_document_quota(locators.len())?;
        self.capabilities.documents.delete(doctype, locators.into_iter().map(Into::into).collect()).await
    }

    async fn find_documents(&self, doctype: &str, query: wit::Query) -> Result<Page, CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        self.capabilities.documents.find(doctype, parse_query(query)?).await
    }

    async fn get_document(&self, doctype: &str, locator: Locator) -> Result<Document, CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        check_locator(&locator)?;
        self.capabilities.documents.get(doctype, &locator.into()).await
    }

    async fn check_save_documents(&self, doctype: &str) -> Result<(), CapabilityError> {
        check_length("doctype", doctype, MAX_DOCTYPE)?;
        self.capabilities.documents.check_save(doctype).await
    }

    fn record_saved(&self, saved: Vec<SavedDocument>) -> Vec<wit::SavedDocument> {
        let count = |saved: SavedDocument| {
            self.meter.documents.record(saved.outcome);
            wit::SavedDocument { id: saved.id, rev: saved.rev, outcome: saved.outcome.into() }
        };
        saved.into_iter().map(count).collect()
    }
}

impl wit::Host for Host {
    async fn get(&mut self, doctype: String, locator: Locator) -> HostResult<wit::Document> {
        let document = self.context.unless_cancelled(self.context.get_document(&doctype, locator)).await;
        to_host_result(document.map(wit::Document::from))
    }

    async fn find(&mut self, doctype: String, query: wit::Query) -> HostResult<wit::Page> {
        let page = self.context.unless_cancelled(self.context.find_documents(&doctype, query)).await;
        to_host_result(page.map(|page| wit::Page {
            documents: page.documents.into_iter().map(Into::into).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn check_save(&mut self, doctype: String) -> HostResult<()> {
        to_host_result(self.context.unless_cancelled(self.context.check_save_documents(&doctype)).await)
    }

    async fn save(&mut self, doctype: String, items: Vec<wit::Item>) -> HostResult<Vec<wit::SavedDocument>> {
        let saved = self.context.unless_cancelled(self.context.save_documents(&doctype, items)).await;
        to_host_result(saved.map(|saved| self.context.record_saved(saved)))
    }

    async fn update(&mut self, doctype: String, changes: Vec<wit::Change>) -> HostResult<Vec<wit::SavedDocument>> {
        let saved = self.context.unless_cancelled(self.context.update_documents(&doctype, changes)).await;
        to_host_result(saved.map(|saved| self.context.record_saved(saved)))
    }

    async fn delete(&mut self, doctype: String, locators: Vec<Locator>) -> HostResult<u32> {
        let deleted = self.context.unless_cancelled(self.context.delete_documents(&doctype, locators)).await;
        to_host_result(deleted.inspect(|count| self.context.meter.documents.deleted.add(u64::from(*count))))
    }
}

/// Parses the items of a batch; errors name the item's position.
fn parse_each<T, U>(
    items: Vec<T>,
    read: impl Fn(usize, T) -> Result<U, CapabilityError>,
) -> Result<Vec<U>, CapabilityError> {
    items.into_iter().enumerate().map(|(position, item)| read(position, item)).collect()
}

/// Checks a query and converts it to the host's types.
fn parse_query(query: wit::Query) -> Result<Query, CapabilityError> {
    let invalid = |text: String| Err(CapabilityError::Invalid(text));
    if query.index_fields.len() > MAX_INDEX_FIELDS {
        return invalid(format!(
            "index-fields: got {} fields, but at most {MAX_INDEX_FIELDS} are allowed",
            query.index_fields.len()
        ));
    }
    if let Some(path) =
        query.index_fields.iter().find(|path| path.len() > MAX_FIELD_PATH || path.split('.').any(str::is_empty))
    {
        return invalid(format!(
            "index-fields: `{path}` is not a field path; write `vendor` or `cozyMetadata.createdAt`, at most \
             {MAX_FIELD_PATH} bytes"
        ));
    }
    if query.equals.len() > query.index_fields.len() {
        return invalid(format!(
            "equals: got {} values, but the index has only {} fields",
            query.equals.len(),
            query.index_fields.len()
        ));
    }
    if query.equals.len() == query.index_fields.len() && !matches!(query.range, wit::Range::Any) {
        return invalid("range: every field of the index already has a value in `equals`".to_owned());
    }
    check_limit(query.limit)?;
    let size = query.equals.iter().map(String::len).sum::<usize>()
        + range_size(&query.range)
        + query.cursor.as_ref().map_or(0, String::len);
    if size > MAX_QUERY_VALUES {
        return Err(CapabilityError::TooLarge(MAX_QUERY_VALUES as u64));
    }
    Ok(Query {
        equals: parse_each(query.equals, |position, value| parse_json(&format!("equals[{position}]"), &value))?,
        range: match query.range {
            wit::Range::Any => Range::Any,
            wit::Range::Between(wit::Bounds { lower, upper }) => {
                Range::Between(parse_bound("range.lower", lower)?, parse_bound("range.upper", upper)?)
            }
            wit::Range::Prefix(prefix) => Range::Prefix(prefix),
        },
        order: match query.order {
            wit::Order::Ascending => Order::Ascending,
            wit::Order::Descending => Order::Descending,
        },
        index_fields: query.index_fields,
        limit: query.limit,
        cursor: query.cursor,
    })
}

fn parse_bound(argument: &str, bound: wit::Bound) -> Result<Bound<serde_json::Value>, CapabilityError> {
    Ok(match bound {
        wit::Bound::Unbounded => Bound::Unbounded,
        wit::Bound::Included(value) => Bound::Included(parse_json(argument, &value)?),
        wit::Bound::Excluded(value) => Bound::Excluded(parse_json(argument, &value)?),
    })
}

fn range_size(range: &wit::Range) -> usize {
    let size = |bound: &wit::Bound| match bound {
        wit::Bound::Unbounded => 0,
        wit::Bound::Included(value) | wit::Bound::Excluded(value) => value.len(),
    };
    match range {
        wit::Range::Any => 0,
        wit::Range::Between(bounds) => size(&bounds.lower) + size(&bounds.upper),
        wit::Range::Prefix(prefix) => prefix.len(),
    }
}

impl From<Document> for wit::Document {
    fn from(document: Document) -> Self {
        Self { id: document.id, rev: document.rev, body: serde_json::Value::Object(document.body).to_string() }
    }
}
