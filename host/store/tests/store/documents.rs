use konnector_store::{Changes, Conflict, DocRef, Error};
use serde_json::json;

use crate::support::{
    BlobSchema, assert_no_sled_blobs, at, bill, blob, blob_json, body, claim, create, delayed, instance, job,
    on_every_backend, open,
};
use konnector_store::Store;

on_every_backend!(
    a_document_lives_and_dies,
    a_stale_revision_conflicts,
    a_commit_is_all_or_nothing,
    lists_are_in_the_order_of_ids_and_page,
    instances_and_types_do_not_see_each_other,
    large_documents_are_read_back_and_leave_nothing,
    ids_of_200_bytes_work_and_longer_ones_are_rejected,
    unreadable_documents_are_rejected,
    one_of_many_writers_wins_each_revision,
    writes_are_counted_before_they_are_acknowledged,
    a_large_commit_is_one_commit,
    a_purged_document_leaves_no_trace,
    readers_of_large_documents_never_miss_one,
    an_erased_instance_leaves_nothing_and_others_stay,
);

async fn a_document_lives_and_dies(store: Store) {
    let one = bill("one");
    assert_eq!(store.get(&one).unwrap(), None);
    assert!(!store.was_deleted(&one).unwrap());

    let first = create(&store, &one, json!({ "amount": 1, "z": 1, "a": [null, 1.5, "é"] })).await;
    let document = store.get(&one).unwrap().unwrap();
    assert_eq!((document.id.as_str(), &document.rev, first.generation()), ("one", &first, 1));
    assert_eq!(document.body.keys().collect::<Vec<_>>(), ["amount", "z", "a"], "in the order written");

    let mut changes = Changes::new();
    changes.put(one.clone(), &first, body(json!({ "amount": 2 })));
    let second = store.commit(changes).await.unwrap().remove(0);
    assert_eq!((second.generation(), &store.get(&one).unwrap().unwrap().body["amount"]), (2, &json!(2)));

    let mut changes = Changes::new();
    changes.delete(one.clone(), &second);
    let third = store.commit(changes).await.unwrap().remove(0);
    assert_eq!(third.generation(), 3);
    assert_eq!(store.get(&one).unwrap(), None);
    assert!(store.was_deleted(&one).unwrap());

    let fourth = create(&store, &one, json!({ "amount": 1 })).await;
    assert_eq!(fourth.generation(), 4, "the generation goes on above the tombstone");
    assert!(!store.was_deleted(&one).unwrap());
}

async fn writes_are_counted_before_they_are_acknowledged(store: Store) {
    let count = || store.write_count().expect("nobody else writes to it");
    let initial = count();
    let rev = create(&store, &bill("one"), json!({ "n": 1 })).await;
    let created = count();
    assert!(created > initial);
    let mut changes = Changes::new();
    changes.create(bill("one"), body(json!({ "n": 2 })));
    store.commit(changes).await.unwrap_err();
    assert!(store.get(&bill("one")).unwrap().is_some());
    assert_eq!(count(), created, "what is refused or only read changes nothing");
    let mut changes = Changes::new();
    changes.delete(bill("one"), &rev);
    store.commit(changes).await.unwrap();
    assert!(count() > created);
}

async fn a_stale_revision_conflicts(store: Store) {
    let one = bill("one");
    let first = create(&store, &one, json!({ "n": 1 })).await;
    let conflict = |changes: Changes| {
        let store = store.clone();
        async move {
            let error = store.commit(changes).await.unwrap_err();
            assert!(error.is_conflict(), "{error}");
            error.to_string()
        }
    };

    let mut retry = Changes::new();
    retry.create(one.clone(), body(json!({})));
    assert_eq!(conflict(retry).await, "conflict: document io.cozy.bills/one already exists");

    let mut put = Changes::new();
    put.put(one.clone(), &first, body(json!({ "n": 2 })));
    store.commit(put.clone()).await.unwrap();
    assert_eq!(
        conflict(put).await,
        "conflict: document io.cozy.bills/one is at revision 2-ceca9ab283326fa1a6a825c4f041d389, not at revision 1-60c3a252bb7d0890eba437a2c91258ec; read it again and redo the change"
    );

    let mut delete = Changes::new();
    delete.delete(one.clone(), &first);
    conflict(delete).await;
    let mut missing = Changes::new();
    missing.put(bill("missing"), &first, body(json!({})));
    assert_eq!(
        conflict(missing).await,
        "conflict: document io.cozy.bills/missing is deleted or was never created, not at revision 1-60c3a252bb7d0890eba437a2c91258ec; read it again and redo the change"
    );
    assert_eq!(store.get(&one).unwrap().unwrap().body["n"], json!(2));
}

