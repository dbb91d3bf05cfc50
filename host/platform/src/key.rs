//! The master key, which must match the data that it seals and can be rotated.

use konnector_store::{Changes, DocRef, Document, InstanceId, MasterKey, Store};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use konnector_accounts::{self as account, ResealKeys, account_type};
use konnector_documents::doctype::{ACCOUNT_TYPES, ACCOUNTS, DELETED_ACCOUNTS, INSTANCES, SETTINGS};
use konnector_documents::stored::{Stored, to_object};

/// Record of the key that seals the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyRecord {
    fingerprint: String,
    /// The new key during a rotation: some secrets are already sealed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether the secrets of all accounts are bound to their konnectors; earlier versions did not bind them.
    #[serde(default)]
    bound: bool,
}

fn doc_ref() -> DocRef {
    DocRef::new(&InstanceId::global(), &SETTINGS, "master-key")
}

fn load_key_record(store: &Store) -> Result<Option<Stored<KeyRecord>>> {
    store.get(&doc_ref())?.map(|document| Stored::from_document(&SETTINGS, document)).transpose()
}

/// Checks that the data was sealed with this key, and records the key in an empty store.
///
/// # Errors
///
/// [`Error::KeyMismatch`] for another key, and during an unfinished rotation.
pub async fn check(store: &Store, key: &MasterKey) -> Result<()> {
    let ours = key.fingerprint();
    match load_key_record(store)? {
        Some(Stored { value: KeyRecord { next: Some(next), fingerprint, .. }, .. }) => {
            return Err(rotation_interrupted(&fingerprint, &next));
        }
        Some(Stored { value, .. }) if value.fingerprint != ours => return Err(key_mismatch(&value.fingerprint, &ours)),
        Some(_) => {}
        None => {
            let mut changes = Changes::new();
            changes.create(doc_ref(), to_object(&KeyRecord { fingerprint: ours.clone(), next: None, bound: false })?);
            store.commit(changes).await?;
        }
    }
    store.save_key_fingerprint(&ours)?;
    bind_secrets(store, key).await
}

/// Binds secrets that an earlier version sealed to the konnector of their account. Runs once; afterwards, secrets that
/// are bound to no konnector no longer open. If interrupted, it continues at the next start.
async fn bind_secrets(store: &Store, key: &MasterKey) -> Result<()> {
    let Some(Stored { value, rev, .. }) = load_key_record(store)?.filter(|found| !found.value.bound) else {
        return Ok(());
    };
    let keys = ResealKeys { old: key, new: key, accept_unbound: true };
    for_each_account(store, async |at, Document { id, rev, mut body }| {
        let warn = |error| {
            tracing::warn!(account = id, %error, "a secret cannot be opened and is no longer usable");
            Ok(())
        };
        if account::reseal(&at.instance, &id, &mut body, keys, warn)? > 0 {
            let mut changes = Changes::new();
            changes.put(at, &rev, body);
            store.commit(changes).await?;
            failpoint("bind.account")?;
        }
        Ok(())
    })
    .await?;
    let mut changes = Changes::new();
    changes.put(doc_ref(), &rev, to_object(&KeyRecord { bound: true, ..value })?);
    store.commit(changes).await?;
    Ok(())
}

fn failpoint(place: &str) -> Result<()> {
    konnector_store::failpoint::hit(place).map_err(Error::io("resealing secrets"))
}

/// Returns the error for a key that did not seal the data.
#[must_use]
pub fn key_mismatch(needed: &str, found: &str) -> Error {
    Error::KeyMismatch(format!(
        "this data was sealed with the key {needed}, but the key file contains {found}; restore the right key file \
         (from the backup of the key, not of the data) and start again; nothing was changed"
    ))
}

/// Returns the error for a rotation that was interrupted.
#[must_use]
pub fn rotation_interrupted(from: &str, to: &str) -> Error {
    Error::KeyMismatch(format!(
        "the rotation from the key {from} to {to} was interrupted, and nothing was changed; run konnector keys rotate to finish it"
    ))
}

/// Reseals every secret with another key, account by account, and returns the number of resealed secrets. If
/// interrupted, it continues when called again with the same two keys; until then both keys are needed, and the server
/// does not start. Calls `done` with the number of accounts resealed so far. Nothing else may use the store during the
/// rotation.
///
/// # Errors
///
/// [`Error::KeyMismatch`] if the data is sealed with neither key, or a rotation to a third key is unfinished.
pub async fn rotate(store: &Store, old: &MasterKey, new: &MasterKey, mut done: impl FnMut(u64)) -> Result<u64> {
    let (from, to) = (old.fingerprint(), new.fingerprint());
    let mut bound = false;
    match load_key_record(store)? {
        Some(Stored { value, .. }) if value.fingerprint == to && value.next.is_none() => bound = value.bound,
        Some(Stored { value, rev, .. })
            if value.fingerprint == from && value.next.as_ref().is_none_or(|next| *next == to) =>
        {
            bound = value.bound;
            let mut changes = Changes::new();
            changes.put(doc_ref(), &rev, to_object(&KeyRecord { fingerprint: from, next: Some(to.clone()), bound })?);
            store.commit(changes).await?;
            failpoint("rotate.begun")?;
        }
        Some(Stored { value: KeyRecord { fingerprint, next: Some(next), .. }, .. }) => {
            return Err(rotation_interrupted(&fingerprint, &next));
        }
        Some(Stored { value, .. }) => return Err(key_mismatch(&value.fingerprint, &from)),
        None => {}
    }
    let (mut secrets, mut accounts) = (0, 0);
    for Document { id, rev, mut body } in account_types(store)? {
        let sealed = account_type::reseal(&id, &mut body, old, new)?;
        if sealed > 0 {
            let mut changes = Changes::new();
            changes.put(DocRef::new(&InstanceId::global(), &ACCOUNT_TYPES, &id), &rev, body);
            store.commit(changes).await?;
            secrets += sealed;
        }
    }
    let keys = ResealKeys { old, new, accept_unbound: !bound };
    for_each_account(store, async |at, Document { id, rev, mut body }| {
        let sealed = account::reseal(&at.instance, &id, &mut body, keys, Err)?;
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
    let all = KeyRecord { fingerprint: to.clone(), next: None, bound: true };
    if let Some(Stored { rev, value, .. }) = load_key_record(store)?
        && value != all
    {
        let mut changes = Changes::new();
        changes.put(doc_ref(), &rev, to_object(&all)?);
        store.commit(changes).await?;
    }
    failpoint("rotate.sealed")?;
    store.save_key_fingerprint(&to)?;
    failpoint("rotate.noted")?;
    Ok(secrets)
}

/// Calls `act` for each account, including deleted ones that wait for their konnector to clean up.
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

/// Lists the instances, which own the documents.
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
