use konnector_store::{Changes, Conflict, Error, Store};

use crate::support::{instance, on_every_backend};

on_every_backend!(
    a_key_has_one_holder,
    a_prefix_finds_its_keys_and_pages,
    keys_of_any_length_work,
    names_of_indexes_are_checked
);

async fn put(store: &Store, key: &str, value: &str) -> konnector_store::Result<()> {
    let mut changes = Changes::new();
    changes.put_unique(&instance(1), "path", key, value);
    store.commit(changes).await.map(drop)
}

async fn a_key_has_one_holder(store: Store) {
    put(&store, "/a", "1").await.unwrap();
    put(&store, "/a", "1").await.unwrap();
    let error = put(&store, "/a", "2").await.unwrap_err();
    assert_eq!(error.to_string(), r#"conflict: the key "/a" of the index path already belongs to 1"#);
    assert_eq!(store.lookup(&instance(1), "path", "/a").unwrap().as_deref(), Some("1"));
    assert_eq!(store.lookup(&instance(2), "path", "/a").unwrap(), None);
    assert_eq!(store.lookup(&instance(1), "other", "/a").unwrap(), None);

    let mut swap = Changes::new();
    swap.remove_unique(&instance(1), "path", "/a").put_unique(&instance(1), "path", "/a", "2");
    store.commit(swap).await.unwrap();
    assert_eq!(store.lookup(&instance(1), "path", "/a").unwrap().as_deref(), Some("2"));

    let writers = (0..20).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { put(&store, "/raced", &number.to_string()).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, Error::Conflict(Conflict::Taken { .. })), "{error}"),
        }
    }
    assert_eq!(won, 1);
}

async fn a_prefix_finds_its_keys_and_pages(store: Store) {
    for key in ["/a", "/a/1", "/a/2", "/a/2/x", "/a/é", "/ab", "/b"] {
        put(&store, key, &key.to_uppercase()).await.unwrap();
    }
    let keys = |prefix: &str, after: Option<&str>, limit| {
        let found = store.lookup_prefix(&instance(1), "path", prefix, after, limit).unwrap();
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys("/a/", None, 10), ["/a/1", "/a/2", "/a/2/x", "/a/é"]);
    assert_eq!(keys("/a/", Some("/a/1"), 2), ["/a/2", "/a/2/x"]);
    assert_eq!(keys("", None, 100).len(), 7);
    assert_eq!(keys("/a/", Some("/b"), 10), [""; 0]);
    assert_eq!(keys("/a/", Some("/"), 1), ["/a/1"], "a cursor before the prefix starts at the prefix");
    let found = store.lookup_prefix(&instance(1), "path", "/a/é", None, 1).unwrap();
    assert_eq!(found, [("/a/é".to_owned(), "/A/É".to_owned())]);
}

async fn keys_of_any_length_work(store: Store) {
    let folder = format!("/{}", "folder".repeat(30));
    let lengths = [1, 20, 100, 127, 128, 129, 159, 160, 161, 162, 300, 3_000];
    let keys: Vec<String> =
        lengths.iter().flat_map(|n| [format!("{folder}/{}", "n".repeat(*n)), "n".repeat(*n)]).collect();
    for key in &keys {
        put(&store, key, &key.len().to_string()).await.unwrap();
    }
    for key in &keys {
        assert_eq!(store.lookup(&instance(1), "path", key).unwrap(), Some(key.len().to_string()));
        assert_eq!(store.lookup(&instance(1), "path", &format!("{key}!")).unwrap(), None);
    }
    for prefix in [folder.as_str(), "n", &"n".repeat(128), &"n".repeat(150), &"n".repeat(161), &format!("{folder}/nnn")]
    {
        let mut expected: Vec<&String> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        expected.sort();
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(String::as_str);
            let page = store.lookup_prefix(&instance(1), "path", prefix, after, 2).unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|(key, _)| key));
        }
        found.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix}");
    }
}

async fn names_of_indexes_are_checked(store: Store) {
    for name in ["", "a\0b", &"n".repeat(65)] {
        assert!(matches!(store.lookup(&instance(1), name, "key"), Err(Error::Invalid { .. })), "{name:?}");
    }
}
