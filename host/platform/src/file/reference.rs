//! Which files refer to a document, such as the photos of an album: files name their documents, and an index leads the other way.
//!
//! The index follows from the files. It is kept with every commit ([`Platform::commit`]), whatever writes the file.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use konnector_store::{Changes, DocRef, InstanceId, Written};
use serde_json::Value;

use super::{File, Reference};
use crate::doctype::{FILES, SETTINGS};
use crate::instance::Instance;
use crate::stored::Object;
use crate::{Error, Platform, Result};

/// The index: `<type>/<id>\0<when>\0<file>`.
pub(super) const REFERENCES: &str = "files.references";

/// How many entries are counted at once.
const PAGE: usize = 1_000;

/// A page of the files that refer to a document, in the order of their dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePage {
    /// Ids of the files.
    pub files: Vec<String>,
    /// Behind what the next page starts, where there is one.
    pub next: Option<String>,
    /// How many there are in all.
    pub total: usize,
}

impl Reference {
    /// What its keys in the index begin with.
    fn prefix(&self) -> String {
        format!("{}/{}\0", self.doctype, self.id)
    }
}

impl File {
    /// Its keys in the index. Photos are dated by their camera (`metadata.datetime`), everything else by its creation.
    pub(super) fn reference_keys(&self, id: &str) -> impl Iterator<Item = String> {
        let taken = self.metadata.get("datetime").and_then(Value::as_str);
        let taken = taken.and_then(|text| text.parse::<DateTime<Utc>>().ok()).unwrap_or(self.created_at);
        let end = format!("{}\0{id}", taken.to_rfc3339_opts(SecondsFormat::Micros, true));
        self.referenced_by.iter().map(move |reference| reference.prefix() + &end)
    }
}

/// The keys of a stored file.
fn keys(id: &str, body: Option<&Object>) -> Result<BTreeSet<String>> {
    let Some(body) = body else { return Ok(BTreeSet::new()) };
    let file: File = serde_json::from_value(Value::Object(body.clone()))
        .map_err(|error| Error::Stored { document: format!("{}/{id}", *FILES), message: error.to_string() })?;
    Ok(file.reference_keys(id).collect())
}

impl Platform {
    /// Adds to some changes what they mean for the index.
    pub(crate) fn stage_references(&self, changes: &mut Changes) -> Result<()> {
        let mut moved = Vec::new();
        for written in changes.documents().filter(|written| written.document.doctype == *FILES) {
            let Written { document, body, .. } = written;
            let before = keys(&document.id, self.before(written)?.as_ref())?;
            let after = keys(&document.id, body)?;
            if before != after {
                moved.push((document.clone(), before, after));
            }
        }
        for (document, before, after) in moved {
            for key in before.difference(&after) {
                changes.release(&document.instance, REFERENCES, key);
            }
            for key in after.difference(&before) {
                changes.unique(&document.instance, REFERENCES, key, document.id.as_str());
            }
        }
        Ok(())
    }

    /// Makes the index of a store that was written before there was one. What fails is tried again at the next start.
    pub(crate) async fn ensure_references(&self) {
        let done = DocRef::new(&InstanceId::global(), &SETTINGS, REFERENCES);
        match self.make_references(done).await {
            Err(error) if !error.is_conflict() => {
                tracing::error!(%error, "which files refer to which documents is not known in full");
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn make_references(&self, done: DocRef) -> Result<()> {
        if self.store.get(&done)?.is_some() {
            return Ok(());
        }
        for instance in self.instances()? {
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(&instance.id, &FILES, after.as_deref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                let mut changes = Changes::new();
                for file in &page {
                    for key in keys(&file.id, Some(&file.body))? {
                        changes.unique(&instance.id, REFERENCES, key, file.id.as_str());
                    }
                }
                self.store.commit(changes).await?;
            }
        }
        let mut changes = Changes::new();
        changes.create(done, Object::new());
        self.store.commit(changes).await?;
        Ok(())
    }

    /// A page of the files that refer to a document. `limit` is 1 to 1,000.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn referring_files(
        &self,
        instance: &Instance,
        reference: &Reference,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ReferencePage> {
        let prefix = reference.prefix();
        let limit = limit.clamp(1, PAGE);
        let start = after.map(|after| prefix.clone() + after);
        let mut found = self.store.lookup_prefix(&instance.id, REFERENCES, &prefix, start.as_deref(), limit + 1)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).and_then(|(key, _)| key.strip_prefix(&prefix));
        let next = last.map(str::to_owned);
        let mut total = 0;
        let mut counted: Option<String> = None;
        loop {
            let page = self.store.lookup_prefix(&instance.id, REFERENCES, &prefix, counted.as_deref(), PAGE)?;
            total += page.len();
            match page.into_iter().nth(PAGE - 1) {
                Some((last, _)) => counted = Some(last),
                None => return Ok(ReferencePage { files: found.into_iter().map(|(_, id)| id).collect(), next, total }),
            }
        }
    }
}
