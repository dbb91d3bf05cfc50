//! Jobs for events: changes of documents, and webhook calls.

use super::*;
use konnector_files::NewContent;

#[tokio::test]
async fn j22_changes_of_documents_make_jobs_with_the_event() {
    let site = TriggerFixture::new().await;
    let created = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    let paid = site.create("@event", "io.cozy.bills:UPDATED:!=:paid", "b").await;
    let gone = site.create("@event", "io.cozy.bills:DELETED", "c").await;
    let bill = site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    site.save("io.cozy.bills.bad", json!({ "amount": 3 })).await;
    assert_eq!(site.context.triggers().fire_due().await.expect("looked"), 1);
    let [job] = &site.jobs(&created)[..] else { panic!("one job") };
    let shown = serde_json::to_value(job).expect("a value");
    let event =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, shown["event"].as_str().expect("an event"));
    let event: Value = serde_json::from_slice(&event.expect("base64")).expect("JSON");
    assert_eq!(
        event,
        json!({
            "domain": "alice.example", "verb": "CREATED",
            "doc": { "amount": 3, "_id": bill.id, "_type": "io.cozy.bills" },
        })
    );
    let (principal, bills) = (site.principal(), "io.cozy.bills".parse().expect("a doctype"));
    let update = async |rev: &konnector_store::Rev, body: Value| {
        let body: Object = to_object(&body).expect("an object");
        let changed =
            site.context.core().documents().update(&site.alice, &principal, &bills, &bill.id, rev, body).await;
        let changed = changed.expect("changed");
        (site.context.triggers().fire_due().await.expect("looked"), changed.rev)
    };
    let (jobs, rev) = update(&bill.rev, json!({ "amount": 4 })).await;
    assert_eq!(jobs, 0);
    let (jobs, rev) = update(&rev, json!({ "amount": 4, "paid": true })).await;
    assert_eq!((jobs, site.jobs(&paid).len()), (1, 1));
    site.context.core().documents().delete(&site.alice, &principal, &bills, &bill.id, &rev).await.expect("deleted");
    assert_eq!((site.context.triggers().fire_due().await.expect("looked"), site.jobs(&gone).len()), (1, 1));
    assert_eq!(
        site.context
            .core()
            .documents()
            .doctypes(&site.alice)
            .expect("read")
            .iter()
            .filter(|name| name.as_ref().contains("occasion"))
            .count(),
        0
    );
}

/// An awaited change need not wait up to a second for the scheduler's next poll, because the commit wakes the
/// scheduler.
#[tokio::test]
async fn whatever_becomes_due_wakes_the_scheduler() {
    let site = TriggerFixture::new().await;
    let woken =
        async || tokio::time::timeout(std::time::Duration::ZERO, site.context.core.schedule_changed()).await.is_ok();
    woken().await;
    site.save("io.cozy.bills", json!({})).await;
    assert!(!woken().await, "nothing waits for it");
    let id = site.create("@event", "io.cozy.bills", "a").await;
    assert!(!woken().await, "it is not due");
    site.save("io.cozy.bills", json!({})).await;
    assert!(woken().await, "an event");
    site.create("@every", "10s", "b").await;
    assert!(woken().await, "a new schedule");
    let debounced = |new: &mut NewTrigger| new.debounce = Some("10s".parse().expect("a duration"));
    site.create_with("@event", "io.cozy.contacts", "c", debounced).await;
    site.save("io.cozy.contacts", json!({})).await;
    assert!(woken().await, "an event that is collected");
    site.context.triggers().fire_due().await.expect("looked");
    assert!(woken().await, "the end of a debounce");
    assert_eq!(site.jobs(&id).len(), 1);
}

/// The debounce is exactly as long as its text says.
#[tokio::test]
async fn a_debounce_is_not_rounded() {
    let site = TriggerFixture::new().await;
    let debounced = |new: &mut NewTrigger| new.debounce = Some("2500ms".parse().expect("a duration"));
    let id = site.create_with("@event", "io.cozy.bills", "a", debounced).await;
    site.save("io.cozy.bills", json!({})).await;
    assert_eq!(site.fire_at(NOW).await, 0);
    assert_eq!(site.context.triggers().due(&site.alice, &id).expect("read"), Some(at("2026-11-20T12:00:02.5Z")));
    assert_eq!((site.fire_at("2026-11-20T12:00:02.499Z").await, site.fire_at("2026-11-20T12:00:02.5Z").await), (0, 1));
}

