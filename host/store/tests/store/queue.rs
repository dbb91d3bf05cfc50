use std::time::Duration;

use konnector_store::{Changes, Conflict, Error, JobPermit, Lease, PermitSlot, QueueEntry, Store};
use serde_json::json;

use crate::support::{at, bill, body, claim, create, delayed, enqueue, ids, instance, job, on_every_backend};

on_every_backend!(
    jobs_are_claimed_in_the_order_of_time,
    a_claim_rewrites_the_job_and_takes_its_lock,
    a_held_lock_does_not_hold_up_others,
    a_class_without_a_permit_is_passed_over,
    nobody_waits_for_the_jobs_of_another_instance,
    each_job_is_leased_once_however_many_claim,
    epochs_grow_across_retries,
    a_zombie_cannot_write,
    a_lease_is_held_until_it_is_ended,
    a_lease_is_renewed,
    a_waiting_job_can_be_moved_and_cancelled,
    a_running_job_is_neither_queued_nor_deleted,
    locks_belong_to_an_instance,
    a_deleted_job_is_not_claimed,
);

async fn complete(store: &Store, lease: &Lease) -> konnector_store::Result<()> {
    let mut changes = Changes::new();
    changes.complete(lease);
    store.commit(changes).await.map(drop)
}

async fn jobs_are_claimed_in_the_order_of_time(store: Store) {
    assert_eq!(store.next_run_at().unwrap(), None);
    for (id, second) in [("c", 30), ("a", 10), ("b", 20), ("d", 20)] {
        enqueue(&store, &job(id), second, None).await;
    }
    assert_eq!(store.next_run_at().unwrap(), Some(at(10)));
    let waiting: Vec<String> = store.list_queued(10).unwrap().into_iter().map(|queued| queued.job.id).collect();
    assert_eq!(waiting, ["a", "b", "d", "c"]);
    assert_eq!(ids(&claim(&store, "w", 9, 10).await), [""; 0]);
    assert_eq!(ids(&claim(&store, "w", 20, 2).await), ["a", "b"]);
    assert_eq!(ids(&claim(&store, "w", 100, 0).await), [""; 0]);
    assert_eq!(ids(&claim(&store, "w", 100, 10).await), ["d", "c"]);
    assert_eq!(store.list_queued(10).unwrap(), []);
    assert_eq!(store.next_run_at().unwrap(), None);
}

async fn a_claim_rewrites_the_job_and_takes_its_lock(store: Store) {
    enqueue(&store, &job("one"), 10, Some("acct/1")).await;
    assert_eq!(store.get_queued(&job("one")).unwrap().unwrap().entry.lock.as_deref(), Some("acct/1"));
    let leases = claim(&store, "worker-7", 10, 1).await;
    let expected = Lease {
        job: job("one"),
        epoch: 1,
        worker: "worker-7".to_owned(),
        heartbeats: 0,
        lock: Some("acct/1".to_owned()),
        slots: Vec::new(),
    };
    assert_eq!(leases, std::slice::from_ref(&expected));
    assert_eq!(store.leases().unwrap(), leases);
    assert_eq!(store.lease(&job("one")).unwrap(), Some(expected.clone()));
    assert_eq!(store.get_queued(&job("one")).unwrap(), None);
    let document = store.get(&job("one")).unwrap().unwrap();
    assert_eq!((document.rev.generation(), &document.body["state"]), (2, &json!("running")));

    complete(&store, &expected).await.unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert!(complete(&store, &expected).await.unwrap_err().is_stale_lease(), "a lease ends once");
}

async fn a_held_lock_does_not_hold_up_others(store: Store) {
    for number in 0..200 {
        enqueue(&store, &job(format!("{number:03}")), number, Some("acct/busy")).await;
    }
    enqueue(&store, &job("free"), 300, Some("acct/free")).await;
    enqueue(&store, &job("open"), 301, None).await;
    let mut leases = claim(&store, "w", 400, 10).await;
    leases.sort_by(|a, b| a.job.cmp(&b.job));
    assert_eq!(ids(&leases), ["000", "free", "open"], "one per lock, also within one claim");
    assert_eq!(ids(&claim(&store, "w", 400, 10).await), [""; 0]);
    complete(&store, &leases[0]).await.unwrap();
    assert_eq!(ids(&claim(&store, "w", 400, 10).await), ["001"]);
}

