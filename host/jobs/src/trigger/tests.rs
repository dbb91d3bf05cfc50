//! The code around the core: stores in memory and on disk, and a manual clock.

mod events;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use konnector_store::{Document, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::job::{Cause, Job, JobFailure, JobStatus};
use crate::{JobContext, test_support};
use konnector_documents::clock::ManualClock;
use konnector_documents::instance::InstancePatch;
use konnector_documents::principal::{Audience, Principal};
use konnector_documents::stored::Object;

const NOW: &str = "2026-11-20T12:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

/// A context without running loops: tests call their functions directly.
pub(super) struct TriggerFixture {
    pub(super) context: JobContext,
    clock: Arc<ManualClock>,
    pub(super) alice: Instance,
    folder: TempDir,
}

/// Creates a fixture for the tests of submodules.
pub(super) async fn fixture() -> TriggerFixture {
    TriggerFixture::new().await
}

impl TriggerFixture {
    async fn new() -> Self {
        Self::with(Store::in_memory(), tempfile::tempdir().expect("a folder")).await
    }

    async fn with(store: Store, folder: TempDir) -> Self {
        let clock = Arc::new(ManualClock::new(at(NOW)));
        let context = test_support::context(store, folder.path(), &clock, test_support::sandbox());
        let alice =
            context.core().instances().create("alice.example", &InstancePatch::default()).await.expect("an instance");
        Self { context, clock, alice, folder }
    }

    fn principal(&self) -> Principal {
        let token = self.context.auth().issue_token(&self.alice, Audience::Cli, "CLI", "*").expect("a token");
        self.context.auth().authenticate(&self.alice, &token).expect("a principal")
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
        self.context.triggers().create(&self.alice, new).await.expect("a trigger").id
    }

    async fn account(&self, password: &str) -> Document {
        let body = to_object(&json!({ "account_type": "bank", "auth": { "login": "alice", "password": password } }));
        let body = body.expect("an object");
        self.context
            .core
            .documents()
            .create(&self.alice, &self.principal(), &ACCOUNTS, None, body)
            .await
            .expect("an account")
    }

    async fn correct_password(&self, account: &Document, password: &str) -> Document {
        let body = json!({ "account_type": "bank", "auth": { "login": "alice", "password": password } });
        let body = to_object(&body).expect("an object");
        let principal = self.principal();
        let changed =
            self.context.core.documents().update(&self.alice, &principal, &ACCOUNTS, &account.id, &account.rev, body);
        changed.await.expect("changed")
    }

    fn trigger(&self, id: &str) -> Trigger {
        self.context.triggers().get(&self.alice, id).expect("a trigger")
    }

    fn counters(&self, id: &str) -> TriggerCounters {
        self.trigger(id).runtime.counters
    }

    fn jobs(&self, trigger: &str) -> Vec<Job> {
        self.context.jobs().list_of_trigger(&self.alice, trigger, 50).expect("jobs")
    }

    /// Sets the clock and runs the scheduler; returns the number of jobs pushed.
    async fn fire_at(&self, now: &str) -> usize {
        self.clock.set(at(now));
        self.context.triggers().fire_due().await.expect("looked")
    }

    async fn save(&self, doctype: &str, body: Value) -> Document {
        let doctype = doctype.parse().expect("a doctype");
        let body = to_object(&body).expect("an object");
        self.context.core.documents().create(&self.alice, &self.principal(), &doctype, None, body).await.expect("saved")
    }

