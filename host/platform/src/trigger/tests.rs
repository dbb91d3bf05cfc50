//! The shell around the core: stores in memory and on disk, and a clock that is set by hand.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use konnector_sandbox::Sandbox;
use konnector_sandbox::http::{Gate, GateOptions};
use konnector_store::{Document, MasterKey, Options, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::instance::NewInstance;
use crate::job::{Cause, Job, State, Verdict};
use crate::stored::Object;
use crate::token::{Audience, Principal};
use crate::{Config, Parts};

const NOW: &str = "2026-11-20T12:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

/// A platform whose loops do not run: tests call what they would call.
struct Site {
    platform: Platform,
    clock: Arc<ManualClock>,
    alice: Instance,
    folder: TempDir,
}

async fn platform(store: Store, folder: &Path, clock: &Arc<ManualClock>) -> Platform {
    let options = konnector_sandbox::Options { max_runs: 1, memory_ceiling: 16 << 20, ..Default::default() };
    let key = folder.join("key");
    let parts = Parts {
        store,
        sandbox: std::sync::Arc::new(Sandbox::new(options).expect("a sandbox")),
        gate: Gate::new(GateOptions::default()).expect("a gate"),
        key: MasterKey::load(&key).expect("read").unwrap_or_else(|| MasterKey::create(&key).expect("a key")),
        clock: clock.clone(),
        config: Config::new(folder.join("cache")),
    };
    Platform::new(parts).await.expect("a platform")
}

impl Site {
    async fn new() -> Self {
        Self::with(Store::in_memory(), tempfile::tempdir().expect("a folder")).await
    }

    async fn with(store: Store, folder: TempDir) -> Self {
        let clock = Arc::new(ManualClock::new(at(NOW)));
        let platform = platform(store, folder.path(), &clock).await;
        let new = NewInstance { domain: "alice.example".to_owned(), ..NewInstance::default() };
        let alice = platform.create_instance(new).await.expect("an instance");
        Self { platform, clock, alice, folder }
    }

    fn principal(&self) -> Principal {
        let token = self.platform.issue_token(&self.alice, Audience::Cli, "CLI", "*").expect("a token");
        self.platform.authenticate(&self.alice, &token).expect("a principal")
    }

    async fn create(&self, kind: &str, arguments: &str, account: &str) -> String {
        self.create_with(kind, arguments, account, |_| {}).await
    }

    async fn create_with(
        &self,
        kind: &str,
        arguments: &str,
        account: &str,
        change: impl FnOnce(&mut NewTrigger),
    ) -> String {
        let mut new = NewTrigger {
            kind: kind.to_owned(),
            arguments: arguments.to_owned(),
            worker: KONNECTOR_WORKER.to_owned(),
            message: json!({ "konnector": "bank", "account": account }),
            ..NewTrigger::default()
        };
        change(&mut new);
        self.platform.create_trigger(&self.alice, new).await.expect("a trigger").id
    }

    async fn account(&self, password: &str) -> Document {
        let body = object(&json!({ "account_type": "bank", "auth": { "login": "alice", "password": password } }));
        let body = body.expect("an object");
        self.platform.create_document(&self.alice, &self.principal(), &ACCOUNTS, None, body).await.expect("an account")
    }

    async fn correct(&self, account: &Document, password: &str) -> Document {
        let body = json!({ "account_type": "bank", "auth": { "login": "alice", "password": password } });
        let body = object(&body).expect("an object");
        let principal = self.principal();
        let changed =
            self.platform.update_document(&self.alice, &principal, &ACCOUNTS, &account.id, &account.rev, body);
        changed.await.expect("changed")
    }

    fn trigger(&self, id: &str) -> Trigger {
        self.platform.trigger(&self.alice, id).expect("a trigger")
    }

    fn occasions(&self, id: &str) -> Occasions {
        self.trigger(id).life.occasions
    }

    fn jobs(&self, trigger: &str) -> Vec<Job> {
        self.platform.trigger_jobs(&self.alice, trigger, 50).expect("jobs")
    }

    /// Sets the clock and lets the scheduler look; answers how many jobs that made.
    async fn look(&self, now: &str) -> usize {
        self.clock.set(at(now));
        self.platform.fire_due().await.expect("looked")
    }

    async fn save(&self, doctype: &str, body: Value) -> Document {
        let doctype = doctype.parse().expect("a doctype");
        let body = object(&body).expect("an object");
        self.platform.create_document(&self.alice, &self.principal(), &doctype, None, body).await.expect("saved")
    }

    /// Ends the jobs of a trigger that have not ended, as a worker would that began with this revision of the account.
    async fn end(&self, trigger: &str, began_with: u64, verdict: Option<&Verdict>) {
        for job in self.jobs(trigger) {
            if !matches!(job.state, State::Queued | State::Running) {
                continue;
            }
            let at = self.alice.doc(&crate::doctype::JOBS, job.id.as_str());
            let found = self.platform.stored::<Job>(&at).expect("read").expect("a job");
            let state = if verdict.is_none() { State::Done } else { State::Errored };
            let job = Job { account_generation: Some(began_with), state, ..job };
            let mut changes = Changes::new();
            changes.dequeue(&at);
            changes.put(at, &found.rev, object(&job).expect("an object"));
            changes.release(&self.alice.id, "jobs.trigger.live", format!("{trigger}/{}", job.id));
            self.platform.stage_job_ended(&self.alice, &job, verdict, &mut changes).expect("staged");
            self.platform.store.commit(changes).await.expect("committed");
        }
    }
}

fn refused() -> Verdict {
    let failure = konnector_sandbox::Failure::BadCredentials(String::new());
    Verdict::of(&konnector_sandbox::Outcome::Failed(failure)).expect("a verdict")
}

#[tokio::test]
async fn a_due_instant_is_used_up_with_the_job_that_it_makes() {
    let site = Site::new().await;
    let id = site.create("@cron", "0 0 * * * *", "a").await;
    assert_eq!(site.look("2026-11-20T12:59:59Z").await, 0);
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 0);
    assert_eq!(site.look("2026-11-20T12:30:00Z").await, 0, "the clock went back");
    // The first job has not ended.
    assert_eq!(site.look("2026-11-20T14:00:00Z").await, 0);
    assert_eq!(site.occasions(&id), Occasions { fired: 1, overlapped: 1, ..Occasions::default() });
    assert_eq!(site.platform.trigger_due(&site.alice, &id).expect("read"), Some(at("2026-11-20T15:00:00Z")));
    site.end(&id, 1, None).await;
    assert_eq!(site.look("2026-11-20T15:00:01Z").await, 1);
    assert_eq!(site.jobs(&id)[0].cause, Cause::Schedule);
}

