//! Documents in memory. `io.cozy.slow` never answers, `io.cozy.lost` has lost its lease, `io.cozy.broken` panics, and there is no rule for
//! `io.cozy.contacts`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use konnector_sandbox::capability::{Document, Documents, Error, Item, Object, Page, Saved, Written};

/// Documents by id, which is `<doctype>-<key>`.
#[derive(Default)]
pub struct FakeDocuments(pub Mutex<BTreeMap<String, (u32, Object)>>);

impl FakeDocuments {
    async fn reach(&self, doctype: &str) -> Result<(), Error> {
        match doctype {
            "io.cozy.slow" => std::future::pending().await,
            "io.cozy.lost" => Err(Error::LeaseLost),
            "io.cozy.broken" => panic!("the host is at fault"),
            "io.cozy.contacts" => Err(Error::Denied("the manifest has no rule for GET on io.cozy.contacts".to_owned())),
            _ => Ok(()),
        }
    }

    fn document(id: &str, (generation, body): &(u32, Object)) -> Document {
        Document { id: id.to_owned(), rev: format!("{generation}-0"), body: body.clone() }
    }
}

#[async_trait]
impl Documents for FakeDocuments {
    async fn get(&self, doctype: &str, id: &str) -> Result<Document, Error> {
        self.reach(doctype).await?;
        let documents = self.0.lock().unwrap();
        let found = documents.get(id).ok_or_else(|| Error::NotFound(format!("{doctype} {id}")))?;
        Ok(Self::document(id, found))
    }

    async fn query(&self, doctype: &str, selector: Object, limit: u32, _: Option<String>) -> Result<Page, Error> {
        self.reach(doctype).await?;
        let documents = self.0.lock().unwrap();
        let matches = |body: &Object| selector.iter().all(|(name, value)| body.get(name) == Some(value));
        let items = documents
            .iter()
            .filter(|(id, (_, body))| id.starts_with(doctype) && matches(body))
            .map(|(id, found)| Self::document(id, found))
            .take(limit as usize)
            .collect();
        Ok(Page { items, next: None })
    }

    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<Saved>, Error> {
        self.reach(doctype).await?;
        let mut documents = self.0.lock().unwrap();
        let mut save = |item: Item| {
            let id = format!("{doctype}-{}", item.key);
            let (generation, body) = documents.entry(id.clone()).or_default();
            let written = match *generation {
                0 => Written::Created,
                _ if *body == item.body => Written::Unchanged,
                _ => Written::Updated,
            };
            *generation += u32::from(written != Written::Unchanged);
            *body = item.body;
            Saved { id, rev: format!("{generation}-0"), written }
        };
        Ok(items.into_iter().map(&mut save).collect())
    }

    async fn delete(&self, doctype: &str, keys: Vec<String>) -> Result<u32, Error> {
        self.reach(doctype).await?;
        let mut documents = self.0.lock().unwrap();
        let removed = keys.iter().filter(|key| documents.remove(&format!("{doctype}-{key}")).is_some()).count();
        Ok(u32::try_from(removed).expect("few keys"))
    }
}