    /// Ends the unfinished jobs of a trigger, like a worker that began with this revision of the account.
    async fn end_jobs(&self, trigger: &str, began_with: u64, verdict: Option<&JobFailure>) {
        for job in self.jobs(trigger) {
            if !matches!(job.state, JobStatus::Queued | JobStatus::Running) {
                continue;
            }
            let at = self.alice.doc(&konnector_documents::doctype::JOBS, job.id.as_str());
            let found = self.context.core.load::<Job>(&at).expect("read").expect("a job");
            let state = if verdict.is_none() { JobStatus::Done } else { JobStatus::Errored };
            let job = Job { account_generation: Some(began_with), state, ..job };
            let mut changes = Changes::new();
            changes.dequeue(&at);
            changes.put(at, &found.rev, to_object(&job).expect("an object"));
            changes.remove_unique(&self.alice.id, "jobs.trigger.live", format!("{trigger}/{}", job.id));
            self.context.triggers().stage_job_ended(&self.alice, &job, verdict, &mut changes).expect("staged");
            self.context.core.store().commit(changes).await.expect("committed");
        }
    }
}

fn rejected_login() -> JobFailure {
    let failure = konnector_sandbox::Failure::BadCredentials(String::new());
    JobFailure::from_outcome(&konnector_sandbox::Outcome::Failed(failure)).expect("a verdict")
}

#[tokio::test]
async fn a_due_instant_is_used_up_with_the_job_that_it_makes() {
    let site = TriggerFixture::new().await;
    let id = site.create("@cron", "0 0 * * * *", "a").await;
    assert_eq!(site.fire_at("2026-11-20T12:59:59Z").await, 0);
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 0);
    assert_eq!(site.fire_at("2026-11-20T12:30:00Z").await, 0, "the clock went back");
    // The first job has not ended.
    assert_eq!(site.fire_at("2026-11-20T14:00:00Z").await, 0);
    assert_eq!(site.counters(&id), TriggerCounters { fired: 1, overlapped: 1, ..TriggerCounters::default() });
    assert_eq!(site.context.triggers().due(&site.alice, &id).expect("read"), Some(at("2026-11-20T15:00:00Z")));
    site.end_jobs(&id, 1, None).await;
    assert_eq!(site.fire_at("2026-11-20T15:00:01Z").await, 1);
    assert_eq!(site.jobs(&id)[0].cause, Cause::Schedule);
}

#[tokio::test]
async fn one_job_waits_behind_another_where_the_trigger_asks_for_it() {
    let site = TriggerFixture::new().await;
    let id = site.create_with("@every", "1h", "a", |new| new.policy.overlap_policy = OverlapPolicy::QueueOne).await;
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.fire_at("2026-11-20T14:00:00Z").await, 1);
    assert_eq!(site.fire_at("2026-11-20T15:00:00Z").await, 0);
    assert_eq!(site.counters(&id), TriggerCounters { fired: 2, overlapped: 1, ..TriggerCounters::default() });
}

/// The server was down for thirty days.
#[tokio::test]
async fn a_thousand_triggers_catch_up_politely() {
    let site = TriggerFixture::new().await;
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let crontab = format!("{} {} {} * * *", number % 60, number % 59, number % 5);
        ids.push(site.create("@cron", &crontab, &format!("account-{number}")).await);
    }
    // A second trigger for one of the accounts. The missed instants of both result in one run.
    let second = site.create("@cron", "0 30 6 * * *", "account-0").await;
    let back = at(NOW) + TimeDelta::days(30);
    assert_eq!(site.fire_at(&back.to_rfc3339()).await, 1_000);
    let queued = site.context.core().store().list_queued(2_000).expect("read");
    assert_eq!(queued.len(), 1_000);
    let mut waits: Vec<_> = queued.iter().map(|queued| (queued.entry.run_at - back).num_seconds()).collect();
    waits.sort_unstable();
    assert!(waits[0] >= 0 && waits[999] <= 600, "{} to {}", waits[0], waits[999]);
    // Spread over the ten minutes, of which each has its share.
    for minute in 0..10 {
        let share = waits.iter().filter(|wait| **wait / 60 == minute).count();
        assert!((50..=150).contains(&share), "{share} in minute {minute}");
    }
    let of_account_0 = site.counters(&ids[0]).fired + site.counters(&second).fired;
    assert_eq!(of_account_0, 1);
    for id in &ids[1..] {
        let TriggerCounters { fired, coalesced, .. } = site.counters(id);
        assert_eq!((fired, coalesced), (1, 29));
    }
}