#[tokio::test]
async fn one_job_waits_behind_another_where_the_trigger_asks_for_it() {
    let site = Site::new().await;
    let id = site.create_with("@every", "1h", "a", |new| new.policy.overlap_policy = OverlapPolicy::QueueOne).await;
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.look("2026-11-20T14:00:00Z").await, 1);
    assert_eq!(site.look("2026-11-20T15:00:00Z").await, 0);
    assert_eq!(site.occasions(&id), Occasions { fired: 2, overlapped: 1, ..Occasions::default() });
}

/// G4: the server was down for thirty days.
#[tokio::test]
async fn a_thousand_triggers_catch_up_politely() {
    let site = Site::new().await;
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let crontab = format!("{} {} {} * * *", number % 60, number % 59, number % 5);
        ids.push(site.create("@cron", &crontab, &format!("account-{number}")).await);
    }
    // A second trigger for one of the accounts: what both missed is one run.
    let second = site.create("@cron", "0 30 6 * * *", "account-0").await;
    let back = at(NOW) + TimeDelta::days(30);
    assert_eq!(site.look(&back.to_rfc3339()).await, 1_000);
    let queued = site.platform.store.queued(2_000).expect("read");
    assert_eq!(queued.len(), 1_000);
    let mut waits: Vec<_> = queued.iter().map(|queued| (queued.turn.run_at - back).num_seconds()).collect();
    waits.sort_unstable();
    assert!(waits[0] >= 0 && waits[999] <= 600, "{} to {}", waits[0], waits[999]);
    // Spread over the ten minutes, not bunched: each minute has its share.
    for minute in 0..10 {
        let share = waits.iter().filter(|wait| **wait / 60 == minute).count();
        assert!((50..=150).contains(&share), "{share} in minute {minute}");
    }
    let of_account_0 = site.occasions(&ids[0]).fired + site.occasions(&second).fired;
    assert_eq!(of_account_0, 1);
    for id in &ids[1..] {
        let Occasions { fired, coalesced, .. } = site.occasions(id);
        assert_eq!((fired, coalesced), (1, 29));
    }
}

