//! Builds an index over existing documents, and drops one, in steps of a few documents. Each step is a commit of its
//! own, so other commits do not wait for long and a crash loses only one step.

use konnector_manifest::Doctype;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Index, validate_fields};
use super::entry::IndexEntry;
use crate::document;
use crate::error::{Conflict, Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Keyspace};
use crate::kv::{Batch, CommitOutcome};
use crate::store::Store;
use crate::view::View;

/// Number of documents in one step; another commit waits for at most this many.
const BUILD_BATCH_SIZE: usize = 64;
/// Number of entries removed in one commit.
const DELETE_BATCH_SIZE: usize = 512;
/// How often a step is planned again before it fails.
const MAX_ATTEMPTS: usize = 100;

/// Progress of the building of an index.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct BuildProgress {
    /// Id of the last document that was added.
    pub(super) after: Option<String>,
}

/// The next step for an index.
enum BuildStep {
    Ready(Index),
    Sweep(u32),
    Build(Index),
    /// A concurrent commit changed something in between.
    Retry,
}

/// Returns the index over these fields, and builds it if it is missing.
pub(crate) async fn ensure(
    store: &Store,
    instance: &InstanceId,
    doctype: &Doctype,
    fields: &[String],
) -> Result<Index> {
    validate_fields(fields)?;
    // Rejected commits are few, because each means that another one succeeded.
    let mut attempts = 0;
    loop {
        let is_finished = match next_step(store, instance, doctype, fields).await? {
            BuildStep::Ready(index) => return Ok(index),
            BuildStep::Retry => false,
            BuildStep::Sweep(number) => delete_entries(store, instance, doctype, number).await?,
            BuildStep::Build(index) => build_batch(store, &index).await?,
        };
        attempts = if is_finished { 0 } else { attempts + 1 };
        if attempts > MAX_ATTEMPTS {
            return Err(Conflict::Contention.into());
        }
        tokio::task::yield_now().await;
    }
}

/// Drops an index; does nothing if there is no index over these fields.
pub(crate) async fn drop_index(
    store: &Store,
    instance: &InstanceId,
    doctype: &Doctype,
    fields: &[String],
) -> Result<()> {
    for _ in 0..MAX_ATTEMPTS {
        let mut view = View::new(store.kv());
        let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(()) };
        if let Some(number) = catalog.find(fields).map(|index| index.number) {
            catalog.remove(number);
            catalog.write(&mut view, instance, doctype)?;
            view.remove(key::of_build_progress(instance, doctype, number));
            let _: CommitOutcome = store.kv().commit(view.into_batch()?).await?;
            continue;
        }
        let Some(number) = catalog.dropped.first() else { return Ok(()) };
        delete_entries(store, instance, doctype, *number).await?;
    }
    Err(Conflict::Contention.into())
}

/// Declares the index if necessary, and returns the next step.
async fn next_step(store: &Store, instance: &InstanceId, doctype: &Doctype, fields: &[String]) -> Result<BuildStep> {
    let mut view = View::new(store.kv());
    let mut catalog = Catalog::read(&mut view, instance, doctype)?.unwrap_or_default();
    if let Some(number) = catalog.dropped.first() {
        return Ok(BuildStep::Sweep(*number));
    }
    match catalog.find(fields) {
        Some(index) if index.is_current() => {
            let (instance, doctype, fields) = (instance.clone(), doctype.clone(), fields.to_vec());
            let found = Index { instance, doctype, number: index.number, fields };
            Ok(if index.ready { BuildStep::Ready(found) } else { BuildStep::Build(found) })
        }
        found => {
            if let Some(number) = found.map(|index| index.number) {
                catalog.remove(number);
                view.remove(key::of_build_progress(instance, doctype, number));
            }
            catalog.declare(doctype, fields)?;
            catalog.write(&mut view, instance, doctype)?;
            let _: CommitOutcome = store.kv().commit(view.into_batch()?).await?;
            Ok(BuildStep::Retry)
        }
    }
}

/// Adds the next documents to an index; returns whether the commit succeeded.
async fn build_batch(store: &Store, index: &Index) -> Result<bool> {
    let Index { instance, doctype, number, fields } = index;
    let mut view = View::new(store.kv());
    let progress_key = key::of_build_progress(instance, doctype, *number);
    let after = view.get::<BuildProgress>(&progress_key)?.unwrap_or_default().after;
    let mut range = key::documents(instance, doctype);
    if let Some(after) = &after {
        range.start_after(&key::of_document(Keyspace::Document, &DocRef::new(instance, doctype, after.as_str()))?);
    }
    let mut last = None;
    for (key, _) in store.kv().scan(&range.from, &range.to, BUILD_BATCH_SIZE, false)? {
        let id = key::document_id(&key)?.to_owned();
        // Read through the view, so that if the document is changed in the meantime, this step is rejected.
        let body = match document::body_of(&mut view, store.blobs(), &key) {
            Ok(body) => body,
            // The document was replaced after its entry was read, and its blob was removed.
            Err(Error::BlobNotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some(entry) = body.and_then(|body| IndexEntry::from_document(fields, &id, &body)) {
            let key = entry.key(instance, doctype, *number);
            entry.put(&mut view, key)?;
        }
        last = Some(id);
    }
    // The index must still exist, regardless of concurrent changes.
    let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(false) };
    let Some(definition) = catalog.indexes.iter_mut().find(|index| index.number == *number) else { return Ok(false) };
    if last.is_some() {
        view.put(progress_key, &BuildProgress { after: last })?;
    } else {
        definition.ready = true;
        catalog.write(&mut view, instance, doctype)?;
        view.remove(progress_key);
    }
    Ok(store.kv().commit(view.into_batch()?).await? == CommitOutcome::Applied)
}

/// Removes the entries of a dropped index, then its number; returns whether the commit succeeded.
async fn delete_entries(store: &Store, instance: &InstanceId, doctype: &Doctype, number: u32) -> Result<bool> {
    let range = key::KeyRange::with_prefix(key::entries_prefix(instance, doctype, number));
    loop {
        let mut batch = Batch::default();
        for (key, _) in store.kv().scan(&range.from, &range.to, DELETE_BATCH_SIZE, false)? {
            batch.remove(key);
        }
        if batch.is_empty() {
            break;
        }
        // No commit writes to a dropped index, so no checks are necessary.
        let _: CommitOutcome = store.kv().commit(batch).await?;
    }
    let mut view = View::new(store.kv());
    let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(true) };
    catalog.dropped.retain(|dropped| *dropped != number);
    catalog.write(&mut view, instance, doctype)?;
    Ok(store.kv().commit(view.into_batch()?).await? == CommitOutcome::Applied)
}
