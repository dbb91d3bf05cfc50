//! The master key and the data that it seals: they must belong together, and the key can be changed for another.

use konnector_store::{Changes, DocRef, Document, InstanceId, MasterKey, Store};
use serde::{Deserialize, Serialize};

use crate::account::{self, Keys};
use crate::doctype::{ACCOUNT_TYPES, ACCOUNTS, DELETED_ACCOUNTS, INSTANCES, SETTINGS};
use crate::stored::{Stored, object};
use crate::{Error, Result, account_type};

/// Which key the data is sealed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    fingerprint: String,
    /// While the key is being changed, the new one: some secrets are sealed with it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether the secrets of all accounts are bound to their konnectors, which earlier versions did not do.
    #[serde(default)]
    bound: bool,
}

fn place() -> DocRef {
    DocRef::new(&InstanceId::global(), &SETTINGS, "master-key")
}

fn sealed(store: &Store) -> Result<Option<Stored<Sealed>>> {
    store.get(&place())?.map(|document| Stored::read(&SETTINGS, document)).transpose()
}

/// Checks that a key is the one the data was sealed with, and notes it in an empty store.
///
/// # Errors
///
/// [`Error::Key`] for another key, and while the key is being changed.
pub async fn check(store: &Store, key: &MasterKey) -> Result<()> {
    let ours = key.fingerprint();
    match sealed(store)? {
        Some(Stored { value: Sealed { next: Some(next), fingerprint, .. }, .. }) => {
            return Err(unfinished(&fingerprint, &next));
        }
        Some(Stored { value, .. }) if value.fingerprint != ours => return Err(another(&value.fingerprint, &ours)),
        Some(_) => {}
        None => {
            let mut changes = Changes::new();
            changes.create(place(), object(&Sealed { fingerprint: ours.clone(), next: None, bound: false })?);
            store.commit(changes).await?;
        }
    }
    store.save_key_fingerprint(&ours)?;
    bind(store, key).await
}

/// Binds the secrets of accounts that an earlier version sealed to the konnector that each account is for. Done once; afterwards nothing
/// that is bound to no konnector opens any more. Interrupted at any moment, it goes on at the next start.
async fn bind(store: &Store, key: &MasterKey) -> Result<()> {
    let Some(Stored { value, rev, .. }) = sealed(store)?.filter(|found| !found.value.bound) else { return Ok(()) };
    let keys = Keys { old: key, new: key, unbound: true };
    for_each_account(store, async |at, Document { id, rev, mut body }| {
        let warn = |error| {
            tracing::warn!(account = id, %error, "a secret cannot be opened and is of no more use");
            Ok(())
        };
        if account::seal_anew(&at.instance, &id, &mut body, keys, warn)? > 0 {
            let mut changes = Changes::new();
            changes.put(at, &rev, body);
            store.commit(changes).await?;
            failpoint("bind.account")?;
        }
        Ok(())
    })
    .await?;
    let mut changes = Changes::new();
    changes.put(place(), &rev, object(&Sealed { bound: true, ..value })?);
    store.commit(changes).await?;
    Ok(())
}

fn failpoint(place: &str) -> Result<()> {
    konnector_store::failpoint::hit(place).map_err(Error::io("changing how secrets are sealed"))
}

/// The refusal of a key that does not fit.
#[must_use]
pub fn another(needed: &str, found: &str) -> Error {
    Error::Key(format!(
        "this data was sealed with the key {needed}, but the key file holds {found}; put the right key file back (the backup of the key, \
         not of the data) and start again. Nothing was changed"
    ))
}

/// The refusal while the key is being changed.
#[must_use]
pub fn unfinished(from: &str, to: &str) -> Error {
    Error::Key(format!(
        "the change from the key {from} to {to} was interrupted: run konnector keys rotate, which finishes it. Nothing was changed"
    ))
}

