use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> MasterKey {
    MasterKey([byte; 32])
}

fn context(account: &str, field: &str) -> SecretContext {
    SecretContext {
        instance: InstanceId::global(),
        account: account.to_owned(),
        konnector: Some("bank".to_owned()),
        field: field.to_owned(),
    }
}

/// Returns the same context, for another konnector or for none.
fn with_konnector(konnector: Option<&str>, context: &SecretContext) -> SecretContext {
    SecretContext { konnector: konnector.map(str::to_owned), ..context.clone() }
}

#[test]
fn a_secret_opens_only_where_it_was_sealed() {
    let original = context("acct-1", "password");
    let sealed = key(1).seal(&original, b"correct horse").unwrap();
    assert_eq!(key(1).open(&original, &sealed).unwrap().as_slice(), b"correct horse");

    let message =
        |key: &MasterKey, context: &SecretContext, sealed: &str| key.open(context, sealed).unwrap_err().to_string();
    insta::assert_snapshot!(message(&key(1), &context("acct-2", "password"), &sealed), @"the secret password of account acct-2 cannot be opened: it was changed, or belongs to another account, konnector or field; enter it again");
    insta::assert_snapshot!(message(&key(2), &original, &sealed), @"the secret password of account acct-1 cannot be opened: it was sealed with the key ead75eb8…, but this server uses 937f5557…; start the server with that key");
    insta::assert_snapshot!(message(&key(1), &original, "hunter2"), @"the secret password of account acct-1 cannot be opened: it is not of the form sealed-v2.<key>.<text>; enter it again");
    assert!(key(1).open(&context("acct-1", "token"), &sealed).is_err());
    let other_instance = SecretContext { instance: InstanceId::new(), ..original };
    assert!(key(1).open(&other_instance, &sealed).is_err());
}

#[test]
fn a_secret_opens_for_no_other_konnector() {
    let original = context("acct-1", "password");
    let contexts = [None, Some("bank"), Some("thief"), Some("")].map(|konnector| with_konnector(konnector, &original));
    for (number, own) in contexts.iter().enumerate() {
        let sealed = key(1).seal(own, b"correct horse").unwrap();
        for (other, context) in contexts.iter().enumerate() {
            assert_eq!(key(1).open(context, &sealed).is_ok(), number == other, "{own:?}, {context:?}");
        }
        // A string of one format is not accepted as the other.
        let renamed = sealed.replacen("sealed-v2", "sealed-v1", 1);
        assert!(own.konnector.is_none() || key(1).open(&with_konnector(None, &original), &renamed).is_err());
        assert!(key(1).is_sealed(&sealed) && key(1).is_sealed_for(own, &sealed) && !key(2).is_sealed(&sealed));
        assert_eq!(key(1).is_sealed_for(&with_konnector(None, &original), &sealed), own.konnector.is_none());
    }
}

#[test]
fn the_parts_of_a_context_do_not_run_together() {
    let sealed = key(1).seal(&context("ab", "c"), b"x").unwrap();
    assert!(key(1).open(&context("a", "bc"), &sealed).is_err());
}

#[test]
fn d13_every_changed_letter_is_noticed() {
    let original = context("a", "f");
    let sealed = key(1).seal(&original, b"secret").unwrap();
    for position in 0..sealed.len() {
        let mut changed = sealed.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        assert!(key(1).open(&original, str::from_utf8(&changed).unwrap()).is_err(), "position {position}");
        assert!(key(1).open(&original, &sealed[..position]).is_err());
    }
}

#[test]
fn d13_the_same_secret_is_never_sealed_the_same_way() {
    let original = context("a", "f");
    let sealed: HashSet<String> = (0..1000).map(|_| key(1).seal(&original, b"secret").unwrap()).collect();
    assert_eq!(sealed.len(), 1000);
    assert!(sealed.iter().all(|text| key(1).open(&original, text).unwrap().as_slice() == b"secret"));
}

/// Strings that were sealed by an earlier version still open.
#[test]
fn the_format_and_the_derived_keys_do_not_change() {
    let original = with_konnector(None, &context("acct-1", "password"));
    insta::assert_snapshot!(key(7).fingerprint(), @"5f52460e46c8fe59");
    insta::assert_snapshot!(hex::encode(*key(7).derive("tokens")), @"988b0eb3b3ab059fce4b892c824b55c154bed8c6ca6ba6705a7f7b80fbfb8d5a");
    let sealed = "sealed-v1.5f52460e.7kD5wjpGaeZbJFxu8XOBBN_ckYqz2n-H-EC6Lvw0KyzslaDhEU3K17bb0OI9kiHuZQbF_ZV6uCZYaToptOvEuPgyeIs";
    assert_eq!(key(7).open(&original, sealed).unwrap().as_slice(), b"correct horse battery staple");
}

#[test]
fn a_key_does_not_show_itself() {
    let debug = format!("{:?}", key(7));
    assert_eq!(debug, format!("MasterKey({:?})", key(7).fingerprint()));
    assert_ne!(key(7).fingerprint(), key(8).fingerprint());
    assert_ne!(*key(7).derive("a"), *key(7).derive("b"));
}

#[test]
fn a_key_file_is_private_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    assert!(MasterKey::load(&path).unwrap().is_none());
    let key = MasterKey::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(MasterKey::load(&path).unwrap().unwrap().0, key.0);
    assert_ne!(key.0, [0; 32]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("konnector-key-1:") && text.ends_with('\n') && text.len() == 60, "{text:?}");

    let message = |error: Error| error.to_string().replace(&path.display().to_string(), "master.key");
    insta::assert_snapshot!(message(MasterKey::create(&path).unwrap_err()), @"the key file master.key already exists; a key is never overwritten, because the secrets sealed with it would be lost");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    insta::assert_snapshot!(message(MasterKey::load(&path).unwrap_err()), @"the key file master.key can be read or changed by other users (mode 640); run chmod 600 master.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    MasterKey::load(&path).unwrap();
}

#[test]
fn a_file_without_a_key_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let whole = format!("konnector-key-1:{}", URL_SAFE_NO_PAD.encode([1; 32]));
    for text in ["", "konnector-key-1:", &whole[..whole.len() - 1], &format!("{whole}A"), &whole[16..]] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let message = MasterKey::load(&path).unwrap_err().to_string();
        assert!(message.contains("does not contain a key"), "{text:?}: {message}");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(MasterKey::load(&path).unwrap().unwrap().0, [1; 32]);
}

proptest! {
    #[test]
    fn any_secret_is_read_back(secret: Vec<u8>, account: String, field: String) {
        let original = context(&account, &field);
        let sealed = key(1).seal(&original, &secret).unwrap();
        prop_assert!(!sealed.contains(|c: char| c.is_whitespace()));
        let opened = key(1).open(&original, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), secret);
    }

    #[test]
    fn no_text_makes_opening_panic(text: String) {
        prop_assert!(key(1).open(&context("a", "f"), &text).is_err());
        let framed = format!("sealed-v2.{}.{}", key(1).hint(), text);
        prop_assert!(key(1).open(&context("a", "f"), &framed).is_err());
    }
}