/// The commit creates the events, so code that commits a change need not do it.
#[tokio::test]
async fn whatever_is_committed_makes_events() {
    let site = TriggerFixture::new().await;
    let id = site.create("@event", "io.cozy.bills io.cozy.files:UPDATED", "a").await;
    let at = site.alice.doc(&"io.cozy.bills".parse().expect("a doctype"), "one");
    let body = |n: i32| to_object(&json!({ "n": n })).expect("an object");
    let fired = async |changes: Changes| {
        let before = site.counters(&id);
        let revs = site.context.core().commit(changes).await.expect("committed");
        site.context.triggers().fire_due().await.expect("looked");
        let TriggerCounters { fired, overlapped, coalesced, .. } = site.counters(&id);
        (fired + overlapped + coalesced - before.fired - before.overlapped - before.coalesced, revs)
    };
    let mut changes = Changes::new();
    changes.create(at.clone(), body(1));
    let (events, revs) = fired(changes).await;
    assert_eq!((events, revs.len()), (1, 1), "the revisions are those of the caller's documents");
    let mut changes = Changes::new();
    changes.put(at.clone(), &revs[0], body(2));
    let (events, revs) = fired(changes).await;
    assert_eq!((events, revs.len()), (1, 1));
    // A conflicting commit creates no events.
    let mut stale = Changes::new();
    stale.put(at.clone(), &format!("1-{}", "0".repeat(32)).parse().expect("a revision"), body(3));
    assert!(site.context.core().commit(stale).await.expect_err("stale").is_conflict());
    let mut changes = Changes::new();
    changes.delete(at, &revs[0]);
    assert_eq!(fired(changes).await.0, 1);
    // The subdirectories of a moved directory change, too.
    site.context.files().ensure_directory(&site.alice, "/a/b").await.expect("a directory");
    let top = site.context.files().get_by_path(&site.alice, "/a").expect("read");
    site.context.files().trash(&site.alice, &top.id, None, &Object::new()).await.expect("trashed");
    let before = site.counters(&id);
    site.context.triggers().fire_due().await.expect("looked");
    let TriggerCounters { fired, overlapped, coalesced, .. } = site.counters(&id);
    assert_eq!(fired + overlapped + coalesced - before.fired - before.overlapped - before.coalesced, 2);
}

/// A konnector that writes the documents that it waits for must not keep the server busy, and no event is lost.
#[tokio::test]
async fn too_many_events_wait_for_the_next_hour() {
    let site = TriggerFixture::new().await;
    let id = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    for number in 0..103 {
        site.save("io.cozy.bills", json!({ "amount": number })).await;
    }
    assert_eq!(site.context.triggers().fire_due().await.expect("looked"), 100);
    assert_eq!(site.fire_at("2026-11-20T12:59:59Z").await, 0);
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 3);
    assert_eq!(site.counters(&id).fired, 103);
}

#[tokio::test]
async fn thirty_calls_an_hour_are_enough_for_webhooks() {
    let site = TriggerFixture::new().await;
    let hook = site.create("@webhook", "", "b").await;
    for _ in 0..30 {
        site.context.triggers().call_webhook(&site.alice, &hook, b"{}", false).await.expect("called");
    }
    let refused = site.context.triggers().call_webhook(&site.alice, &hook, b"{}", true).await.expect_err("too many");
    insta::assert_snapshot!(refused, @"the limit of 30 per hour for one instance is reached; try again after 2026-11-20T13:00:00Z, or collect them with a debounce");
    site.clock.set(at("2026-11-20T13:00:00Z"));
    site.context.triggers().call_webhook(&site.alice, &hook, b"{}", false).await.expect("called");
}