async fn a_class_without_a_permit_is_passed_over(store: Store) {
    for (id, class) in [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")] {
        let mut changes = Changes::new();
        changes.create(job(id), body(json!({ "class": class })));
        changes.enqueue(job(id), QueueEntry::new(at(10), at(10)).class(class));
        store.commit(changes).await.unwrap();
    }
    let permit = |name: &str, limit| JobPermit { name: name.to_owned(), limit };
    let needs =
        |_: &konnector_store::DocRef, document: &konnector_store::Document| match document.body["class"].as_str() {
            Some("x") => vec![permit("konnector", 9), permit("host/x", 2)],
            _ => vec![permit("konnector", 9)],
        };
    let claim = async || {
        let mut leases = store.claim("w", at(10), 9, &needs, &|_| {}).await.unwrap();
        leases.sort_by(|a, b| a.job.cmp(&b.job));
        leases
    };
    let leases = claim().await;
    assert_eq!(ids(&leases), ["a", "b", "d", "e"]);
    assert_eq!(claim().await, []);
    assert_eq!(leases[1].slots.last(), Some(&PermitSlot { permit: "host/x".to_owned(), number: 1 }));
    complete(&store, &leases[0]).await.unwrap();
    assert_eq!(ids(&claim().await), ["c"], "it goes on where a place is free");
}

/// One instance has queued thousands of jobs, for accounts of its own, before the others have queued one each.
async fn nobody_waits_for_the_jobs_of_another_instance(store: Store) {
    let of = |number: u8, id: String| konnector_store::DocRef { instance: instance(number), ..job(id) };
    let mut changes = Changes::new();
    for number in 0..2_000 {
        let busy = of(1, format!("{number:04}"));
        changes.create(busy.clone(), body(json!({})));
        changes.enqueue(busy, QueueEntry::new(at(0), at(0)).lock(Some(format!("acct/{number}"))).class("bank"));
    }
    for number in 2..12 {
        let other = of(number, "only".to_owned());
        changes.create(other.clone(), body(json!({})));
        let class = if number % 2 == 0 { "bank" } else { "shop" };
        changes.enqueue(other, QueueEntry::new(at(5), at(5)).lock(Some("acct/0".to_owned())).class(class));
    }
    store.commit(changes).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..20 {
        let lease = claim(&store, "w", 10, 1).await.remove(0);
        complete(&store, &lease).await.unwrap();
        order.push(lease.job.instance);
    }
    let served = (2..12).map(|number| order.iter().position(|served| *served == instance(number)));
    assert!(served.clone().all(|round| round.is_some_and(|round| round <= 11)), "{:?}", served.collect::<Vec<_>>());
    assert_eq!(order.iter().filter(|served| **served == instance(1)).count(), 10, "and the rest goes to who has work");
}

async fn each_job_is_leased_once_however_many_claim(store: Store) {
    for number in 0..60 {
        enqueue(&store, &job(format!("{number:02}")), 0, Some(&format!("acct/{}", number % 20))).await;
    }
    let workers = (0..8).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut ran: Vec<String> = Vec::new();
            while !store.list_queued(1).unwrap().is_empty() {
                for lease in claim(&store, &format!("w{worker}"), 10, 5).await {
                    assert_eq!(lease.epoch, 1);
                    // This task alone holds the lock: no one else creates or deletes this document in the meantime.
                    let guard = bill(lease.lock.clone().unwrap());
                    let rev = create(&store, &guard, json!({})).await;
                    let mut changes = Changes::new();
                    changes.fence(&lease).delete(guard, &rev).complete(&lease);
                    store.commit(changes).await.unwrap();
                    ran.push(lease.job.id);
                }
                tokio::task::yield_now().await;
            }
            ran
        })
    });
    let mut ran = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        let result = tokio::time::timeout(Duration::from_secs(60), worker).await;
        ran.extend(result.expect("a job that was leased twice keeps the others waiting").unwrap());
    }
    ran.sort();
    assert_eq!(ran, (0..60).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    assert_eq!(store.leases().unwrap(), []);
}

async fn epochs_grow_across_retries(store: Store) {
    enqueue(&store, &job("one"), 10, Some("acct/1")).await;
    for epoch in 1..=3 {
        let lease = claim(&store, "w", 10, 1).await.remove(0);
        assert_eq!(lease.epoch, epoch);
        let mut changes = Changes::new();
        changes.complete(&lease).enqueue(job("one"), delayed(10).lock(Some("acct/1".to_owned())));
        store.commit(changes).await.unwrap();
    }
}

async fn a_zombie_cannot_write(store: Store) {
    enqueue(&store, &job("one"), 10, Some("acct/1")).await;
    let old = claim(&store, "w", 10, 1).await.remove(0);
    let mut reclaim = Changes::new();
    reclaim.complete(&old).enqueue(job("one"), delayed(20).lock(old.lock.clone()));
    store.commit(reclaim).await.unwrap();

    let write = |lease: &Lease, id: &str| {
        let mut changes = Changes::new();
        changes.create(bill(id), body(json!({}))).fence(lease);
        let store = store.clone();
        async move { store.commit(changes).await }
    };
    let error = write(&old, "while-waiting").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the lease on job io.cozy.jobs/one (epoch 1) is no longer held; stop this run, because its writes are rejected"
    );

    let new = claim(&store, "w", 20, 1).await.remove(0);
    assert!(write(&old, "while-leased").await.unwrap_err().is_stale_lease());
    assert!(store.renew(&old).await.unwrap_err().is_stale_lease());
    assert!(complete(&store, &old).await.unwrap_err().is_stale_lease());
    assert_eq!(store.leases().unwrap(), std::slice::from_ref(&new), "nothing of the new lease was touched");
    write(&new, "by-the-new-run").await.unwrap();
    let doctype = bill("").doctype;
    assert_eq!(store.list(&instance(1), &doctype, None, 10).unwrap().len(), 1);

    let never = Lease { job: job("other"), ..new };
    assert!(write(&never, "never").await.unwrap_err().is_stale_lease());
}