#[tokio::test]
async fn a_refused_password_is_posted_once_until_the_owner_corrects_it() {
    let site = Site::new().await;
    let account = site.account("wrong").await;
    let nightly = site.create("@cron", "0 0 3 * * *", &account.id).await;
    let other = site.create("@every", "5h", &account.id).await;
    assert_eq!(site.look("2026-11-21T03:00:00Z").await, 2);
    site.end(&nightly, 1, Some(&refused())).await;
    site.end(&other, 1, Some(&refused())).await;
    for day in 22..30 {
        assert_eq!(site.look(&format!("2026-11-{day}T03:00:00Z")).await, 0, "the password is tried again");
    }
    assert_eq!(site.occasions(&nightly).paused, 8);
    let state = site.platform.trigger_state(&site.alice, &nightly).expect("a state");
    assert_eq!(state.paused.map(|pause| pause.code).as_deref(), Some("LOGIN_FAILED"));
    // A person may.
    let launched = site.platform.launch_trigger(&site.alice, &nightly).await.expect("a job");
    assert!(launched.manual_execution);
    let account = site.correct(&account, "right").await;
    assert!(site.trigger(&nightly).life.paused.is_none() && site.trigger(&other).life.paused.is_none());
    // The run by hand began before the correction, and is refused after it.
    site.end(&nightly, 1, Some(&refused())).await;
    assert!(site.trigger(&nightly).life.paused.is_none() && site.trigger(&other).life.paused.is_none());
    assert_eq!(site.look("2026-11-30T03:00:00Z").await, 2);
    site.end(&nightly, account.rev.generation(), Some(&refused())).await;
    // A trigger made after the correction does not suffer from a run that began before it.
    let fresh = site.create("@cron", "0 0 4 * * *", &account.id).await;
    site.correct(&account, "right now").await;
    let late = site.create("@cron", "0 0 5 * * *", &account.id).await;
    let _ = site.platform.launch_trigger(&site.alice, &fresh).await.expect("a job");
    site.end(&fresh, account.rev.generation(), Some(&refused())).await;
    assert!(site.trigger(&late).life.paused.is_none());
}

/// A job that waited behind the one whose password was refused would post it again.
#[tokio::test]
async fn jobs_that_wait_do_not_try_a_refused_password() {
    let site = Site::new().await;
    let account = site.account("wrong").await;
    let queue = |new: &mut NewTrigger| new.policy.overlap_policy = OverlapPolicy::QueueOne;
    let hourly = site.create_with("@every", "1h", &account.id, queue).await;
    let other = site.create("@every", "2h", &account.id).await;
    site.look("2026-11-20T13:00:00Z").await;
    assert_eq!(site.look("2026-11-20T14:00:00Z").await, 2);
    let waiting = site.jobs(&hourly)[0].clone();
    let of_other = site.jobs(&other)[0].clone();
    let held =
        |job: &Job| site.platform.held_back(&site.alice, job).expect("read").map(|verdict| verdict.code.to_string());
    assert_eq!(held(&waiting), None);
    // The first one ends.
    let first = Job { account_generation: Some(1), ..site.jobs(&hourly)[1].clone() };
    let mut changes = Changes::new();
    site.platform.stage_job_ended(&site.alice, &first, Some(&refused()), &mut changes).expect("staged");
    site.platform.store.commit(changes).await.expect("committed");
    assert_eq!(held(&waiting).as_deref(), Some("LOGIN_FAILED"));
    assert_eq!(held(&of_other).as_deref(), Some("LOGIN_FAILED"));
    assert_eq!(held(&Job { cause: Cause::Manual, ..waiting.clone() }), None);
    site.correct(&account, "right").await;
    assert_eq!(held(&waiting), None);
}

