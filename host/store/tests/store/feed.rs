//! The feed of a type contains each document once, at its last change, after any changes; and its readers miss nothing.

use std::collections::BTreeMap;

use konnector_query::Direction;
use konnector_store::{Changes, FeedChange, Rev, Seq, Store};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{assert_clean, assert_no_sled_blobs, bill, body, create, instance, job, on_every_backend, open};

async fn changes(store: &Store, since: &Seq, limit: usize, direction: Direction) -> Vec<FeedChange> {
    store.changes(&instance(1), &bill("").doctype, since, limit, direction).await.unwrap()
}

/// All changes after `since`, read in pages.
async fn pages(store: &Store, since: &Seq, page: usize) -> Vec<FeedChange> {
    let (mut all, mut since): (Vec<FeedChange>, Seq) = (Vec::new(), since.clone());
    loop {
        let part = changes(store, &since, page, Direction::Forward).await;
        assert!(part.len() <= page);
        let Some(last) = part.last() else { return all };
        // A position survives the conversion to a string.
        since = last.seq.to_string().parse().unwrap();
        assert_eq!(since, last.seq);
        all.extend(part);
    }
}

fn ids(changes: &[FeedChange]) -> Vec<&str> {
    changes.iter().map(|change| change.id.as_str()).collect()
}

async fn each_document_comes_once_at_its_last_change(store: Store) {
    for id in ["a", "b", "c"] {
        create(&store, &bill(id), json!({})).await;
        create(&store, &job(id), json!({})).await;
    }
    let initial = changes(&store, &Seq::default(), 10, Direction::Forward).await;
    assert_eq!(ids(&initial), ["a", "b", "c"]);
    let mut commit = Changes::new();
    commit.put(bill("a"), &initial[0].rev, body(json!({ "n": 1 })));
    commit.delete(bill("c"), &initial[2].rev);
    let revs = store.commit(commit).await.unwrap();
    let now = changes(&store, &Seq::default(), 10, Direction::Forward).await;
    assert_eq!(ids(&now), ["b", "a", "c"]);
    assert_eq!((now[1].deleted, now[2].deleted), (false, true));
    assert_eq!([now[1].rev.clone(), now[2].rev.clone()].to_vec(), revs);
    assert_eq!(changes(&store, &initial[2].seq, 10, Direction::Forward).await, now[1..]);
    let mut back = changes(&store, &Seq::default(), 2, Direction::Backward).await;
    back.reverse();
    assert_eq!(back, now[1..]);
    // A document that is created again continues its revisions, and a purged one counts as never created.
    create(&store, &bill("c"), json!({})).await;
    let mut commit = Changes::new();
    commit.purge(bill("b"), &now[0].rev);
    store.commit(commit).await.unwrap();
    let now = changes(&store, &Seq::default(), 10, Direction::Forward).await;
    assert_eq!(ids(&now), ["a", "c"]);
    assert_eq!((now[1].rev.generation(), now[1].deleted), (3, false));
    assert_clean(&store).await;
}

/// Within one commit, too, only the last change counts.
async fn a_document_that_changes_twice_in_a_commit_comes_once(store: Store) {
    let rev = create(&store, &bill("a"), json!({})).await;
    let mut commit = Changes::new();
    commit.delete(bill("a"), &rev).create(bill("a"), body(json!({ "n": 2 })));
    let revs = store.commit(commit).await.unwrap();
    let found = changes(&store, &Seq::default(), 10, Direction::Forward).await;
    assert_eq!((found.len(), &found[0].rev, found[0].deleted), (1, &revs[1], false));
    let mut commit = Changes::new();
    commit.create(bill("b"), body(json!({})));
    store.commit(commit).await.unwrap();
    assert_eq!(ids(&changes(&store, &found[0].seq, 10, Direction::Forward).await), ["b"]);
    assert_clean(&store).await;
}