async fn a_commit_is_all_or_nothing(store: Store) {
    create(&store, &bill("there"), json!({})).await;
    let mut changes = Changes::new();
    changes.create(bill("new"), body(json!({ "large": "x".repeat(20_000) })));
    changes.put_unique(&instance(1), "by-name", "new", "new");
    changes.create(bill("there"), body(json!({})));
    assert!(matches!(store.commit(changes).await, Err(Error::Conflict(Conflict::Exists { .. }))));
    assert_eq!(store.get(&bill("new")).unwrap(), None);
    assert_eq!(store.lookup(&instance(1), "by-name", "new").unwrap(), None);
    assert!(store.blobs().list().await.unwrap().is_empty(), "the large body was removed again");

    let mut changes = Changes::new();
    changes.create(bill("a"), body(json!({ "n": 1 })));
    changes.create(bill("b"), body(json!({ "n": 2 })));
    let revs = store.commit(changes).await.unwrap();
    assert_eq!(revs[0], store.get(&bill("a")).unwrap().unwrap().rev);
    assert_eq!(revs[1], store.get(&bill("b")).unwrap().unwrap().rev);
}

async fn lists_are_in_the_order_of_ids_and_page(store: Store) {
    let ids = ["10", "2", "a", "a b", "a/b", "aé", "b\u{0}c", "é"];
    for id in ids.iter().rev() {
        create(&store, &bill(*id), json!({ "id": id })).await;
    }
    let doctype = "io.cozy.bills".parse().unwrap();
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = store.list(&instance(1), &doctype, found.last().map(String::as_str), 3).unwrap();
        assert!(page.iter().all(|document| document.body["id"] == json!(document.id)));
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|document| document.id));
    }
    assert_eq!(found, ids);
    assert!(store.list(&instance(1), &doctype, None, 0).unwrap().is_empty());
    // The cursor may be an id that does not exist (any more).
    assert_eq!(store.list(&instance(1), &doctype, Some("a!"), 1).unwrap()[0].id, "a/b");
}

async fn instances_and_types_do_not_see_each_other(store: Store) {
    let types = ["io.cozy.bill", "io.cozy.bills", "io.cozy.bills.archive", &format!("io.cozy.{}", "long".repeat(40))];
    for number in [1, 2] {
        for doctype in types {
            let document = DocRef::new(&instance(number), &doctype.parse().unwrap(), "same");
            create(&store, &document, json!({ "of": format!("{number} {doctype}") })).await;
        }
    }
    for number in [1, 2] {
        for doctype in types {
            let listed = store.list(&instance(number), &doctype.parse().unwrap(), None, 10).unwrap();
            assert_eq!(listed.len(), 1);
            assert_eq!(listed[0].body["of"], json!(format!("{number} {doctype}")));
        }
        let mut found = store.doctypes(&instance(number)).unwrap();
        found.sort();
        assert_eq!(found.iter().map(AsRef::<str>::as_ref).collect::<Vec<_>>(), types);
    }
    assert!(store.doctypes(&instance(3)).unwrap().is_empty());

    let document = DocRef::new(&instance(2), &types[1].parse().unwrap(), "same");
    let rev = store.get(&document).unwrap().unwrap().rev;
    let mut changes = Changes::new();
    changes.delete(document, &rev);
    store.commit(changes).await.unwrap();
    assert_eq!(store.doctypes(&instance(2)).unwrap().len(), 3, "a type whose last document is gone is gone");
}

async fn large_documents_are_read_back_and_leave_nothing(store: Store) {
    let one = bill("one");
    let blobs = || async { store.blobs().list().await.unwrap().len() };
    let mut rev = create(&store, &one, json!({ "text": "x" })).await;
    for (size, expected) in [(6_000, 0), (7_000, 1), (8_000, 1), (500_000, 1), (7_000, 1), (10, 0), (9_000, 1)] {
        let text = "é".repeat(size / 2);
        let mut changes = Changes::new();
        changes.put(one.clone(), &rev, body(json!({ "text": text })));
        rev = store.commit(changes).await.unwrap().remove(0);
        assert_eq!(store.get(&one).unwrap().unwrap().body["text"], json!(text));
        assert_eq!(blobs().await, expected, "after {size} bytes");
    }
    assert_eq!(store.list(&instance(1), &one.doctype, None, 1).unwrap()[0].rev, rev);

    // Twice in one commit: only the last body remains.
    let mut changes = Changes::new();
    changes.delete(one.clone(), &rev);
    changes.create(one.clone(), body(json!({ "text": "y".repeat(10_000) })));
    let rev = store.commit(changes).await.unwrap().pop().unwrap();
    assert_eq!(blobs().await, 1);

    let mut changes = Changes::new();
    changes.delete(one.clone(), &rev);
    store.commit(changes).await.unwrap();
    assert_eq!(blobs().await, 0);
}