#[tokio::test]
async fn a_refused_password_is_posted_once_until_the_owner_corrects_it() {
    let site = TriggerFixture::new().await;
    let account = site.account("wrong").await;
    let nightly = site.create("@cron", "0 0 3 * * *", &account.id).await;
    let other = site.create("@every", "5h", &account.id).await;
    assert_eq!(site.fire_at("2026-11-21T03:00:00Z").await, 2);
    site.end_jobs(&nightly, 1, Some(&rejected_login())).await;
    site.end_jobs(&other, 1, Some(&rejected_login())).await;
    for day in 22..30 {
        assert_eq!(site.fire_at(&format!("2026-11-{day}T03:00:00Z")).await, 0, "the password is tried again");
    }
    assert_eq!(site.counters(&nightly).paused, 8);
    let state = site.context.triggers().status(&site.alice, &nightly).expect("a state");
    assert_eq!(state.paused.map(|pause| pause.code).as_deref(), Some("LOGIN_FAILED"));
    // A person may start it.
    let launched = site.context.triggers().launch(&site.alice, &nightly).await.expect("a job");
    assert!(launched.manual_execution);
    let account = site.correct_password(&account, "right").await;
    assert!(site.trigger(&nightly).runtime.paused.is_none() && site.trigger(&other).runtime.paused.is_none());
    // The manual run began before the correction, and is rejected after it.
    site.end_jobs(&nightly, 1, Some(&rejected_login())).await;
    assert!(site.trigger(&nightly).runtime.paused.is_none() && site.trigger(&other).runtime.paused.is_none());
    assert_eq!(site.fire_at("2026-11-30T03:00:00Z").await, 2);
    site.end_jobs(&nightly, account.rev.generation(), Some(&rejected_login())).await;
    // A trigger created after the correction is not affected by a run that began before it.
    let fresh = site.create("@cron", "0 0 4 * * *", &account.id).await;
    site.correct_password(&account, "right now").await;
    let late = site.create("@cron", "0 0 5 * * *", &account.id).await;
    let _ = site.context.triggers().launch(&site.alice, &fresh).await.expect("a job");
    site.end_jobs(&fresh, account.rev.generation(), Some(&rejected_login())).await;
    assert!(site.trigger(&late).runtime.paused.is_none());
}

#[tokio::test]
async fn j30_a_schedule_waits_for_the_user_but_not_for_new_terms() {
    let site = TriggerFixture::new().await;
    let ended_with = |error: &str| {
        let told = konnector_sandbox::Failure::Custom { error: error.to_owned(), no_retry: false };
        JobFailure::from_outcome(&konnector_sandbox::Outcome::Failed(told))
    };
    for (account, error, fires) in [
        ("a", "LOGIN_FAILED", 0),
        ("b", "USER_ACTION_NEEDED.OAUTH_OUTDATED", 0),
        ("c", "USER_ACTION_NEEDED.CGU_FORM", 1),
    ] {
        site.clock.set(at(NOW));
        let id = site.create("@cron", "0 0 * * * *", account).await;
        assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 1);
        site.end_jobs(&id, 1, ended_with(error).as_ref()).await;
        assert_eq!(site.fire_at("2026-11-20T14:00:00Z").await, fires, "{error}");
        site.context.triggers().launch(&site.alice, &id).await.expect(error);
        site.context.triggers().delete(&site.alice, &id).await.expect("deleted");
    }
}

/// A job that waited for the job with the rejected password would send the same password again.
#[tokio::test]
async fn jobs_that_wait_do_not_try_a_refused_password() {
    let site = TriggerFixture::new().await;
    let account = site.account("wrong").await;
    let queue = |new: &mut NewTrigger| new.policy.overlap_policy = OverlapPolicy::QueueOne;
    let hourly = site.create_with("@every", "1h", &account.id, queue).await;
    let other = site.create("@every", "2h", &account.id).await;
    site.fire_at("2026-11-20T13:00:00Z").await;
    assert_eq!(site.fire_at("2026-11-20T14:00:00Z").await, 2);
    let waiting = site.jobs(&hourly)[0].clone();
    let of_other = site.jobs(&other)[0].clone();
    let held = |job: &Job| {
        site.context.triggers().blocked_reason(&site.alice, job).expect("read").map(|verdict| verdict.code.to_string())
    };
    assert_eq!(held(&waiting), None);
    // The first one ends.
    let first = Job { account_generation: Some(1), ..site.jobs(&hourly)[1].clone() };
    let mut changes = Changes::new();
    site.context
        .triggers()
        .stage_job_ended(&site.alice, &first, Some(&rejected_login()), &mut changes)
        .expect("staged");
    site.context.core().store().commit(changes).await.expect("committed");
    assert_eq!(held(&waiting).as_deref(), Some("LOGIN_FAILED"));
    assert_eq!(held(&of_other).as_deref(), Some("LOGIN_FAILED"));
    assert_eq!(held(&Job { cause: Cause::Manual, ..waiting.clone() }), None);
    site.correct_password(&account, "right").await;
    assert_eq!(held(&waiting), None);
}

