//! The interface `documents`.

use super::{Answer, Context, Host, answer, object};
use crate::bindings::konnector::host::documents as wit;
use crate::capability::{Document, Error, Item, Quota, Saved};

/// Items of one `save`, keys of one `delete`.
const BATCH: usize = 500;
/// Documents of one page.
const PAGE: u32 = 1_000;

impl Context {
    fn room_for_documents(&self, more: usize) -> Result<(), Error> {
        let wanted = self.meter.documents.total().saturating_add(more as u64);
        if wanted > self.capabilities.limits.documents { Err(Error::QuotaExceeded(Quota::Documents)) } else { Ok(()) }
    }

    async fn save_documents(&self, doctype: &str, items: Vec<wit::Item>) -> Result<Vec<Saved>, Error> {
        check_batch("items", items.len())?;
        self.room_for_documents(items.len())?;
        let item = |(position, item): (usize, wit::Item)| {
            let body = object(&format!("items[{position}].body (key `{}`)", item.key), &item.body)?;
            Ok(Item { key: item.key, body })
        };
        let items: Vec<_> = items.into_iter().enumerate().map(item).collect::<Result<_, Error>>()?;
        self.capabilities.documents.save(doctype, items).await
    }
}

impl wit::Host for Host {
    async fn get(&mut self, kind: String, id: String) -> Answer<wit::Document> {
        let document = self.context.unless_cancelled(self.context.capabilities.documents.get(&kind, &id)).await;
        answer(document.map(wit::Document::from))
    }

    async fn query(&mut self, kind: String, selector: String, limit: u32, cursor: Option<String>) -> Answer<wit::Page> {
        let page = async {
            if !(1..=PAGE).contains(&limit) {
                return Err(Error::Invalid(format!("limit: expected 1 to {PAGE}, got {limit}")));
            }
            self.context.capabilities.documents.query(&kind, object("selector", &selector)?, limit, cursor).await
        };
        let page = self.context.unless_cancelled(page).await;
        answer(page.map(|page| wit::Page { items: page.items.into_iter().map(Into::into).collect(), next: page.next }))
    }

    async fn save(&mut self, kind: String, items: Vec<wit::Item>) -> Answer<Vec<wit::Saved>> {
        let saved = self.context.unless_cancelled(self.context.save_documents(&kind, items)).await;
        answer(saved.map(|saved| {
            saved
                .into_iter()
                .map(|saved| {
                    self.context.meter.documents.count(saved.written);
                    wit::Saved { id: saved.id, rev: saved.rev, outcome: saved.written.into() }
                })
                .collect()
        }))
    }

    async fn delete(&mut self, kind: String, keys: Vec<String>) -> Answer<u32> {
        let deleted = async {
            check_batch("keys", keys.len())?;
            self.context.room_for_documents(keys.len())?;
            self.context.capabilities.documents.delete(&kind, keys).await
        };
        let deleted = self.context.unless_cancelled(deleted).await;
        answer(deleted.inspect(|count| self.context.meter.documents.deleted.add(u64::from(*count))))
    }
}

pub(super) fn check_batch(argument: &str, length: usize) -> Result<(), Error> {
    if length > BATCH {
        return Err(Error::Invalid(format!("{argument}: at most {BATCH} at a time, got {length}")));
    }
    Ok(())
}

impl From<Document> for wit::Document {
    fn from(document: Document) -> Self {
        Self { id: document.id, rev: document.rev, body: serde_json::Value::Object(document.body).to_string() }
    }
}
