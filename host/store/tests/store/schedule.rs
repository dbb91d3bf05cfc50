use chrono::TimeDelta;
use konnector_store::{Changes, Conflict, Error, Store};
use serde_json::json;

use crate::support::{at, body, create, delayed, job, on_every_backend, trigger};

on_every_backend!(
    triggers_are_due_in_the_order_of_time,
    each_instant_fires_once,
    a_changed_schedule_voids_the_old_instant,
    a_deleted_trigger_is_not_due,
    instants_keep_their_microseconds,
);

async fn schedule(store: &Store, id: &str, second: Option<i64>) {
    let mut changes = Changes::new();
    if store.get(&trigger(id)).unwrap().is_none() {
        changes.create(trigger(id), body(json!({})));
    }
    changes.schedule(trigger(id), second.map(at));
    store.commit(changes).await.unwrap();
}

async fn triggers_are_due_in_the_order_of_time(store: Store) {
    assert_eq!(store.next_due_at().unwrap(), None);
    for (id, second) in [("c", 30), ("a", 10), ("b", 20), ("before-1970", -2_000_000_000)] {
        schedule(&store, id, Some(second)).await;
    }
    let due = |second, limit| {
        store.due_triggers(at(second), limit).unwrap().into_iter().map(|(trigger, _)| trigger.id).collect::<Vec<_>>()
    };
    assert_eq!(due(20, 10), ["before-1970", "a", "b"]);
    assert_eq!(due(20, 2), ["before-1970", "a"]);
    assert_eq!(due(-3_000_000_000, 10), [""; 0]);
    assert_eq!(store.due_triggers(at(10), 10).unwrap()[1], (trigger("a"), at(10)));
    schedule(&store, "before-1970", None).await;
    assert_eq!(store.next_due_at().unwrap(), Some(at(10)));
    assert_eq!(store.due_at(&trigger("c")).unwrap(), Some(at(30)));
    assert_eq!(store.due_at(&trigger("before-1970")).unwrap(), None);

    let mut changes = Changes::new();
    changes.schedule(trigger("missing"), Some(at(0)));
    assert!(matches!(store.commit(changes).await, Err(Error::NotFound { .. })));
}

async fn each_instant_fires_once(store: Store) {
    schedule(&store, "one", Some(10)).await;
    let racers = (0..20).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut changes = Changes::new();
            let job = job(format!("job-{number}"));
            changes.fire(&trigger("one"), at(10), Some(at(20)));
            changes.create(job.clone(), body(json!({}))).enqueue(job, delayed(10));
            store.commit(changes).await
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        if let Err(error) = racer.await.unwrap() {
            assert!(matches!(error, Error::Conflict(Conflict::NotDue { .. })), "{error}");
        }
    }
    assert_eq!(store.list_queued(100).unwrap().len(), 1);
    assert_eq!(store.due_at(&trigger("one")).unwrap(), Some(at(20)));

    let mut last = Changes::new();
    last.fire(&trigger("one"), at(20), None);
    store.commit(last.clone()).await.unwrap();
    let error = store.commit(last).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "conflict: trigger io.cozy.triggers/one is not due at 2001-09-09T01:47:00Z: it has fired, or its schedule was changed"
    );
    assert_eq!(store.next_due_at().unwrap(), None);
}

async fn a_changed_schedule_voids_the_old_instant(store: Store) {
    schedule(&store, "one", Some(10)).await;
    schedule(&store, "one", Some(15)).await;
    let mut old = Changes::new();
    old.fire(&trigger("one"), at(10), Some(at(20)));
    assert!(store.commit(old).await.unwrap_err().is_conflict());
    assert_eq!(store.due_triggers(at(100), 10).unwrap(), [(trigger("one"), at(15))]);
}

async fn a_deleted_trigger_is_not_due(store: Store) {
    schedule(&store, "one", Some(10)).await;
    let rev = store.get(&trigger("one")).unwrap().unwrap().rev;
    let mut changes = Changes::new();
    changes.delete(trigger("one"), &rev);
    store.commit(changes).await.unwrap();
    assert_eq!(store.due_triggers(at(100), 10).unwrap(), []);
    assert_eq!(store.due_at(&trigger("one")).unwrap(), None);
}

async fn instants_keep_their_microseconds(store: Store) {
    let rev = create(&store, &trigger("one"), json!({})).await;
    assert_eq!(rev.generation(), 1);
    let instant = at(10) + TimeDelta::nanoseconds(123_456_789);
    let mut changes = Changes::new();
    changes.schedule(trigger("one"), Some(instant));
    store.commit(changes).await.unwrap();
    let stored = store.due_at(&trigger("one")).unwrap().unwrap();
    assert_eq!(stored, at(10) + TimeDelta::microseconds(123_456));
    assert_eq!(store.due_triggers(stored, 1).unwrap().len(), 1);
    assert_eq!(store.due_triggers(stored - TimeDelta::microseconds(1), 1).unwrap(), []);
    // Both forms specify the instant.
    let mut changes = Changes::new();
    changes.fire(&trigger("one"), instant, Some(instant + TimeDelta::seconds(1)));
    store.commit(changes).await.unwrap();
}
