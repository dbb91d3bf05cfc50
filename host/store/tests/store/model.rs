//! Random histories of documents, queue and schedule, compared with a model of a few plain maps.

use std::collections::{BTreeMap, BTreeSet};

use konnector_store::{Changes, Conflict, Error, Lease, Rev, Store};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{assert_clean, at, body, claim, delayed, job, open};

/// One action of a caller.
#[derive(Debug, Clone)]
enum Action {
    Create { id: u8, value: u16 },
    Put { id: u8, value: u16, stale: bool },
    Delete { id: u8, stale: bool },
    Enqueue { id: u8, second: u8, lock: Option<u8> },
    Dequeue { id: u8 },
    Claim { second: u8, limit: u8 },
    Write { lease: u8, id: u8, value: u16 },
    Complete { lease: u8, again: Option<u8> },
    Renew { lease: u8 },
    Schedule { id: u8, second: Option<u8> },
    Fire { id: u8, second: u8, next: Option<u8> },
    Both { first: Box<Self>, second: Box<Self> },
    Reopen,
}

fn simple_action() -> impl Strategy<Value = Action> {
    let id = 0..5_u8;
    let second = 0..6_u8;
    let lock = prop::option::of(0..2_u8);
    prop_oneof![
        3 => (id.clone(), any::<u16>()).prop_map(|(id, value)| Action::Create { id, value }),
        2 => (id.clone(), any::<u16>(), prop::bool::weighted(0.2)).prop_map(|(id, value, stale)| Action::Put { id, value, stale }),
        1 => (id.clone(), prop::bool::weighted(0.2)).prop_map(|(id, stale)| Action::Delete { id, stale }),
        4 => (id.clone(), second.clone(), lock).prop_map(|(id, second, lock)| Action::Enqueue { id, second, lock }),
        1 => id.clone().prop_map(|id| Action::Dequeue { id }),
        2 => (id.clone(), prop::option::of(second.clone())).prop_map(|(id, second)| Action::Schedule { id, second }),
        2 => (id, second.clone(), prop::option::of(second)).prop_map(|(id, second, next)| Action::Fire { id, second, next }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let lease = 0..4_u8;
    prop_oneof![
        12 => simple_action(),
        4 => (0..6_u8, 1..4_u8).prop_map(|(second, limit)| Action::Claim { second, limit }),
        2 => (lease.clone(), 0..5_u8, any::<u16>()).prop_map(|(lease, id, value)| Action::Write { lease, id, value }),
        3 => (lease.clone(), prop::option::of(0..6_u8)).prop_map(|(lease, again)| Action::Complete { lease, again }),
        1 => lease.prop_map(|lease| Action::Renew { lease }),
        3 => (simple_action(), simple_action()).prop_map(|(first, second)| Action::Both { first: Box::new(first), second: Box::new(second) }),
        1 => Just(Action::Reopen),
    ]
}

/// The expected state of the store. Jobs and triggers share their ids and their documents.
#[derive(Debug, Clone, Default, PartialEq)]
struct StoreModel {
    documents: BTreeMap<u8, (Rev, u16)>,
    deleted: BTreeMap<u8, Rev>,
    waiting: BTreeMap<u8, (u8, Option<u8>)>,
    /// Waiting jobs that were due at an earlier claim: setting the clock back does not undo that.
    ready: BTreeSet<u8>,
    leased: BTreeMap<u8, Lease>,
    epochs: BTreeMap<u8, u64>,
    due: BTreeMap<u8, u8>,
}

/// Why the model rejects an action.
#[derive(Debug, PartialEq)]
enum ModelError {
    Conflict,
    NotFound,
    Stale,
}

impl ModelError {
    fn of(error: &Error) -> Self {
        match error {
            Error::Conflict(Conflict::Contention) => panic!("nobody else writes"),
            Error::Conflict(_) => Self::Conflict,
            Error::NotFound { .. } => Self::NotFound,
            Error::StaleLease { .. } => Self::Stale,
            other => panic!("{other}"),
        }
    }
}

impl StoreModel {
    /// Adds a simple action to `changes` and applies it to the model; the store supplies the revisions, and `revs`
    /// collects their ids.
    fn simple(&mut self, action: &Action, changes: &mut Changes, revs: &mut Vec<u8>) -> Result<(), ModelError> {
        let rev_of = |model: &Self, id: u8, stale: bool| {
            let unknown = format!("7-{}", "0".repeat(32)).parse().unwrap();
            model.documents.get(&id).filter(|_| !stale).map_or(unknown, |(rev, _)| rev.clone())
        };
        match *action {
            Action::Create { id, value } => {
                changes.create(job(id.to_string()), body(json!({ "value": value })));
                if self.documents.contains_key(&id) {
                    return Err(ModelError::Conflict);
                }
                self.documents.insert(id, (rev_of(self, id, true), value));
                self.deleted.remove(&id);
                revs.push(id);
            }
            Action::Put { id, value, stale } => {
                changes.put(job(id.to_string()), &rev_of(self, id, stale), body(json!({ "value": value })));
                let Some(document) = self.documents.get_mut(&id).filter(|_| !stale) else {
                    return Err(ModelError::Conflict);
                };
                document.1 = value;
                revs.push(id);
            }
            Action::Delete { id, stale } => {
                let rev = rev_of(self, id, stale);
                changes.delete(job(id.to_string()), &rev);
                if stale || !self.documents.contains_key(&id) || self.leased.contains_key(&id) {
                    return Err(ModelError::Conflict);
                }
                self.documents.remove(&id);
                self.deleted.insert(id, rev);
                self.waiting.remove(&id);
                self.ready.remove(&id);
                self.epochs.remove(&id);
                self.due.remove(&id);
                revs.push(id);
            }
            Action::Enqueue { id, second, lock } => {
                let lock_name = lock.map(|lock| lock.to_string());
                changes.enqueue(job(id.to_string()), delayed(second.into()).lock(lock_name));
                if !self.documents.contains_key(&id) {
                    return Err(ModelError::NotFound);
                }
                if self.leased.contains_key(&id) {
                    return Err(ModelError::Conflict);
                }
                self.waiting.insert(id, (second, lock));
                self.ready.remove(&id);
            }
            Action::Dequeue { id } => {
                changes.dequeue(&job(id.to_string()));
                self.waiting.remove(&id).ok_or(ModelError::Conflict)?;
                self.ready.remove(&id);
            }
            Action::Schedule { id, second } => {
                changes.schedule(job(id.to_string()), second.map(|second| at(second.into())));
                self.schedule(id, second)?;
            }
            Action::Fire { id, second, next } => {
                let instant = |second: u8| at(second.into());
                changes.fire(&job(id.to_string()), instant(second), next.map(instant));
                if self.due.get(&id) != Some(&second) {
                    return Err(ModelError::Conflict);
                }
                self.schedule(id, next)?;
            }
            _ => unreachable!("not a simple action"),
        }
        Ok(())
    }

    fn schedule(&mut self, id: u8, second: Option<u8>) -> Result<(), ModelError> {
        match second {
            Some(_) if !self.documents.contains_key(&id) => return Err(ModelError::NotFound),
            Some(second) => self.due.insert(id, second),
            None => self.due.remove(&id),
        };
        Ok(())
    }

    /// Returns the jobs that can be claimed: the first one per free lock, and all without a lock, each with its lock
    /// and in the order of time.
    fn claimable(&self, second: u8) -> Vec<(u8, Option<u8>)> {
        let mut held_locks: Vec<Option<String>> = self.leased.values().map(|lease| lease.lock.clone()).collect();
        let mut waiting: Vec<(u8, u8)> = self.waiting.iter().map(|(id, (run_at, _))| (*run_at, *id)).collect();
        waiting.sort();
        let mut claimable = Vec::new();
        for (run_at, id) in waiting {
            let number = self.waiting[&id].1;
            let lock = number.map(|lock| lock.to_string());
            if (run_at <= second || self.ready.contains(&id)) && (lock.is_none() || !held_locks.contains(&lock)) {
                held_locks.push(lock);
                claimable.push((id, number));
            }
        }
        claimable
    }

    /// Checks that a claim took as many jobs as possible: the first one of each lock, and the first ones without a lock
    /// in order.
    fn check_claim(&self, second: u8, limit: u8, ids: &[u8]) {
        let claimable = self.claimable(second);
        assert_eq!(ids.len(), claimable.len().min(limit.into()), "{ids:?} of {claimable:?}");
        assert!(
            ids.iter().all(|id| claimable.iter().any(|(claimable, _)| claimable == id)),
            "{ids:?} of {claimable:?}"
        );
        let without = |ids: Vec<u8>| ids.into_iter().filter(|id| self.waiting[id].1.is_none()).collect::<Vec<_>>();
        let taken = without(ids.to_vec());
        let first = without(claimable.into_iter().map(|(id, _)| id).collect());
        assert_eq!(taken, first[..taken.len()]);
    }

    fn check(&self, store: &Store) {
        for id in 0..5_u8 {
            let name = job(id.to_string());
            let document = store
                .get(&name)
                .unwrap()
                .map(|document| (document.rev, document.body["value"].as_u64().unwrap() as u16));
            assert_eq!(document.as_ref(), self.documents.get(&id));
            assert_eq!(store.was_deleted(&name).unwrap(), self.deleted.contains_key(&id));
            assert_eq!(store.lease(&name).unwrap().as_ref(), self.leased.get(&id));
            assert_eq!(store.due_at(&name).unwrap(), self.due.get(&id).map(|second| at((*second).into())));
            assert_eq!(store.get_queued(&name).unwrap().is_some(), self.waiting.contains_key(&id));
        }
        let mut due: Vec<_> = self.due.iter().map(|(id, second)| (at((*second).into()), id.to_string())).collect();
        due.sort();
        let found = store.due_triggers(at(1000), 100).unwrap().into_iter().map(|(name, at)| (at, name.id));
        assert_eq!(found.collect::<Vec<_>>(), due);
        let mut waiting: Vec<_> =
            self.waiting.iter().map(|(id, (second, _))| (at((*second).into()), id.to_string())).collect();
        waiting.sort();
        let mut found: Vec<_> =
            store.list_queued(100).unwrap().into_iter().map(|queued| (queued.entry.run_at, queued.job.id)).collect();
        found.sort();
        assert_eq!(found, waiting);
        assert_eq!(store.next_due_at().unwrap(), due.first().map(|first| first.0));
        let mut leases = store.leases().unwrap();
        leases.sort_by(|a, b| a.job.cmp(&b.job));
        assert_eq!(leases, self.leased.values().cloned().collect::<Vec<_>>());
    }
}

/// The model, every lease ever acquired, and the store under test.
struct ModelRun {
    model: StoreModel,
    history: Vec<Lease>,
}

impl ModelRun {
    async fn apply(&mut self, store: &Store, action: &Action) {
        match action {
            Action::Reopen => {}
            Action::Claim { second, limit } => {
                let leases = claim(store, "worker", (*second).into(), (*limit).into()).await;
                let ids: Vec<u8> = leases.iter().map(|lease| lease.job.id.parse().unwrap()).collect();
                self.model.check_claim(*second, *limit, &ids);
                let due = self.model.waiting.iter().filter(|(_, (run_at, _))| run_at <= second).map(|(id, _)| *id);
                self.model.ready.extend(due);
                for (id, lease) in ids.into_iter().zip(leases) {
                    self.model.waiting.remove(&id);
                    self.model.ready.remove(&id);
                    let epoch = self.model.epochs.entry(id).or_default();
                    *epoch += 1;
                    assert_eq!(lease.epoch, *epoch);
                    let document = store.get(&lease.job).unwrap().unwrap();
                    assert_eq!(document.body["state"], json!("running"));
                    self.model.documents.get_mut(&id).unwrap().0 = document.rev;
                    self.model.leased.insert(id, lease.clone());
                    self.history.push(lease);
                }
            }
            Action::Write { lease, id, value } => {
                let Some(lease) = self.pick(*lease) else { return };
                let is_held = self.holds(&lease);
                let mut next = self.model.clone();
                let (mut changes, mut revs) = (Changes::new(), Vec::new());
                changes.fence(&lease);
                let create = Action::Create { id: *id, value: *value };
                let expected = if is_held {
                    next.simple(&create, &mut changes, &mut revs)
                } else {
                    let _ = next.simple(&create, &mut changes, &mut revs);
                    Err(ModelError::Stale)
                };
                self.commit(store, changes, next, revs, expected).await;
            }
            Action::Complete { lease, again } => {
                let Some(lease) = self.pick(*lease) else { return };
                let id: u8 = lease.job.id.parse().unwrap();
                let mut next = self.model.clone();
                let (mut changes, mut revs) = (Changes::new(), Vec::new());
                changes.complete(&lease);
                let mut expected = if self.holds(&lease) { Ok(()) } else { Err(ModelError::Stale) };
                next.leased.remove(&id);
                if let Some(second) = again {
                    let lock = lease.lock.as_ref().map(|lock| lock.parse().unwrap());
                    let queued = next.simple(&Action::Enqueue { id, second: *second, lock }, &mut changes, &mut revs);
                    expected = expected.and(queued);
                }
                self.commit(store, changes, next, revs, expected).await;
            }
            Action::Renew { lease } => {
                let Some(lease) = self.pick(*lease) else { return };
                match store.renew(&lease).await {
                    Ok(()) => {
                        assert!(self.holds(&lease));
                        self.model.leased.get_mut(&lease.job.id.parse().unwrap()).unwrap().heartbeats += 1;
                    }
                    Err(error) => assert!(error.is_stale_lease() && !self.holds(&lease), "{error}"),
                }
            }
            Action::Both { first, second } => self.simple(store, &[first, second]).await,
            simple => self.simple(store, &[simple]).await,
        }
    }

    async fn simple(&mut self, store: &Store, actions: &[&Action]) {
        let mut next = self.model.clone();
        let (mut changes, mut revs) = (Changes::new(), Vec::new());
        let mut expected = Ok(());
        for action in actions {
            if expected.is_ok() {
                expected = next.simple(action, &mut changes, &mut revs);
            }
        }
        // Within one commit, the revision of a document just written is unknown, so the test does not change it a
        // second time.
        if revs.iter().enumerate().any(|(position, id)| revs[..position].contains(id)) {
            return;
        }
        self.commit(store, changes, next, revs, expected).await;
    }

    async fn commit(
        &mut self,
        store: &Store,
        changes: Changes,
        mut next: StoreModel,
        revs: Vec<u8>,
        expected: Result<(), ModelError>,
    ) {
        match store.commit(changes).await {
            Ok(given) => {
                assert_eq!((expected, given.len()), (Ok(()), revs.len()));
                for (id, rev) in revs.into_iter().zip(given) {
                    let before = self.model.documents.get(&id).map(|(rev, _)| rev).or(self.model.deleted.get(&id));
                    assert_eq!(rev.generation(), before.map_or(0, Rev::generation) + 1);
                    match next.documents.get_mut(&id) {
                        Some(document) => document.0 = rev,
                        None => drop(next.deleted.insert(id, rev)),
                    }
                }
                self.model = next;
            }
            Err(error) => assert_eq!(expected, Err(ModelError::of(&error)), "{error}"),
        }
    }

    fn pick(&self, number: u8) -> Option<Lease> {
        self.history.iter().rev().nth(number.into()).cloned()
    }

    fn holds(&self, lease: &Lease) -> bool {
        let id: u8 = lease.job.id.parse().unwrap();
        self.model.leased.get(&id).is_some_and(|current| current.epoch == lease.epoch)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_store_in_memory_does_what_the_model_does(actions in prop::collection::vec(action(), 1..60)) {
        runtime().block_on(async {
            let store = Store::in_memory();
            let mut run = ModelRun { model: StoreModel::default(), history: Vec::new() };
            for action in &actions {
                run.apply(&store, action).await;
                run.model.check(&store);
                assert_clean(&store).await;
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_does_what_the_model_does(actions in prop::collection::vec(action(), 1..60)) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut store = open(dir.path());
            let mut run = ModelRun { model: StoreModel::default(), history: Vec::new() };
            for action in &actions {
                if let Action::Reopen = action {
                    store.close().await.unwrap();
                    store = open(dir.path());
                }
                run.apply(&store, action).await;
                run.model.check(&store);
            }
            assert_clean(&store).await;
        });
    }
}