async fn tombstones_are_purged_on_demand(store: Store) {
    for number in 0..300 {
        let rev = create(&store, &bill(format!("{number}")), json!({})).await;
        let mut commit = Changes::new();
        commit.delete(bill(format!("{number}")), &rev);
        store.commit(commit).await.unwrap();
    }
    create(&store, &bill("there"), json!({})).await;
    store.purge_tombstones(&instance(1), &bill("").doctype).await.unwrap();
    assert_eq!(ids(&changes(&store, &Seq::default(), 10, Direction::Forward).await), ["there"]);
    assert!(!store.was_deleted(&bill("7")).unwrap());
    assert_clean(&store).await;
}

async fn a_cursor_of_another_store_starts_from_the_beginning(store: Store) {
    create(&store, &bill("a"), json!({})).await;
    let other = Store::in_memory();
    for _ in 0..2 {
        let rev = create(&other, &bill("b"), json!({})).await;
        let mut commit = Changes::new();
        commit.delete(bill("b"), &rev);
        other.commit(commit).await.unwrap();
    }
    let foreign = changes(&other, &Seq::default(), 9, Direction::Forward).await.pop().unwrap().seq;
    assert_eq!(ids(&changes(&store, &foreign, 9, Direction::Forward).await), ["a"]);
    // So does a number alone, which comes from another kind of database.
    assert_eq!(ids(&changes(&store, &"12".parse().unwrap(), 9, Direction::Forward).await), ["a"]);
    let error = "soon".parse::<Seq>().unwrap_err();
    insta::assert_snapshot!(error, @r#"invalid since: "soon" is not a valid position; use the last_seq of an earlier response, or 0 for all changes"#);
}

on_every_backend!(
    each_document_comes_once_at_its_last_change,
    a_document_that_changes_twice_in_a_commit_comes_once,
    tombstones_are_purged_on_demand,
    a_cursor_of_another_store_starts_from_the_beginning,
);

/// Multiple writers commit at once and share barriers, while one reader follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_misses_no_concurrent_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..40 {
                    let document = bill(format!("{writer}-{}", round % 5));
                    let mut commit = Changes::new();
                    match store.get(&document).unwrap() {
                        Some(found) if round % 7 == 6 => commit.delete(document, &found.rev),
                        Some(found) => commit.put(document, &found.rev, body(json!({ "round": round }))),
                        None => commit.create(document, body(json!({ "round": round }))),
                    };
                    store.commit(commit).await.unwrap();
                }
            })
        })
        .collect();
    let mut follower = Follower::default();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        follower.follow(&store, 7).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    follower.follow(&store, 7).await;
    assert_eq!(follower.documents, documents(&store));
    assert_clean(&store).await;
    store.close().await.unwrap();
    assert_no_sled_blobs(dir.path());
}

fn documents(store: &Store) -> BTreeMap<String, Rev> {
    let documents = store.list(&instance(1), &bill("").doctype, None, 10_000).unwrap();
    documents.into_iter().map(|document| (document.id, document.rev)).collect()
}

/// Replica that is maintained only from the feed.
#[derive(Default)]
struct Follower {
    since: Seq,
    documents: BTreeMap<String, Rev>,
}

