//! The interface `documents`.

use std::ops::Bound;

use super::argument::{MAX_CURSOR, MAX_KIND, MAX_NAME, check, check_locator, check_locators, check_some};
use super::json::Documents;
use super::{Answer, Context, Host, answer, check_batch, check_limit, json};
use crate::bindings::konnector::host::documents as wit;
use crate::bindings::konnector::host::types::Locator;
use crate::capability::{Change, Document, Error, Item, Order, Page, Query, Quota, Range, Saved};

/// Members of one index.
const MEMBERS: usize = 8;
/// Bytes of one member's path.
const PATH: usize = 256;
/// Bytes of the values in one query, and of its cursor.
const VALUES: usize = MAX_CURSOR;

impl Context {
    fn room_for_documents(&self, more: usize) -> Result<(), Error> {
        let wanted = self.meter.documents.total().saturating_add(more as u64);
        if wanted > self.capabilities.limits.documents { Err(Error::QuotaExceeded(Quota::Documents)) } else { Ok(()) }
    }

    async fn save_documents(&self, doctype: &str, items: Vec<wit::Item>) -> Result<Vec<Saved>, Error> {
        check("kind", doctype, MAX_KIND)?;
        check_batch("items", items.len())?;
        self.room_for_documents(items.len())?;
        let mut documents = Documents::new(items.iter().map(|item| item.body.len()));
        let mut read = Vec::with_capacity(items.len());
        for (position, wit::Item { key, body }) in items.into_iter().enumerate() {
            check(&format!("items[{position}].key"), &key, MAX_NAME)?;
            let body = documents.read(&format!("items[{position}].body (key `{key}`)"), &body).await?;
            read.push(Item { key, body });
        }
        self.capabilities.documents.save(doctype, read).await
    }

    async fn update_documents(&self, doctype: &str, changes: Vec<wit::Change>) -> Result<Vec<Saved>, Error> {
        check("kind", doctype, MAX_KIND)?;
        check_batch("changes", changes.len())?;
        self.room_for_documents(changes.len())?;
        let mut documents = Documents::new(changes.iter().map(|change| change.body.len()));
        let mut read = Vec::with_capacity(changes.len());
        for (position, wit::Change { which, rev, body }) in changes.into_iter().enumerate() {
            check_locator(&which)?;
            check_some(&format!("changes[{position}].rev"), rev.as_ref(), MAX_KIND)?;
            let body = documents.read(&format!("changes[{position}].body"), &body).await?;
            read.push(Change { which: which.into(), rev, body });
        }
        self.capabilities.documents.update(doctype, read).await
    }

    async fn delete_documents(&self, doctype: &str, which: Vec<Locator>) -> Result<u32, Error> {
        check("kind", doctype, MAX_KIND)?;
        check_batch("which", which.len())?;
        check_locators(&which)?;
        self.room_for_documents(which.len())?;
        self.capabilities.documents.delete(doctype, which.into_iter().map(Into::into).collect()).await
    }

    async fn find_documents(&self, doctype: &str, by: wit::Query) -> Result<Page, Error> {
        check("kind", doctype, MAX_KIND)?;
        self.capabilities.documents.find(doctype, query(by)?).await
    }

    async fn get_document(&self, doctype: &str, which: Locator) -> Result<Document, Error> {
        check("kind", doctype, MAX_KIND)?;
        check_locator(&which)?;
        self.capabilities.documents.get(doctype, &which.into()).await
    }

    async fn check_save_documents(&self, doctype: &str) -> Result<(), Error> {
        check("kind", doctype, MAX_KIND)?;
        self.capabilities.documents.check_save(doctype).await
    }

    fn count_documents(&self, saved: Vec<Saved>) -> Vec<wit::Saved> {
        let count = |saved: Saved| {
            self.meter.documents.count(saved.written);
            wit::Saved { id: saved.id, rev: saved.rev, outcome: saved.written.into() }
        };
        saved.into_iter().map(count).collect()
    }
}

impl wit::Host for Host {
    async fn get(&mut self, kind: String, which: Locator) -> Answer<wit::Document> {
        let document = self.context.unless_cancelled(self.context.get_document(&kind, which)).await;
        answer(document.map(wit::Document::from))
    }