#[tokio::test]
async fn an_edit_takes_effect_at_once_and_accounts_for_what_was_due() {
    let site = TriggerFixture::new().await;
    let id = site.create("@cron", "0 0 3 * * *", "a").await;
    site.clock.set(at("2026-11-25T12:00:00Z"));
    let patch = TriggerPatch { arguments: Some("0 0 5 1 * *".to_owned()), ..TriggerPatch::default() };
    site.context.triggers().patch(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.context.triggers().due(&site.alice, &id).expect("read"), Some(at("2026-12-01T05:00:00Z")));
    assert_eq!(site.counters(&id).missed, 5);
    let patch = TriggerPatch { time_zone: Some(chrono_tz::Tz::Asia__Tokyo), ..TriggerPatch::default() };
    site.context.triggers().patch(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.context.triggers().due(&site.alice, &id).expect("read"), Some(at("2026-11-30T20:00:00Z")));
    // Another policy is not another schedule.
    site.clock.set(at("2026-12-01T00:00:00Z"));
    let patch = TriggerPatch { missed_policy: Some(MissedPolicy::All), ..TriggerPatch::default() };
    site.context.triggers().patch(&site.alice, &id, patch).await.expect("patched");
    assert_eq!(site.fire_at("2026-12-01T00:00:01Z").await, 1);
    // A periodic schedule depends on the message.
    let id = site.create("@daily", "", "a").await;
    let before = site.context.triggers().due(&site.alice, &id).expect("read");
    let patch = TriggerPatch { message: Some(json!({ "konnector": "shop" })), ..TriggerPatch::default() };
    site.context.triggers().patch(&site.alice, &id, patch).await.expect("patched");
    assert_ne!(site.context.triggers().due(&site.alice, &id).expect("read"), before);
    assert!(site.context.triggers().list_of_account(&site.alice, "a").expect("read").len() == 1);
}

#[tokio::test]
async fn j21_every_third_second_is_a_job() {
    let site = TriggerFixture::new().await;
    let id = site.create("@cron", "*/3 * * * * *", "a").await;
    let mut jobs = 0;
    for second in 1..19 {
        jobs += site.fire_at(&format!("2026-11-20T12:00:{second:02}Z")).await;
        site.end_jobs(&id, 1, None).await;
    }
    assert_eq!(jobs, 6, "from second 3 to second 18");
}

#[tokio::test]
async fn j21_once_leaves_nothing_behind() {
    let site = TriggerFixture::new().await;
    let ids = [site.create("@in", "10m", "a").await, site.create("@at", "2026-11-20T12:10:00Z", "b").await];
    assert_eq!(site.fire_at("2026-11-20T12:10:00Z").await, 2);
    for id in ids {
        assert!(matches!(site.context.triggers().get(&site.alice, &id), Err(Error::NotFound(_))));
    }
    assert_eq!(site.context.triggers().list_of_account(&site.alice, "a").expect("read").len(), 0);
    assert_eq!(site.context.core().store().next_due_at().expect("read"), None);
}

#[tokio::test]
async fn a_client_that_does_not_come_back_has_a_day() {
    let site = TriggerFixture::new().await;
    let id = site.create("@client", "", "a").await;
    let launch = async || site.context.triggers().launch(&site.alice, &id).await.expect("a job").id;
    let (left, ended) = (launch().await, launch().await);
    site.context.jobs().end_client_job(&site.alice, &ended, None).await.expect("ended");
    site.fire_at("2026-11-21T11:59:59Z").await;
    assert_eq!(site.context.jobs().get(&site.alice, &left).expect("a job").state, JobStatus::Running);
    site.fire_at("2026-11-21T12:00:00Z").await;
    let left = site.context.jobs().get(&site.alice, &left).expect("a job");
    assert_eq!((left.state, left.error.as_deref()), (JobStatus::Errored, Some("UNKNOWN_ERROR.TIMEOUT")));
    assert_eq!(site.context.jobs().get(&site.alice, &ended).expect("a job").state, JobStatus::Done);
    assert_eq!(site.context.core().store().next_due_at().expect("read"), None);
}