#[tokio::test]
async fn an_edit_takes_effect_at_once_and_accounts_for_what_was_due() {
    let site = Site::new().await;
    let id = site.create("@cron", "0 0 3 * * *", "a").await;
    site.clock.set(at("2026-11-25T12:00:00Z"));
    let patch = TriggerPatch { arguments: Some("0 0 5 1 * *".to_owned()), ..TriggerPatch::default() };
    site.platform.patch_trigger(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.platform.trigger_due(&site.alice, &id).expect("read"), Some(at("2026-12-01T05:00:00Z")));
    assert_eq!(site.occasions(&id).missed, 5);
    let patch = TriggerPatch { time_zone: Some(chrono_tz::Tz::Asia__Tokyo), ..TriggerPatch::default() };
    site.platform.patch_trigger(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.platform.trigger_due(&site.alice, &id).expect("read"), Some(at("2026-11-30T20:00:00Z")));
    // Another policy is no other schedule.
    site.clock.set(at("2026-12-01T00:00:00Z"));
    let patch = TriggerPatch { missed_policy: Some(MissedPolicy::All), ..TriggerPatch::default() };
    site.platform.patch_trigger(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.look("2026-12-01T00:00:01Z").await, 1);
    // The message decides about a periodic schedule.
    let id = site.create("@daily", "", "a").await;
    let before = site.platform.trigger_due(&site.alice, &id).expect("read");
    let patch = TriggerPatch { message: Some(json!({ "konnector": "shop" })), ..TriggerPatch::default() };
    site.platform.patch_trigger(&site.alice, &id, patch).await.expect("patched");
    assert_ne!(site.platform.trigger_due(&site.alice, &id).expect("read"), before);
    assert!(site.platform.triggers_of_account(&site.alice, "a").expect("read").len() == 1);
}

#[tokio::test]
async fn once_leaves_nothing_behind() {
    let site = Site::new().await;
    let id = site.create("@in", "10m", "a").await;
    assert_eq!(site.look("2026-11-20T12:10:00Z").await, 1);
    assert!(matches!(site.platform.trigger(&site.alice, &id), Err(Error::NotFound(_))));
    assert_eq!(site.platform.triggers_of_account(&site.alice, "a").expect("read").len(), 0);
    assert_eq!(site.platform.store.next_due().expect("read"), None);
}

/// J22.
#[tokio::test]
async fn changes_of_documents_make_jobs_with_the_event() {
    let site = Site::new().await;
    let created = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    let paid = site.create("@event", "io.cozy.bills:UPDATED:!=:paid", "b").await;
    let gone = site.create("@event", "io.cozy.bills:DELETED", "c").await;
    let bill = site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    site.save("io.cozy.contacts", json!({ "name": "Ada" })).await;
    assert_eq!(site.platform.fire_due().await.expect("looked"), 1);
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
        let body: Object = object(&body).expect("an object");
        let changed = site.platform.update_document(&site.alice, &principal, &bills, &bill.id, rev, body).await;
        let changed = changed.expect("changed");
        (site.platform.fire_due().await.expect("looked"), changed.rev)
    };
    let (jobs, rev) = update(&bill.rev, json!({ "amount": 4 })).await;
    assert_eq!(jobs, 0);
    let (jobs, rev) = update(&rev, json!({ "amount": 4, "paid": true })).await;
    assert_eq!((jobs, site.jobs(&paid).len()), (1, 1));
    site.platform.delete_document(&site.alice, &principal, &bills, &bill.id, &rev).await.expect("deleted");
    assert_eq!((site.platform.fire_due().await.expect("looked"), site.jobs(&gone).len()), (1, 1));
    assert_eq!(
        site.platform
            .doctypes(&site.alice)
            .expect("read")
            .iter()
            .filter(|name| name.as_ref().contains("occasion"))
            .count(),
        0
    );
}