    async fn find(&mut self, kind: String, by: wit::Query) -> Answer<wit::Page> {
        let page = self.context.unless_cancelled(self.context.find_documents(&kind, by)).await;
        answer(
            page.map(|page| wit::Page {
                documents: page.documents.into_iter().map(Into::into).collect(),
                next: page.next,
            }),
        )
    }

    async fn check_save(&mut self, kind: String) -> Answer<()> {
        answer(self.context.unless_cancelled(self.context.check_save_documents(&kind)).await)
    }

    async fn save(&mut self, kind: String, items: Vec<wit::Item>) -> Answer<Vec<wit::Saved>> {
        let saved = self.context.unless_cancelled(self.context.save_documents(&kind, items)).await;
        answer(saved.map(|saved| self.context.count_documents(saved)))
    }

    async fn update(&mut self, kind: String, changes: Vec<wit::Change>) -> Answer<Vec<wit::Saved>> {
        let saved = self.context.unless_cancelled(self.context.update_documents(&kind, changes)).await;
        answer(saved.map(|saved| self.context.count_documents(saved)))
    }

    async fn delete(&mut self, kind: String, which: Vec<Locator>) -> Answer<u32> {
        let deleted = self.context.unless_cancelled(self.context.delete_documents(&kind, which)).await;
        answer(deleted.inspect(|count| self.context.meter.documents.deleted.add(u64::from(*count))))
    }
}

/// Reads the items of a batch, each with its position.
fn each<T, U>(items: Vec<T>, read: impl Fn(usize, T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    items.into_iter().enumerate().map(|(position, item)| read(position, item)).collect()
}

/// Reads a query.
fn query(by: wit::Query) -> Result<Query, Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    if by.index.len() > MEMBERS {
        return invalid(format!("index: at most {MEMBERS} members, got {}", by.index.len()));
    }
    if let Some(path) = by.index.iter().find(|path| path.len() > PATH || path.split('.').any(str::is_empty)) {
        return invalid(format!(
            "index: `{path}` is no path of members; write `vendor` or `cozyMetadata.createdAt`, at most {PATH} bytes"
        ));
    }
    if by.equal.len() > by.index.len() {
        return invalid(format!("equal: the index has {} members, got {} values", by.index.len(), by.equal.len()));
    }
    if by.equal.len() == by.index.len() && !matches!(by.range, wit::Range::Any) {
        return invalid("range: every member of the index has a value in `equal` already".to_owned());
    }
    check_limit(by.limit)?;
    let size = by.equal.iter().map(String::len).sum::<usize>()
        + range_size(&by.range)
        + by.cursor.as_ref().map_or(0, String::len);
    if size > VALUES {
        return Err(Error::TooLarge(VALUES as u64));
    }
    Ok(Query {
        equal: each(by.equal, |position, value| json(&format!("equal[{position}]"), &value))?,
        range: match by.range {
            wit::Range::Any => Range::Any,
            wit::Range::Between(wit::Between { lower, upper }) => {
                Range::Between(bound("range.lower", lower)?, bound("range.upper", upper)?)
            }
            wit::Range::Prefix(prefix) => Range::Prefix(prefix),
        },
        order: match by.order {
            wit::Order::Ascending => Order::Ascending,
            wit::Order::Descending => Order::Descending,
        },
        index: by.index,
        limit: by.limit,
        cursor: by.cursor,
    })
}

fn bound(argument: &str, bound: wit::Bound) -> Result<Bound<serde_json::Value>, Error> {
    Ok(match bound {
        wit::Bound::Unbounded => Bound::Unbounded,
        wit::Bound::Included(value) => Bound::Included(json(argument, &value)?),
        wit::Bound::Excluded(value) => Bound::Excluded(json(argument, &value)?),
    })
}

fn range_size(range: &wit::Range) -> usize {
    let size = |bound: &wit::Bound| match bound {
        wit::Bound::Unbounded => 0,
        wit::Bound::Included(value) | wit::Bound::Excluded(value) => value.len(),
    };
    match range {
        wit::Range::Any => 0,
        wit::Range::Between(between) => size(&between.lower) + size(&between.upper),
        wit::Range::Prefix(prefix) => prefix.len(),
    }
}

impl From<Document> for wit::Document {
    fn from(document: Document) -> Self {
        Self { id: document.id, rev: document.rev, body: serde_json::Value::Object(document.body).to_string() }
    }
}