/// A machine without a battery for its clock.
#[tokio::test]
async fn nothing_fires_before_the_clock_can_be_right() {
    let site = TriggerFixture::new().await;
    let id = site.create("@every", "1h", "a").await;
    let event = site.create("@event", "io.cozy.bills:CREATED", "b").await;
    site.clock.set(at("1970-01-01T00:05:00Z"));
    site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    assert_eq!(site.fire_at("1970-01-01T00:06:00Z").await, 0);
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 2);
    assert_eq!((site.counters(&id).fired, site.counters(&event).fired), (1, 1));
}

#[tokio::test]
async fn one_trigger_that_cannot_be_read_does_not_hold_up_the_others() {
    let site = TriggerFixture::new().await;
    let good = site.create("@every", "1h", "a").await;
    let bad = site.create("@every", "30m", "b").await;
    let at_bad = site.alice.doc(&TRIGGERS, bad.as_str());
    let found = site.context.core().store().get(&at_bad).expect("read").expect("a trigger");
    let mut changes = Changes::new();
    changes.put(at_bad.clone(), &found.rev, to_object(&json!({ "type": 7 })).expect("an object"));
    site.context.core().store().commit(changes).await.expect("committed");
    assert_eq!(site.fire_at("2026-11-20T13:00:00Z").await, 1);
    assert_eq!(site.jobs(&good).len(), 1);
    assert_eq!(site.context.core().store().due_at(&at_bad).expect("read"), None);
}

/// A trigger that predates the validation of messages, or comes from a backup. Its status says that it is unusable, and
/// it resumes once it is corrected.
#[tokio::test]
async fn a_trigger_that_makes_no_job_says_so_and_can_be_mended() {
    let site = TriggerFixture::new().await;
    let write = async |id: &str, change: &dyn Fn(&mut Object)| {
        let at = site.alice.doc(&TRIGGERS, id);
        let mut found = site.context.core().store().get(&at).expect("read").expect("a trigger");
        change(&mut found.body);
        let mut changes = Changes::new();
        changes.put(at, &found.rev, found.body);
        site.context.core().store().commit(changes).await.expect("committed");
    };
    let timed = site.create("@every", "1h", "a").await;
    let event = site.create("@event", "io.cozy.bills", "b").await;
    let odd = site.create("@cron", "0 0 3 * * *", "c").await;
    for id in [&timed, &event] {
        write(id, &|body| drop(body.insert("message".to_owned(), json!("foo")))).await;
    }
    write(&odd, &|body| drop(body.insert("arguments".to_owned(), json!("when it rains")))).await;
    site.save("io.cozy.bills", json!({ "amount": 3 })).await;
    assert_eq!(site.fire_at("2026-11-21T13:00:00Z").await, 0);
    for id in [&timed, &event, &odd] {
        let state = site.context.triggers().status(&site.alice, id).expect("a state");
        assert_eq!(state.status, Some(JobStatus::Errored));
        assert_eq!(state.last_error.as_deref(), Some("UNKNOWN_ERROR.UNUSABLE_TRIGGER"));
        assert_eq!(state.paused.map(|pause| pause.since), Some(at("2026-11-21T13:00:00Z")));
    }
    assert_eq!(site.context.core().store().next_due_at().expect("read"), None, "nothing is tried again and again");
    let message = TriggerPatch { message: Some(json!({ "konnector": "bank" })), ..TriggerPatch::default() };
    for id in [&timed, &event] {
        site.context.triggers().patch(&site.alice, id, message.clone()).await.expect("patched");
    }
    let crontab = TriggerPatch { arguments: Some("0 0 3 * * *".to_owned()), ..TriggerPatch::default() };
    site.context.triggers().patch(&site.alice, &odd, crontab).await.expect("patched");
    site.save("io.cozy.bills", json!({ "amount": 4 })).await;
    assert_eq!(site.fire_at("2026-11-22T13:00:00Z").await, 3);
    for id in [&timed, &event, &odd] {
        assert_eq!(site.jobs(id).len(), 1);
        assert_eq!(site.context.triggers().status(&site.alice, id).expect("a state").paused, None);
    }
}