/// Events belong to the commit: whoever commits a change need not think of them.
#[tokio::test]
async fn whatever_is_committed_makes_events() {
    let site = Site::new().await;
    let id = site.create("@event", "io.cozy.bills io.cozy.files:UPDATED", "a").await;
    let at = site.alice.doc(&"io.cozy.bills".parse().expect("a doctype"), "one");
    let body = |n: i32| object(&json!({ "n": n })).expect("an object");
    let fired = async |changes: Changes| {
        let before = site.occasions(&id);
        let revs = site.platform.commit(changes).await.expect("committed");
        site.platform.fire_due().await.expect("looked");
        let Occasions { fired, overlapped, coalesced, .. } = site.occasions(&id);
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
    // One that conflicts says nothing.
    let mut stale = Changes::new();
    stale.put(at.clone(), &format!("1-{}", "0".repeat(32)).parse().expect("a revision"), body(3));
    assert!(site.platform.commit(stale).await.expect_err("stale").is_conflict());
    let mut changes = Changes::new();
    changes.delete(at, &revs[0]);
    assert_eq!(fired(changes).await.0, 1);
    // The directories below one that is moved change, too.
    site.platform.ensure_directory(&site.alice, "/a/b").await.expect("a directory");
    let top = site.platform.file_by_path(&site.alice, "/a").expect("read");
    site.platform.trash(&site.alice, &top.id, None, &Object::new()).await.expect("trashed");
    let before = site.occasions(&id);
    site.platform.fire_due().await.expect("looked");
    let Occasions { fired, overlapped, coalesced, .. } = site.occasions(&id);
    assert_eq!(fired + overlapped + coalesced - before.fired - before.overlapped - before.coalesced, 2);
}

/// A konnector that writes what it waits for must not keep the server busy, and no event is lost.
#[tokio::test]
async fn too_many_events_wait_for_the_next_hour() {
    let site = Site::new().await;
    let id = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    for number in 0..103 {
        site.save("io.cozy.bills", json!({ "amount": number })).await;
    }
    assert_eq!(site.platform.fire_due().await.expect("looked"), 100);
    assert_eq!(site.look("2026-11-20T12:59:59Z").await, 0);
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 3);
    assert_eq!(site.occasions(&id).fired, 103);
}

#[tokio::test]
async fn thirty_calls_an_hour_are_enough_for_webhooks() {
    let site = Site::new().await;
    let hook = site.create("@webhook", "", "b").await;
    for _ in 0..30 {
        site.platform.call_webhook(&site.alice, &hook, b"{}", false).await.expect("called");
    }
    let refused = site.platform.call_webhook(&site.alice, &hook, b"{}", true).await.expect_err("too many");
    insta::assert_snapshot!(refused, @"30 of these in an hour are enough for one instance; the next one is taken from 2026-11-20T13:00:00Z on, or collect them with a debounce");
    site.clock.set(at("2026-11-20T13:00:00Z"));
    site.platform.call_webhook(&site.alice, &hook, b"{}", false).await.expect("called");
}

#[tokio::test]
async fn a_client_that_does_not_come_back_has_a_day() {
    let site = Site::new().await;
    let id = site.create("@client", "", "a").await;
    let launch = async || site.platform.launch_trigger(&site.alice, &id).await.expect("a job").id;
    let (left, ended) = (launch().await, launch().await);
    site.platform.end_client_job(&site.alice, &ended, None).await.expect("ended");
    site.look("2026-11-21T11:59:59Z").await;
    assert_eq!(site.platform.job(&site.alice, &left).expect("a job").state, State::Running);
    site.look("2026-11-21T12:00:00Z").await;
    let left = site.platform.job(&site.alice, &left).expect("a job");
    assert_eq!((left.state, left.error.as_deref()), (State::Errored, Some("UNKNOWN_ERROR.TIMEOUT")));
    assert_eq!(site.platform.job(&site.alice, &ended).expect("a job").state, State::Done);
    assert_eq!(site.platform.store.next_due().expect("read"), None);
}

/// A machine without a battery for its clock.
#[tokio::test]
async fn nothing_fires_before_the_clock_can_be_right() {
    let site = Site::new().await;
    let id = site.create("@every", "1h", "a").await;
    let event = site.create("@event", "io.cozy.bills:CREATED", "b").await;
    site.clock.set(at("1970-01-01T00:05:00Z"));
    site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    assert_eq!(site.look("1970-01-01T00:06:00Z").await, 0);
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 2);
    assert_eq!((site.occasions(&id).fired, site.occasions(&event).fired), (1, 1));
}

