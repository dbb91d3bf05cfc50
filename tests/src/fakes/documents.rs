//! Documents in memory. `io.cozy.slow` never responds, `io.cozy.lost` has lost its lease, `io.cozy.broken` panics,
//! and there is no rule for `io.cozy.contacts`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use konnector_sandbox::capability::{
    CapabilityError, Change, Document, Documents, Item, Locator, Object, Order, Page, Query, Range, SaveOutcome,
    SavedDocument,
};

/// Documents by id, which is `<doctype>-<key>`.
#[derive(Default)]
pub struct FakeDocuments(pub Mutex<BTreeMap<String, (u32, Object)>>);

impl FakeDocuments {
    async fn check_access(&self, doctype: &str) -> Result<(), CapabilityError> {
        match doctype {
            "io.cozy.slow" => std::future::pending().await,
            "io.cozy.lost" => Err(CapabilityError::LeaseLost),
            "io.cozy.broken" => panic!("the host is at fault"),
            "io.cozy.contacts" => {
                Err(CapabilityError::Denied("the manifest has no rule for GET on io.cozy.contacts".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn id(doctype: &str, locator: &Locator) -> String {
        match locator {
            Locator::Id(id) => id.clone(),
            Locator::Key(key) => format!("{doctype}-{key}"),
        }
    }

    fn document(id: &str, (generation, body): &(u32, Object)) -> Document {
        Document { id: id.to_owned(), rev: format!("{generation}-0"), body: body.clone() }
    }
}

#[async_trait]
impl Documents for FakeDocuments {
    async fn get(&self, doctype: &str, locator: &Locator) -> Result<Document, CapabilityError> {
        self.check_access(doctype).await?;
        let (documents, id) = (self.0.lock().unwrap(), Self::id(doctype, locator));
        let found = documents.get(&id).ok_or_else(|| CapabilityError::NotFound(format!("{doctype} {id}")))?;
        Ok(Self::document(&id, found))
    }

    /// Supports only equal fields and prefixes, sorted by id; the cursor is the number of documents before the page.
    async fn find(&self, doctype: &str, query: Query) -> Result<Page, CapabilityError> {
        self.check_access(doctype).await?;
        let documents = self.0.lock().unwrap();
        let matches = |body: &Object| {
            let equal =
                query.index_fields.iter().zip(&query.equals).all(|(member, value)| body.get(member) == Some(value));
            let begins = match (&query.range, query.index_fields.get(query.equals.len())) {
                (Range::Prefix(prefix), Some(member)) => {
                    body.get(member).and_then(|value| value.as_str()).is_some_and(|text| text.starts_with(prefix))
                }
                _ => true,
            };
            equal && begins
        };
        let found = documents.iter().filter(|(id, (_, body))| id.starts_with(doctype) && matches(body));
        let mut found: Vec<_> = found.map(|(id, found)| Self::document(id, found)).collect();
        if query.order == Order::Descending {
            found.reverse();
        }
        let start: usize = query.cursor.as_deref().map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
        let end = start + query.limit as usize;
        let next = (end < found.len()).then(|| end.to_string());
        Ok(Page { documents: found.into_iter().skip(start).take(query.limit as usize).collect(), next_cursor: next })
    }

    async fn check_save(&self, doctype: &str) -> Result<(), CapabilityError> {
        self.check_access(doctype).await
    }

    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<SavedDocument>, CapabilityError> {
        self.check_access(doctype).await?;
        let mut documents = self.0.lock().unwrap();
        let mut save = |item: Item| {
            let id = format!("{doctype}-{}", item.key);
            let (generation, body) = documents.entry(id.clone()).or_default();
            let written = match *generation {
                0 => SaveOutcome::Created,
                _ if *body == item.body => SaveOutcome::Unchanged,
                _ => SaveOutcome::Updated,
            };
            *generation += u32::from(written != SaveOutcome::Unchanged);
            *body = item.body;
            SavedDocument { id, rev: format!("{generation}-0"), outcome: written }
        };
        Ok(items.into_iter().map(&mut save).collect())
    }

    async fn update(&self, doctype: &str, changes: Vec<Change>) -> Result<Vec<SavedDocument>, CapabilityError> {
        self.check_access(doctype).await?;
        let mut documents = self.0.lock().unwrap();
        let mut update = |change: Change| {
            let id = Self::id(doctype, &change.locator);
            let missing = || CapabilityError::NotFound(format!("{doctype} {id}"));
            let (generation, body) = documents.get_mut(&id).ok_or_else(missing)?;
            if change.rev.is_some_and(|rev| rev != format!("{generation}-0")) {
                return Err(CapabilityError::Conflict(format!("{id} is at revision {generation}-0")));
            }
            *generation += 1;
            body.extend(change.body);
            Ok(SavedDocument { id, rev: format!("{generation}-0"), outcome: SaveOutcome::Updated })
        };
        changes.into_iter().map(&mut update).collect()
    }

    async fn delete(&self, doctype: &str, locators: Vec<Locator>) -> Result<u32, CapabilityError> {
        self.check_access(doctype).await?;
        let mut documents = self.0.lock().unwrap();
        let removed = locators.iter().filter(|locator| documents.remove(&Self::id(doctype, locator)).is_some()).count();
        Ok(u32::try_from(removed).expect("few documents"))
    }
}
