//! Secrets sealed by earlier versions, and how they are migrated.

use konnector_store::SecretContext;
use serde_json::{Value, json};

use super::*;
use crate::stored::Object;

const FIELDS: [&str; 4] =
    ["/auth/credentials_encrypted", "/auth/pin_encrypted", "/oauth/refresh_token_encrypted", "/_session"];

/// Name of the secret that a sealed field holds.
fn field(pointer: &str) -> &str {
    match pointer {
        "/auth/credentials_encrypted" => "password",
        "/_session" => "_session",
        other => other.rsplit('/').next().and_then(|name| name.strip_suffix("_encrypted")).unwrap(),
    }
}

fn context(instance: &InstanceId, account: &str, konnector: Option<&str>, field: &str) -> SecretContext {
    SecretContext {
        instance: instance.clone(),
        account: account.to_owned(),
        konnector: konnector.map(str::to_owned),
        field: field.to_owned(),
    }
}

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap()
}

/// An account as an earlier version stored it, with one sealed string that cannot be opened.
fn legacy_account(key: &MasterKey, instance: &InstanceId, id: &str, konnector: Option<&str>) -> Object {
    let mut body = json!({ "account_type": konnector, "auth": { "login": "ada" }, "oauth": {} });
    for pointer in FIELDS {
        let (place, name) = pointer.rsplit_once('/').unwrap();
        let sealed = key.seal(&context(instance, id, None, field(pointer)), pointer.as_bytes()).unwrap();
        body.pointer_mut(place).unwrap()[name] = json!(sealed);
    }
    body["auth"]["broken_encrypted"] = json!("sealed-v1.nothing");
    object(body)
}

/// A store in which an earlier version saved an account of the bank, one without a konnector, and a deleted one.
struct LegacyStore {
    store: Store,
    key: MasterKey,
    next: MasterKey,
    instance: InstanceId,
    _folder: tempfile::TempDir,
}

impl LegacyStore {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [key, next] = ["key", "next"].map(|name| MasterKey::create(&folder.path().join(name)).unwrap());
        let (store, instance) = (Store::in_memory(), InstanceId::new());
        let mut changes = Changes::new();
        changes.create(doc_ref(), object(json!({ "fingerprint": key.fingerprint() })));
        changes.create(DocRef::new(&InstanceId::global(), &INSTANCES, instance.to_string()), Object::new());
        for (doctype, id, konnector) in
            [(&ACCOUNTS, "own", Some("bank")), (&ACCOUNTS, "nobody", None), (&DELETED_ACCOUNTS, "gone", Some("bank"))]
        {
            changes.create(DocRef::new(&instance, doctype, id), legacy_account(&key, &instance, id, konnector));
        }
        store.commit(changes).await.unwrap();
        Self { store, key, next, instance, _folder: folder }
    }

    fn document(&self, doctype: &konnector_manifest::Doctype, id: &str) -> Document {
        self.store.get(&DocRef::new(&self.instance, doctype, id)).unwrap().unwrap()
    }

    /// Asserts that every secret opens with this key for the konnector of its account, and for no other.
    fn assert_bound(&self, key: &MasterKey) {
        for (doctype, id, owner) in
            [(&ACCOUNTS, "own", "bank"), (&ACCOUNTS, "nobody", ""), (&DELETED_ACCOUNTS, "gone", "bank")]
        {
            let body = Value::Object(self.document(doctype, id).body);
            for pointer in FIELDS {
                let sealed = body.pointer(pointer).and_then(Value::as_str).unwrap();
                let open = |konnector| key.open(&context(&self.instance, id, konnector, field(pointer)), sealed);
                assert_eq!(open(Some(owner)).unwrap().as_slice(), pointer.as_bytes(), "{id} {pointer}");
                assert!(open(Some("thief")).is_err() && open(None).is_err(), "{id} {pointer}");
            }
        }
    }
}

#[tokio::test]
async fn the_first_start_binds_the_secrets_of_an_earlier_version_to_their_konnectors() {
    let old = LegacyStore::new().await;
    check(&old.store, &old.key).await.unwrap();
    old.assert_bound(&old.key);
    assert_eq!(old.document(&ACCOUNTS, "own").body["auth"]["broken_encrypted"], "sealed-v1.nothing");

    // Binding runs only once. Nothing is written again, and a secret in the old form found later belongs to nobody.
    let mut changes = Changes::new();
    let planted = old.key.seal(&context(&old.instance, "late", None, "password"), b"x").unwrap();
    let body = object(json!({ "account_type": "thief", "auth": { "credentials_encrypted": planted } }));
    changes.create(DocRef::new(&old.instance, &ACCOUNTS, "late"), body.clone());
    old.store.commit(changes).await.unwrap();
    let before = old.document(&ACCOUNTS, "own").rev;
    check(&old.store, &old.key).await.unwrap();
    assert_eq!((old.document(&ACCOUNTS, "own").rev, old.document(&ACCOUNTS, "late").body), (before, body));
}

#[tokio::test]
async fn a_start_that_was_cut_off_is_made_up_for() {
    let old = LegacyStore::new().await;
    check(&old.store, &old.key).await.unwrap();
    let rev = old.document(&ACCOUNTS, "own").rev;
    // As if only one account was left when the server was killed.
    let nobody = old.document(&ACCOUNTS, "nobody");
    let marker = old.store.get(&doc_ref()).unwrap().unwrap();
    let mut changes = Changes::new();
    changes.put(doc_ref(), &marker.rev, object(json!({ "fingerprint": old.key.fingerprint() })));
    changes.put(
        DocRef::new(&old.instance, &ACCOUNTS, "nobody"),
        &nobody.rev,
        legacy_account(&old.key, &old.instance, "nobody", None),
    );
    old.store.commit(changes).await.unwrap();
    check(&old.store, &old.key).await.unwrap();
    old.assert_bound(&old.key);
    assert_eq!(old.document(&ACCOUNTS, "own").rev, rev);
}

#[tokio::test]
async fn another_key_binds_what_an_earlier_version_sealed() {
    let old = LegacyStore::new().await;
    // A secret that cannot be opened prevents a rotation, as before.
    for (doctype, id) in [(&ACCOUNTS, "own"), (&ACCOUNTS, "nobody"), (&DELETED_ACCOUNTS, "gone")] {
        let Document { rev, mut body, .. } = old.document(doctype, id);
        body["auth"].as_object_mut().unwrap().remove("broken_encrypted");
        let mut changes = Changes::new();
        changes.put(DocRef::new(&old.instance, doctype, id), &rev, body);
        old.store.commit(changes).await.unwrap();
    }
    let sealed = rotate(&old.store, &old.key, &old.next, |_| ()).await.unwrap();
    assert_eq!(sealed, 3 * FIELDS.len() as u64);
    old.assert_bound(&old.next);
    check(&old.store, &old.next).await.unwrap();
    assert_eq!(rotate(&old.store, &old.next, &old.next, |_| ()).await.unwrap(), 0);
}