impl Follower {
    async fn follow(&mut self, store: &Store, page: usize) {
        for change in pages(store, &self.since, page).await {
            self.since = change.seq;
            if change.deleted {
                self.documents.remove(&change.id);
            } else {
                self.documents.insert(change.id, change.rev);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum FeedAction {
    /// Creates or replaces multiple documents in one commit.
    Write(Vec<u8>),
    Delete(u8),
    Purge(u8),
    Follow(u8),
    Forget,
    Reopen,
}

fn feed_action() -> impl Strategy<Value = FeedAction> {
    let id = 0_u8..8;
    prop_oneof![
        6 => prop::collection::btree_set(id.clone(), 1..4).prop_map(|ids| FeedAction::Write(ids.into_iter().collect())),
        3 => id.clone().prop_map(FeedAction::Delete),
        1 => id.prop_map(FeedAction::Purge),
        2 => (1_u8..5).prop_map(FeedAction::Follow),
        1 => Just(FeedAction::Forget),
        1 => Just(FeedAction::Reopen),
    ]
}

/// The feed as a list: a changed document is removed and added to the end.
#[derive(Default)]
struct FeedModel {
    changes: Vec<(String, Rev, bool)>,
    follower: Follower,
}

impl FeedModel {
    fn change(&mut self, id: &str, rev: Rev, deleted: bool) {
        self.changes.retain(|(other, ..)| other != id);
        self.changes.push((id.to_owned(), rev, deleted));
    }

    async fn apply(&mut self, store: &Store, act: &FeedAction) {
        let mut commit = Changes::new();
        let document = |id: u8| (id.to_string(), store.get(&bill(id.to_string())).unwrap());
        match act {
            FeedAction::Write(ids) => {
                for id in ids {
                    match document(*id) {
                        (id, Some(document)) => {
                            commit.put(bill(id), &document.rev, body(json!({ "n": document.rev.generation() })))
                        }
                        (id, None) => commit.create(bill(id), body(json!({ "n": 0 }))),
                    };
                }
                for (id, rev) in ids.iter().zip(store.commit(commit).await.unwrap()) {
                    self.change(&id.to_string(), rev, false);
                }
            }
            FeedAction::Delete(id) => {
                let (id, Some(document)) = document(*id) else { return };
                commit.delete(bill(id.as_str()), &document.rev);
                let rev = store.commit(commit).await.unwrap().remove(0);
                self.change(&id, rev, true);
            }
            FeedAction::Purge(id) => {
                let (id, Some(document)) = document(*id) else { return };
                commit.purge(bill(id.as_str()), &document.rev);
                store.commit(commit).await.unwrap();
                self.changes.retain(|(other, ..)| *other != id);
                // The feed does not report this.
                self.follower.documents.remove(&id);
            }
            FeedAction::Follow(page) => self.follower.follow(store, (*page).into()).await,
            FeedAction::Forget => {
                self.follower.follow(store, 9).await;
                store.purge_tombstones(&instance(1), &bill("").doctype).await.unwrap();
                self.changes.retain(|(.., deleted)| !deleted);
            }
            FeedAction::Reopen => {}
        }
    }

    async fn check(&mut self, store: &Store, page: usize) {
        let entries = |changes: Vec<FeedChange>| -> Vec<_> {
            changes.into_iter().map(|change| (change.id, change.rev, change.deleted)).collect()
        };
        // The order within one commit is not guaranteed; it is the order of the ids, by their keys.
        assert_eq!(entries(pages(store, &Seq::default(), page).await), self.changes);
        let mut back = entries(changes(store, &Seq::default(), 100, Direction::Backward).await);
        back.reverse();
        assert_eq!(back, self.changes);
        let (instance, doctype) = (instance(1), bill("").doctype);
        let middle =
            pages(store, &Seq::default(), 9).await.get(page).map(|change| change.seq.clone()).unwrap_or_default();
        let later = entries(pages(store, &middle, page).await);
        assert_eq!(store.count_changes(&instance, &doctype, &middle, 100).unwrap(), later.len());
        let of_some = store.changes_for(&instance, &doctype, &middle, ["7", "2", "4", "no"].map(str::to_owned)).await;
        let of_some = entries(of_some.unwrap());
        let is_wanted = |(id, ..): &&(String, Rev, bool)| ["7", "2", "4"].contains(&id.as_str());
        assert_eq!(of_some, later.iter().filter(is_wanted).cloned().collect::<Vec<_>>());
        self.follower.follow(store, page).await;
        assert_eq!(self.follower.documents, documents(store));
    }
}

async fn run_history(acts: &[FeedAction], page: usize, dir: Option<&std::path::Path>) {
    let fresh = || dir.map_or_else(Store::in_memory, open);
    let (mut store, mut model) = (fresh(), FeedModel::default());
    for act in acts {
        if let (FeedAction::Reopen, Some(dir)) = (act, dir) {
            store.close().await.unwrap();
            store = open(dir);
        }
        model.apply(&store, act).await;
    }
    model.check(&store, page).await;
    assert_clean(&store).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_feed_in_memory_is_what_the_model_says(acts in prop::collection::vec(feed_action(), 1..50), page in 1_usize..6) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run_history(&acts, page, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_feed_on_disk_is_what_the_model_says(acts in prop::collection::vec(feed_action(), 1..50), page in 1_usize..6) {
        let dir = tempfile::tempdir().unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(run_history(&acts, page, Some(dir.path())));
    }
}