#[tokio::test]
async fn j24_a_directory_stands_for_what_is_below_it_and_for_what_leaves_it() {
    let site = TriggerFixture::new().await;
    let (context, alice) = (&site.context, &site.alice);
    let watched = context.files().ensure_directory(alice, "/watched").await.expect("a directory");
    let other = context.files().ensure_directory(alice, "/other").await.expect("a directory");
    let id = site.create("@event", &format!("io.cozy.files:CREATED,UPDATED:{}", watched.id), "a").await;
    let jobs = async || {
        context.triggers().fire_due().await.expect("looked");
        site.jobs(&id).len()
    };
    let below = context.files().ensure_directory(alice, "/watched/a/b").await.expect("a directory");
    assert_eq!(jobs().await, 2, "a and b");
    context.files().ensure_directory(alice, "/other/c").await.expect("a directory");
    assert_eq!(jobs().await, 2);
    let blob = context.files().create_content_writer(alice).await.expect("begun").finish().await.expect("finished");
    let new = NewContent::with_new_id(below.id.clone(), "bill.txt".to_owned(), "text/plain".to_owned());
    let file = context.files().create(alice, &new, &blob).await.expect("a file");
    assert_eq!(jobs().await, 3, "a file two levels below");
    context.files().relocate(alice, &file, &other, "bill.txt", None).await.expect("moved");
    assert_eq!(jobs().await, 4, "a file moved out");
    context.files().relocate(alice, &below, &other, "b", None).await.expect("moved");
    assert_eq!(jobs().await, 5, "moved out");
    let below = context.files().get_by_path(alice, "/other/b").expect("a directory");
    context.files().relocate(alice, &below, &other, "d", None).await.expect("moved");
    assert_eq!(jobs().await, 5, "elsewhere");
    context
        .files()
        .relocate(alice, &context.files().get_by_path(alice, "/other/d").expect("a directory"), &watched, "d", None)
        .await
        .expect("moved");
    assert_eq!(jobs().await, 6, "moved in");
}

/// Neither events nor a debounce are lost when the process ends right after the commit.
#[tokio::test]
async fn events_and_debounces_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |folder: &Path| {
        Store::open(&folder.join("store"), StoreOptions { cache_bytes: 4 << 20, ..StoreOptions::default() })
            .expect("a store")
    };
    let site = TriggerFixture::with(open(folder.path()), tempfile::tempdir().expect("a folder")).await;
    let event = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    let hook =
        site.create_with("@webhook", "", "b", |new| new.debounce = Some("1m".parse().expect("a duration"))).await;
    site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    for body in [&b"{\"n\":1}"[..], b"{\"n\":2}"] {
        site.context.triggers().call_webhook(&site.alice, &hook, body, false).await.expect("called");
    }
    let TriggerFixture { context: first, clock, alice, folder: keys } = site;
    first.core().store().clone().close().await.expect("closed");
    drop(first);
    let context = test_support::context(open(folder.path()), keys.path(), &clock, test_support::sandbox());
    let site = TriggerFixture { context, clock, alice, folder: keys };
    assert_eq!(site.fire_at(NOW).await, 1);
    assert_eq!(site.jobs(&event).len(), 1);
    assert_eq!(site.fire_at("2026-11-20T12:01:00Z").await, 1);
    let [job] = &site.jobs(&hook)[..] else { panic!("one job") };
    assert_eq!(job.payload.webhook_json(), Some(json!({ "payloads": [{ "n": 1 }, { "n": 2 }] })));
}

#[tokio::test]
async fn calls_at_the_same_time_are_all_counted() {
    let site = TriggerFixture::new().await;
    let hook =
        site.create_with("@webhook", "", "b", |new| new.debounce = Some("1m".parse().expect("a duration"))).await;
    let calls: Vec<_> = (0..5)
        .map(|number| {
            let (context, alice, hook) = (site.context.clone(), site.alice.clone(), hook.clone());
            tokio::spawn(async move {
                context.triggers().call_webhook(&alice, &hook, format!("{number}").as_bytes(), false).await
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("called");
    }
    assert_eq!(site.fire_at("2026-11-20T12:01:00Z").await, 1);
    let payload = site.jobs(&hook)[0].payload.webhook_json().expect("a payload");
    assert_eq!(payload["payloads"].as_array().map(Vec::len), Some(5));
}
