//! Files that refer to a document, such as the photos of an album. Files name their documents; an index leads from a
//! document to its files.
//!
//! The index is derived from the files. Every commit that writes a file updates it ([`Platform::commit`]).

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use konnector_store::{Changes, DocRef, InstanceId};
use serde::Deserialize as _;
use serde_json::Value;

use super::{File, Reference};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::{FILES, SETTINGS};
use konnector_documents::instance::Instance;
use konnector_documents::stored::Object;

/// The index: `<type>/<id>\0<when>\0<file>`.
pub(super) const REFERENCES_INDEX: &str = "files.references";

/// Number of entries that are counted at a time.
const PAGE_SIZE: usize = 1_000;

/// A page of the files that refer to a document, in the order of their dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePage {
    /// Ids of the files.
    pub files: Vec<String>,
    /// Position after which the next page starts, if there is one.
    pub next: Option<String>,
    /// Total number of files.
    pub total: usize,
}

impl Reference {
    /// Returns the common prefix of the reference's keys in the index.
    fn index_prefix(&self) -> String {
        format!("{}/{}\0", self.doctype, self.id)
    }
}

impl File {
    /// Returns the file's keys in the index. Photos are dated by their camera (`metadata.datetime`), everything else by
    /// its creation.
    pub(super) fn reference_keys(&self, id: &str) -> impl Iterator<Item = String> {
        let taken = self.metadata.get("datetime").and_then(Value::as_str);
        let end = index_suffix(taken, self.created_at, id);
        self.referenced_by.iter().map(move |reference| reference.index_prefix() + &end)
    }
}

/// Returns the suffix of the keys of a file.
fn index_suffix(taken: Option<&str>, created_at: DateTime<Utc>, id: &str) -> String {
    let taken = taken.and_then(|text| text.parse::<DateTime<Utc>>().ok()).unwrap_or(created_at);
    format!("{}\0{id}", taken.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Returns the keys of a stored file. Parses only the fields that they contain, because it runs for every written file.
fn index_keys(id: &str, body: Option<&Object>) -> Result<BTreeSet<String>> {
    let failed = |error: serde_json::Error| Error::CorruptDocument {
        document: format!("{}/{id}", *FILES),
        message: error.to_string(),
    };
    let references = body.and_then(|body| body.get("referenced_by")).filter(|list| **list != Value::Array(Vec::new()));
    let (Some(body), Some(references)) = (body, references) else { return Ok(BTreeSet::new()) };
    let references = Vec::<Reference>::deserialize(references).map_err(failed)?;
    let created_at = body.get("created_at").unwrap_or(&Value::Null);
    let created_at = DateTime::<Utc>::deserialize(created_at).map_err(failed)?;
    let taken = body.get("metadata").and_then(|metadata| metadata.get("datetime")).and_then(Value::as_str);
    let end = index_suffix(taken, created_at, id);
    Ok(references.iter().map(|reference| reference.index_prefix() + &end).collect())
}

/// Change of the index for a written file.
#[derive(Debug)]
pub(super) struct ReferenceChange {
    document: DocRef,
    before: BTreeSet<String>,
    after: BTreeSet<String>,
}

impl ReferenceChange {
    /// Computes the change for a file that was `before` and is `after`.
    pub(super) fn of(document: &DocRef, before: Option<&Object>, after: Option<&Object>) -> Result<Self> {
        let (before, after) = (index_keys(&document.id, before)?, index_keys(&document.id, after)?);
        Ok(Self { document: document.clone(), before, after })
    }

    /// Adds the change to the commit that writes the file.
    pub(super) fn stage(&self, changes: &mut Changes) {
        for key in self.before.difference(&self.after) {
            changes.remove_unique(&self.document.instance, REFERENCES_INDEX, key);
        }
        for key in self.after.difference(&self.before) {
            changes.put_unique(&self.document.instance, REFERENCES_INDEX, key, self.document.id.as_str());
        }
    }
}

impl Files {
    /// Builds the index in a store that is older than the index. A failure is retried at the next start.
    pub async fn ensure_reference_index(&self) {
        let done = DocRef::new(&InstanceId::global(), &SETTINGS, REFERENCES_INDEX);
        match self.build_reference_index(done).await {
            Err(error) if !error.is_conflict() => {
                tracing::error!(%error, "cannot build the index of file references; trying again at the next start");
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn build_reference_index(&self, done: DocRef) -> Result<()> {
        if self.core.store().get(&done)?.is_some() {
            return Ok(());
        }
        for instance in self.core.instances().list()? {
            let mut after: Option<String> = None;
            loop {
                let page = self.core.store().list(&instance.id, &FILES, after.as_deref(), PAGE_SIZE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                let mut changes = Changes::new();
                for file in &page {
                    for key in index_keys(&file.id, Some(&file.body))? {
                        changes.put_unique(&instance.id, REFERENCES_INDEX, key, file.id.as_str());
                    }
                }
                self.core.store().commit(changes).await?;
            }
        }
        let mut changes = Changes::new();
        changes.create(done, Object::new());
        self.core.store().commit(changes).await?;
        Ok(())
    }

    /// Returns a page of the files that refer to a document. `limit` is 1 to 1,000.
    pub fn referring_files(
        &self,
        instance: &Instance,
        reference: &Reference,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ReferencePage> {
        let prefix = reference.index_prefix();
        let limit = limit.clamp(1, PAGE_SIZE);
        let start = after.map(|after| prefix.clone() + after);
        let mut found =
            self.core.store().lookup_prefix(&instance.id, REFERENCES_INDEX, &prefix, start.as_deref(), limit + 1)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).and_then(|(key, _)| key.strip_prefix(&prefix));
        let next = last.map(str::to_owned);
        let mut total = 0;
        let mut counted: Option<String> = None;
        loop {
            let page = self.core.store().lookup_prefix(
                &instance.id,
                REFERENCES_INDEX,
                &prefix,
                counted.as_deref(),
                PAGE_SIZE,
            )?;
            total += page.len();
            match page.into_iter().nth(PAGE_SIZE - 1) {
                Some((last, _)) => counted = Some(last),
                None => return Ok(ReferencePage { files: found.into_iter().map(|(_, id)| id).collect(), next, total }),
            }
        }
    }
}