/// Seals every secret with another key, account by account. Interrupted at any moment, it goes on when it is called again with the same
/// two keys; in between, both are needed, and the server does not start. `done` is told of each account. Answers how many secrets were
/// sealed anew. Nobody else may use the store.
///
/// # Errors
///
/// [`Error::Key`] when the data is sealed with neither key, or on its way to a third.
pub async fn rotate(store: &Store, old: &MasterKey, new: &MasterKey, mut done: impl FnMut(u64)) -> Result<u64> {
    let (from, to) = (old.fingerprint(), new.fingerprint());
    let mut bound = false;
    match sealed(store)? {
        Some(Stored { value, .. }) if value.fingerprint == to && value.next.is_none() => bound = value.bound,
        Some(Stored { value, rev, .. })
            if value.fingerprint == from && value.next.as_ref().is_none_or(|next| *next == to) =>
        {
            bound = value.bound;
            let mut changes = Changes::new();
            changes.put(place(), &rev, object(&Sealed { fingerprint: from, next: Some(to.clone()), bound })?);
            store.commit(changes).await?;
            failpoint("rotate.begun")?;
        }
        Some(Stored { value: Sealed { fingerprint, next: Some(next), .. }, .. }) => {
            return Err(unfinished(&fingerprint, &next));
        }
        Some(Stored { value, .. }) => return Err(another(&value.fingerprint, &from)),
        None => {}
    }
    let (mut secrets, mut accounts) = (0, 0);
    for Document { id, rev, mut body } in account_types(store)? {
        let sealed = account_type::seal_anew(&id, &mut body, old, new)?;
        if sealed > 0 {
            let mut changes = Changes::new();
            changes.put(DocRef::new(&InstanceId::global(), &ACCOUNT_TYPES, &id), &rev, body);
            store.commit(changes).await?;
            secrets += sealed;
        }
    }
    let keys = Keys { old, new, unbound: !bound };
    for_each_account(store, async |at, Document { id, rev, mut body }| {
        let sealed = account::seal_anew(&at.instance, &id, &mut body, keys, Err)?;
        if sealed > 0 {
            let mut changes = Changes::new();
            changes.put(at, &rev, body);
            store.commit(changes).await?;
            secrets += sealed;
            failpoint("rotate.account")?;
        }
        accounts += 1;
        done(accounts);
        Ok(())
    })
    .await?;
    let all = Sealed { fingerprint: to.clone(), next: None, bound: true };
    if let Some(Stored { rev, value, .. }) = sealed(store)?
        && value != all
    {
        let mut changes = Changes::new();
        changes.put(place(), &rev, object(&all)?);
        store.commit(changes).await?;
    }
    failpoint("rotate.sealed")?;
    store.save_key_fingerprint(&to)?;
    failpoint("rotate.noted")?;
    Ok(secrets)
}

/// Does something with each account, also with those that were deleted and wait for their konnector to clean up.
async fn for_each_account(store: &Store, mut act: impl AsyncFnMut(DocRef, Document) -> Result<()>) -> Result<()> {
    let instances = instances(store)?;
    let places = instances.iter().flat_map(|instance| [(instance, &ACCOUNTS), (instance, &DELETED_ACCOUNTS)]);
    for (instance, doctype) in places {
        let mut after: Option<String> = None;
        loop {
            let page = store.list(instance, doctype, after.as_deref(), 100)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for document in page {
                act(DocRef::new(instance, doctype, &document.id), document).await?;
            }
        }
    }
    Ok(())
}

fn account_types(store: &Store) -> Result<Vec<Document>> {
    let mut types = Vec::new();
    loop {
        let after = types.last().map(|last: &Document| last.id.clone());
        let page = store.list(&InstanceId::global(), &ACCOUNT_TYPES, after.as_deref(), 100)?;
        if page.is_empty() {
            return Ok(types);
        }
        types.extend(page);
    }
}

/// The owners of documents.
fn instances(store: &Store) -> Result<Vec<InstanceId>> {
    let mut instances = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(&InstanceId::global(), &INSTANCES, after.as_deref(), 100)?;
        let Some(last) = page.last() else { return Ok(instances) };
        after = Some(last.id.clone());
        for document in page {
            instances.push(document.id.parse()?);
        }
    }
}

#[cfg(test)]
mod tests;