async fn ids_of_200_bytes_work_and_longer_ones_are_rejected(store: Store) {
    let long_type = format!("io.{}", "t".repeat(197)).parse().unwrap();
    let longest = DocRef::new(&instance(1), &long_type, "i".repeat(200));
    create(&store, &longest, json!({ "n": 1 })).await;
    assert_eq!(store.get(&longest).unwrap().unwrap().id, longest.id);
    assert_eq!(store.list(&instance(1), &long_type, None, 2).unwrap()[0].id, longest.id);

    for id in ["", &"i".repeat(201)] {
        let document = bill(id);
        // No document has an id that is too long; an empty id is an error of the caller.
        assert_eq!(store.get(&document).ok(), (!id.is_empty()).then_some(None));
        let mut changes = Changes::new();
        changes.create(document, body(json!({})));
        assert!(matches!(store.commit(changes).await, Err(Error::TooLarge { .. } | Error::Invalid { .. })));
    }
}

async fn unreadable_documents_are_rejected(store: Store) {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    create(&store, &bill("deep"), json!({ "a": nested(118) })).await;
    assert!(store.get(&bill("deep")).unwrap().is_some());
    let mut changes = Changes::new();
    changes.create(bill("deeper"), body(json!({ "a": nested(130) })));
    let error = store.commit(changes).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid document: io.cozy.bills/deeper is nested deeper than 120 levels; flatten it"
    );

    let mut changes = Changes::new();
    changes.create(bill("huge"), body(json!({ "a": "x".repeat(9 << 20) })));
    let error = store.commit(changes).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "document io.cozy.bills/huge is 9437192 bytes long, but the limit is 8388608 bytes; shorten it"
    );
}