async fn a_lease_is_held_until_it_is_ended(store: Store) {
    enqueue(&store, &job("one"), 10, Some("acct/1")).await;
    enqueue(&store, &job("two"), 11, Some("acct/1")).await;
    let lease = claim(&store, "w", 20, 5).await.remove(0);
    assert_eq!(ids(&claim(&store, "w", 1000, 5).await), [""; 0], "its lock is still held");
    let mut retry = Changes::new();
    retry.complete(&lease).enqueue(job("one"), delayed(2000).lock(lease.lock.clone()));
    store.commit(retry).await.unwrap();
    assert_eq!(ids(&claim(&store, "w", 1000, 5).await), ["two"]);
}

async fn a_lease_is_renewed(store: Store) {
    enqueue(&store, &job("one"), 10, Some("acct/1")).await;
    let lease = claim(&store, "w", 10, 1).await.remove(0);
    for beats in 1..=2 {
        store.renew(&lease).await.unwrap();
        assert_eq!(store.leases().unwrap(), [Lease { heartbeats: beats, ..lease.clone() }]);
    }
    // The number of renewals does not matter to the holder of the lease.
    let mut changes = Changes::new();
    changes.fence(&lease).create(bill("one"), body(json!({})));
    store.commit(changes).await.unwrap();
    let mut early = Changes::new();
    early.expire(&Lease { heartbeats: 1, ..lease.clone() });
    assert!(store.commit(early).await.unwrap_err().is_stale_lease(), "it was renewed since");
    let mut late = Changes::new();
    late.expire(&Lease { heartbeats: 2, ..lease.clone() });
    store.commit(late).await.unwrap();
    assert!(store.renew(&lease).await.unwrap_err().is_stale_lease());
    assert_eq!(store.leases().unwrap(), []);
}

async fn a_waiting_job_can_be_moved_and_cancelled(store: Store) {
    enqueue(&store, &job("one"), 10, None).await;
    let mut moved = Changes::new();
    moved.enqueue(job("one"), delayed(50).lock(Some("acct/1".to_owned())));
    store.commit(moved).await.unwrap();
    let queued = store.list_queued(10).unwrap();
    assert_eq!((queued.len(), queued[0].entry.run_at, queued[0].entry.lock.as_deref()), (1, at(50), Some("acct/1")));
    assert_eq!(store.get_queued(&job("one")).unwrap().as_ref(), queued.first());

    let mut cancel = Changes::new();
    cancel.dequeue(&job("one"));
    store.commit(cancel.clone()).await.unwrap();
    assert_eq!(store.list_queued(10).unwrap(), []);
    let error = store.commit(cancel).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "conflict: job io.cozy.jobs/one is not waiting: it has started, has ended, or was never queued"
    );

    let mut missing = Changes::new();
    missing.enqueue(job("missing"), delayed(0));
    let error = store.commit(missing).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "document io.cozy.jobs/missing does not exist; create it first, or in the same commit"
    );
}

async fn a_running_job_is_neither_queued_nor_deleted(store: Store) {
    enqueue(&store, &job("one"), 10, None).await;
    let lease = claim(&store, "w", 10, 1).await.remove(0);
    let rev = store.get(&job("one")).unwrap().unwrap().rev;
    let mut requeue = Changes::new();
    requeue.enqueue(job("one"), delayed(20));
    let mut delete = Changes::new();
    delete.delete(job("one"), &rev);
    for changes in [requeue, delete.clone()] {
        let error = store.commit(changes).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(Conflict::Running { .. })), "{error}");
    }
    let mut end = Changes::new();
    end.complete(&lease).delete(job("one"), &rev);
    store.commit(end).await.unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert!(store.was_deleted(&job("one")).unwrap());
}

async fn locks_belong_to_an_instance(store: Store) {
    for number in [1, 2] {
        let mut instance_job = job("one");
        instance_job.instance = instance(number);
        enqueue(&store, &instance_job, 10, Some("acct/1")).await;
    }
    assert_eq!(claim(&store, "w", 10, 5).await.len(), 2);
}

async fn a_deleted_job_is_not_claimed(store: Store) {
    enqueue(&store, &job("one"), 10, None).await;
    let rev = store.get(&job("one")).unwrap().unwrap().rev;
    let mut changes = Changes::new();
    changes.purge(job("one"), &rev);
    store.commit(changes).await.unwrap();
    assert_eq!(store.list_queued(10).unwrap(), []);
    assert_eq!(ids(&claim(&store, "w", 10, 5).await), [""; 0]);
}