/// J24: below a directory, and out of it.
#[tokio::test]
async fn a_directory_stands_for_what_is_below_it_and_for_what_leaves_it() {
    let site = Site::new().await;
    let (platform, alice) = (&site.platform, &site.alice);
    let watched = platform.ensure_directory(alice, "/watched").await.expect("a directory");
    let other = platform.ensure_directory(alice, "/other").await.expect("a directory");
    let id = site.create("@event", &format!("io.cozy.files:CREATED,UPDATED:{}", watched.id), "a").await;
    let jobs = async || {
        platform.fire_due().await.expect("looked");
        site.jobs(&id).len()
    };
    let below = platform.ensure_directory(alice, "/watched/a/b").await.expect("a directory");
    assert_eq!(jobs().await, 2, "a and b");
    platform.ensure_directory(alice, "/other/c").await.expect("a directory");
    assert_eq!(jobs().await, 2);
    platform.move_file(alice, &below, &other, "b", None).await.expect("moved");
    assert_eq!(jobs().await, 3, "moved out");
    let below = platform.file_by_path(alice, "/other/b").expect("a directory");
    platform.move_file(alice, &below, &other, "d", None).await.expect("moved");
    assert_eq!(jobs().await, 3, "elsewhere");
    platform
        .move_file(alice, &platform.file_by_path(alice, "/other/d").expect("a directory"), &watched, "d", None)
        .await
        .expect("moved");
    assert_eq!(jobs().await, 4, "moved in");
}

/// Neither an event nor a debounce is lost when the process ends right after the commit.
#[tokio::test]
async fn events_and_debounces_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |folder: &Path| {
        Store::open(&folder.join("store"), Options { cache_bytes: 4 << 20, ..Options::default() }).expect("a store")
    };
    let site = Site::with(open(folder.path()), tempfile::tempdir().expect("a folder")).await;
    let event = site.create("@event", "io.cozy.bills:CREATED", "a").await;
    let hook =
        site.create_with("@webhook", "", "b", |new| new.debounce = Some("1m".parse().expect("a duration"))).await;
    site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    for body in [&b"{\"n\":1}"[..], b"{\"n\":2}"] {
        site.platform.call_webhook(&site.alice, &hook, body, false).await.expect("called");
    }
    let Site { platform: first, clock, alice, folder: keys } = site;
    first.stop().await;
    drop(first);
    let platform = platform(open(folder.path()), keys.path(), &clock).await;
    let site = Site { platform, clock, alice, folder: keys };
    assert_eq!(site.look(NOW).await, 1);
    assert_eq!(site.jobs(&event).len(), 1);
    assert_eq!(site.look("2026-11-20T12:01:00Z").await, 1);
    let [job] = &site.jobs(&hook)[..] else { panic!("one job") };
    assert_eq!(job.occasion.json(), Some(json!({ "payloads": [{ "n": 1 }, { "n": 2 }] })));
}

#[tokio::test]
async fn calls_at_the_same_time_are_all_counted() {
    let site = Site::new().await;
    let hook =
        site.create_with("@webhook", "", "b", |new| new.debounce = Some("1m".parse().expect("a duration"))).await;
    let calls: Vec<_> = (0..5)
        .map(|number| {
            let (platform, alice, hook) = (site.platform.clone(), site.alice.clone(), hook.clone());
            tokio::spawn(
                async move { platform.call_webhook(&alice, &hook, format!("{number}").as_bytes(), false).await },
            )
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("called");
    }
    assert_eq!(site.look("2026-11-20T12:01:00Z").await, 1);
    let payload = site.jobs(&hook)[0].occasion.json().expect("a payload");
    assert_eq!(payload["payloads"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn one_trigger_that_cannot_be_read_does_not_hold_up_the_others() {
    let site = Site::new().await;
    let good = site.create("@every", "1h", "a").await;
    let bad = site.create("@every", "30m", "b").await;
    let at_bad = site.alice.doc(&TRIGGERS, bad.as_str());
    let found = site.platform.store.get(&at_bad).expect("read").expect("a trigger");
    let mut changes = Changes::new();
    changes.put(at_bad.clone(), &found.rev, object(&json!({ "type": 7 })).expect("an object"));
    site.platform.store.commit(changes).await.expect("committed");
    assert_eq!(site.look("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.jobs(&good).len(), 1);
    assert_eq!(site.platform.store.due_at(&at_bad).expect("read"), None);
}