async fn one_of_many_writers_wins_each_revision(store: Store) {
    let one = bill("counter");
    create(&store, &one, json!({ "n": 0 })).await;
    let writers = (0..16).map(|_| {
        let (store, one) = (store.clone(), one.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let document = store.get(&one).unwrap().unwrap();
                    let mut changes = Changes::new();
                    changes.put(
                        one.clone(),
                        &document.rev,
                        body(json!({ "n": document.body["n"].as_u64().unwrap() + 1 })),
                    );
                    match store.commit(changes).await {
                        Ok(_) => break,
                        Err(error) => assert!(error.is_conflict(), "{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let document = store.get(&one).unwrap().unwrap();
    assert_eq!((document.body["n"].as_u64(), document.rev.generation()), (Some(160), 161));
}

async fn a_large_commit_is_one_commit(store: Store) {
    let mut changes = Changes::new();
    for number in 0..1500 {
        changes.create(bill(format!("{number:04}")), body(json!({ "text": "x".repeat(6_000) })));
    }
    assert_eq!(store.commit(changes).await.unwrap().len(), 1500);
    assert_eq!(store.list(&instance(1), &bill("").doctype, None, usize::MAX).unwrap().len(), 1500);
}

async fn a_purged_document_leaves_no_trace(store: Store) {
    let rev = create(&store, &bill("one"), json!({})).await;
    let mut changes = Changes::new();
    changes.purge(bill("one"), &rev);
    store.commit(changes).await.unwrap();
    assert_eq!(store.get(&bill("one")).unwrap(), None);
    assert!(!store.was_deleted(&bill("one")).unwrap());
    assert_eq!(create(&store, &bill("one"), json!({})).await, rev);
}

async fn readers_of_large_documents_never_miss_one(store: Store) {
    let one = bill("one");
    let mut rev = create(&store, &one, json!({ "text": "x".repeat(8_000) })).await;
    let reader = tokio::task::spawn_blocking({
        let (store, one) = (store.clone(), one.clone());
        move || {
            for _ in 0..2_000 {
                let length = store.get(&one).unwrap().unwrap().body["text"].as_str().unwrap().len();
                assert!(length == 8_000 || length == 9_000);
            }
        }
    });
    let mut number = 0;
    while !reader.is_finished() {
        number += 1;
        let mut changes = Changes::new();
        changes.put(one.clone(), &rev, body(json!({ "text": "x".repeat(8_000 + number % 2 * 1_000) })));
        rev = store.commit(changes).await.unwrap().remove(0);
    }
    reader.await.unwrap();
}

async fn an_erased_instance_leaves_nothing_and_others_stay(store: Store) {
    for number in [1, 2] {
        let mut changes = Changes::new();
        for id in 0..450 {
            let bill = DocRef { instance: instance(number), ..bill(id.to_string()) };
            // Some of them refer to blobs of their own.
            let contents = if id % 100 == 0 { vec![blob_json(&blob(&store, vec![7; 10]).await)] } else { Vec::new() };
            changes.create(bill, body(json!({ "contents": contents })));
        }
        let large = DocRef { instance: instance(number), ..job("large") };
        changes.create(large.clone(), body(json!({ "text": "x".repeat(10_000) })));
        changes.enqueue(large.clone(), delayed(10).lock(Some("acct/1".to_owned()))).schedule(large, Some(at(10)));
        changes.put_unique(&instance(number), "path", "/a", "1");
        store.commit(changes).await.unwrap();
    }
    assert_eq!(store.blobs().list().await.unwrap().len(), 2 * (5 + 1));
    store.delete_instance(&BlobSchema, &instance(1)).await.unwrap();
    assert!(store.doctypes(&instance(1)).unwrap().is_empty());
    assert!(!store.was_deleted(&bill("1")).unwrap());
    assert_eq!(store.lookup(&instance(1), "path", "/a").unwrap(), None);

    let other_instance_job = DocRef { instance: instance(2), ..job("large") };
    assert_eq!(store.doctypes(&instance(2)).unwrap().len(), 2);
    assert_eq!(store.lookup(&instance(2), "path", "/a").unwrap().as_deref(), Some("1"));
    assert_eq!(store.due_triggers(at(10), 10).unwrap(), [(other_instance_job.clone(), at(10))]);
    assert_eq!(store.list_queued(10).unwrap().len(), 1);
    assert_eq!(store.blobs().list().await.unwrap().len(), 5 + 1);

    let lease = claim(&store, "w", 10, 1).await.remove(0);
    assert!(matches!(
        store.delete_instance(&BlobSchema, &instance(2)).await,
        Err(Error::Conflict(Conflict::Running { .. }))
    ));
    let mut end = Changes::new();
    end.complete(&lease);
    store.commit(end).await.unwrap();
    store.delete_instance(&BlobSchema, &instance(2)).await.unwrap();
    assert!(store.blobs().list().await.unwrap().is_empty());
    assert!(store.delete_instance(&BlobSchema, &konnector_store::InstanceId::global()).await.is_err());
}

#[tokio::test]
async fn thousands_of_documents_stay_out_of_sleds_own_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let size = |number: usize| number * 7_919 % 7_000;
    for batch in 0..20 {
        let mut changes = Changes::new();
        for number in batch * 100..(batch + 1) * 100 {
            changes.create(bill(format!("{number:04}")), body(json!({ "text": "x".repeat(size(number)) })));
        }
        store.commit(changes).await.unwrap();
    }
    assert_no_sled_blobs(dir.path());
    store.close().await.unwrap();

    let store = open(dir.path());
    let documents = store.list(&instance(1), &bill("").doctype, None, usize::MAX).unwrap();
    assert_eq!(documents.len(), 2_000);
    for (number, document) in documents.iter().enumerate() {
        assert_eq!(document.body["text"].as_str().unwrap().len(), size(number));
    }
    assert_no_sled_blobs(dir.path());
}

/// For documents of any size: a page ends with the document that fills it, and the next page continues from there.
#[tokio::test]
async fn pages_are_bounded_in_bytes() {
    let store = Store::in_memory();
    for number in 0..7 {
        let size = if number == 3 { 10 } else { 5 << 20 };
        create(&store, &bill(number.to_string()), json!({ "text": "x".repeat(size) })).await;
    }
    let (mut sizes, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.page(&instance(1), &bill("").doctype, after.as_deref(), 100).unwrap();
        sizes.push(page.documents.len());
        after = page.documents.last().map(|last| last.id.clone());
        if !page.has_more {
            break;
        }
    }
    assert_eq!(sizes, [5, 2]);
    assert_eq!(after.as_deref(), Some("6"));
    let page = store.page(&instance(1), &bill("").doctype, None, 2).unwrap();
    assert_eq!((page.documents.len(), page.has_more), (2, true));
    assert_eq!(store.page(&instance(1), &bill("").doctype, Some("6"), 2).unwrap().documents, []);
}

#[tokio::test]
async fn documents_are_counted_and_skipped() {
    let store = Store::in_memory();
    let doctype = bill("").doctype;
    for number in 0..25 {
        let mut changes = Changes::new();
        for document in 0..100 {
            changes.create(bill(format!("{:04}", number * 100 + document)), body(json!({})));
        }
        store.commit(changes).await.unwrap();
    }
    assert_eq!(store.count(&instance(1), &doctype).await.unwrap(), 2_500);
    assert_eq!(store.count(&instance(2), &doctype).await.unwrap(), 0);
    for (after, skip, last) in [
        (None, 0, None),
        (None, 1, Some("0000")),
        (None, 2_499, Some("2498")),
        (None, 2_501, None),
        (Some("1000"), 0, Some("1000")),
        (Some("1000"), 1_499, Some("2499")),
        (Some("1000"), 1_500, None),
    ] {
        let passed = store.skip_documents(&instance(1), &doctype, after, skip).await.unwrap();
        assert_eq!(passed.as_deref(), last, "{after:?} {skip}");
    }
}
