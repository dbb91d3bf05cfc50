//! Makes an index of documents that are there already, and takes one away: in steps of a few documents, each a commit of its own, so that
//! nobody waits for long and a crash loses one step.

use konnector_manifest::Doctype;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Index, check_members};
use super::entry::Place;
use crate::document;
use crate::error::{Conflict, Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, Space};
use crate::kv::{Batch, Committed};
use crate::store::Store;
use crate::view::View;

/// Documents of one step: at most this many are waited for by another commit.
const STEP: usize = 64;
/// Entries removed in one commit.
const PAGE: usize = 512;
/// How often a step is planned anew before it gives up.
const ATTEMPTS: usize = 100;

/// How far the building of an index is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Id of the last document that is in it.
    pub(super) after: Option<String>,
}

/// What is next to do for an index.
enum Next {
    Read(Index),
    Sweep(u32),
    Build(Index),
    /// Somebody else changed something in between.
    Look,
}

/// The index over these members, made where it is missing.
pub(crate) async fn ensure(
    store: &Store,
    instance: &InstanceId,
    doctype: &Doctype,
    members: &[String],
) -> Result<Index> {
    check_members(members)?;
    // Refused commits are few: each means that another one succeeded.
    let mut refused = 0;
    loop {
        let done = match look(store, instance, doctype, members).await? {
            Next::Read(index) => return Ok(index),
            Next::Look => false,
            Next::Sweep(number) => sweep(store, instance, doctype, number).await?,
            Next::Build(index) => step(store, &index).await?,
        };
        refused = if done { 0 } else { refused + 1 };
        if refused > ATTEMPTS {
            return Err(Conflict::Contention.into());
        }
        tokio::task::yield_now().await;
    }
}

/// Takes an index away; nothing happens when there is none over these members.
pub(crate) async fn drop_index(
    store: &Store,
    instance: &InstanceId,
    doctype: &Doctype,
    members: &[String],
) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let mut view = View::new(store.kv());
        let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(()) };
        if let Some(number) = catalog.find(members).map(|index| index.number) {
            catalog.drop(number);
            catalog.write(&mut view, instance, doctype)?;
            view.remove(key::of_progress(instance, doctype, number));
            let _: Committed = store.kv().commit(view.into_batch()?).await?;
            continue;
        }
        let Some(number) = catalog.dropped.first() else { return Ok(()) };
        sweep(store, instance, doctype, *number).await?;
    }
    Err(Conflict::Contention.into())
}

/// Declares the index where that is to be done, and says what is next.
async fn look(store: &Store, instance: &InstanceId, doctype: &Doctype, members: &[String]) -> Result<Next> {
    let mut view = View::new(store.kv());
    let mut catalog = Catalog::read(&mut view, instance, doctype)?.unwrap_or_default();
    if let Some(number) = catalog.dropped.first() {
        return Ok(Next::Sweep(*number));
    }
    match catalog.find(members) {
        Some(index) if index.is_current() => {
            let (instance, doctype, members) = (instance.clone(), doctype.clone(), members.to_vec());
            let found = Index { instance, doctype, number: index.number, members };
            Ok(if index.ready { Next::Read(found) } else { Next::Build(found) })
        }
        found => {
            if let Some(number) = found.map(|index| index.number) {
                catalog.drop(number);
                view.remove(key::of_progress(instance, doctype, number));
            }
            catalog.declare(doctype, members)?;
            catalog.write(&mut view, instance, doctype)?;
            let _: Committed = store.kv().commit(view.into_batch()?).await?;
            Ok(Next::Look)
        }
    }
}

/// Puts the next documents into an index; answers whether that was done.
async fn step(store: &Store, index: &Index) -> Result<bool> {
    let Index { instance, doctype, number, members } = index;
    let mut view = View::new(store.kv());
    let at = key::of_progress(instance, doctype, *number);
    let after = view.get::<Progress>(&at)?.unwrap_or_default().after;
    let mut range = key::documents(instance, doctype);
    if let Some(after) = &after {
        range.behind(&key::of_document(Space::Document, &DocRef::new(instance, doctype, after.as_str()))?);
    }
    let mut last = None;
    for (key, _) in store.kv().scan(&range.from, &range.to, STEP, false)? {
        let id = key::document_id(&key)?.to_owned();
        // Read through the view: a document that is changed meanwhile refuses the step.
        let body = match document::body_of(&mut view, store.blobs(), &key) {
            Ok(body) => body,
            // It was replaced after its entry was read, and so was its content.
            Err(Error::BlobNotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some(place) = body.and_then(|body| Place::of(members, &id, &body)) {
            let key = place.key(instance, doctype, *number);
            place.put(&mut view, key)?;
        }
        last = Some(id);
    }
    // The index must still be there, whatever was done meanwhile.
    let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(false) };
    let Some(definition) = catalog.indexes.iter_mut().find(|index| index.number == *number) else { return Ok(false) };
    if last.is_some() {
        view.put(at, &Progress { after: last })?;
    } else {
        definition.ready = true;
        catalog.write(&mut view, instance, doctype)?;
        view.remove(at);
    }
    Ok(store.kv().commit(view.into_batch()?).await? == Committed::Applied)
}

/// Removes the entries of an index that is gone, then its number; answers whether that was done.
async fn sweep(store: &Store, instance: &InstanceId, doctype: &Doctype, number: u32) -> Result<bool> {
    let range = key::Range::starting_with(key::of_entries(instance, doctype, number));
    loop {
        let mut batch = Batch::default();
        for (key, _) in store.kv().scan(&range.from, &range.to, PAGE, false)? {
            batch.remove(key);
        }
        if batch.is_empty() {
            break;
        }
        // Nobody writes to an index that is gone, so nothing is to be checked.
        let _: Committed = store.kv().commit(batch).await?;
    }
    let mut view = View::new(store.kv());
    let Some(mut catalog) = Catalog::read(&mut view, instance, doctype)? else { return Ok(true) };
    catalog.dropped.retain(|dropped| *dropped != number);
    catalog.write(&mut view, instance, doctype)?;
    Ok(store.kv().commit(view.into_batch()?).await? == Committed::Applied)
}
