//! Random sequences of jobs that fail, succeed, and are requested again, with an in-memory store and a clock that is
//! set by hand.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::TimeDelta;
use konnector_sandbox::{Failure, Outcome, Sandbox};
use konnector_store::Store;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::job::transition::LeaseAuthority;
use crate::job::{Cause, JobFailure, JobRequest, TriggerPayload};
use crate::trigger::NewTrigger;
use crate::{JobContext, test_support};
use konnector_documents::clock::{Clock as _, ManualClock};
use konnector_documents::instance::InstancePatch;

static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(test_support::sandbox);

struct ChainFixture {
    context: JobContext,
    clock: Arc<ManualClock>,
    alice: Instance,
    triggers: Vec<String>,
    _folder: TempDir,
}

/// How a run ends.
#[derive(Debug, Clone, Copy)]
enum RunEnd {
    Success,
    Down,
    Limited(u32),
    Bug,
}

#[derive(Debug, Clone)]
enum ChainStep {
    /// A trigger is launched by hand.
    Launch(usize),
    /// A job is pushed without a trigger. The first two do the same work.
    Push(usize),
    /// A webhook is called with a body.
    Webhook(u8),
    /// The next job that may run does so, and ends like this.
    Run(RunEnd),
    /// Minutes pass.
    Wait(i64),
}

impl ChainFixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new("2026-11-20T12:00:00Z".parse().expect("a date")));
        let context = test_support::context(Store::in_memory(), folder.path(), &clock, Arc::clone(&SANDBOX));
        let alice =
            context.core().instances().create("alice.example", &InstancePatch::default()).await.expect("an instance");
        let mut triggers = Vec::new();
        for (kind, account) in [("@cron", Some("a")), ("@cron", Some("b")), ("@cron", None), ("@webhook", Some("a"))] {
            let new = NewTrigger {
                kind: kind.to_owned(),
                // Far in the future, so that retries come first.
                arguments: "0 0 0 1 1 *".to_owned(),
                worker: KONNECTOR_WORKER.to_owned(),
                message: account.map_or_else(
                    || json!({ "konnector": "bank" }),
                    |account| json!({ "konnector": "bank", "account": account }),
                ),
                ..NewTrigger::default()
            };
            triggers.push(context.triggers().create(&alice, new).await.expect("a trigger").id);
        }
        Self { context, clock, alice, triggers, _folder: folder }
    }

    async fn push(&self, number: usize) {
        let messages = [
            json!({ "konnector": "bank", "account": "a" }),
            json!({ "konnector": "bank", "account": "a" }),
            json!({ "konnector": "bank", "account": "a", "mode": "full" }),
            json!({ "konnector": "bank" }),
            json!({ "konnector": "shop" }),
        ];
        let request = JobRequest {
            worker: KONNECTOR_WORKER.to_owned(),
            message: messages[number % messages.len()].clone(),
            options: None,
            cause: Cause::Manual,
            trigger: None,
            payload: TriggerPayload::default(),
        };
        self.context.jobs().push(&self.alice, request).await.expect("pushed");
    }

    /// Runs the job that may run first; returns it after its end.
    async fn run(&self, end: RunEnd) -> Option<Job> {
        let failure = match end {
            RunEnd::Success => None,
            RunEnd::Down => Some(Failure::VendorDown(String::new())),
            RunEnd::Limited(seconds) => Some(Failure::RateLimited(Some(seconds))),
            RunEnd::Bug => Some(Failure::Bug(String::new())),
        };
        let verdict = failure.and_then(|failure| JobFailure::from_outcome(&Outcome::Failed(failure)));
        let now = self.clock.now();
        let started = move |body: &mut konnector_store::Map| {
            body.insert("state".to_owned(), json!("running"));
            body.insert("started_at".to_owned(), json!(now));
        };
        let lease =
            self.context.core.store().claim("w", now, 1, &|_, _| Vec::new(), &started).await.expect("claimed").pop()?;
        self.context
            .jobs()
            .apply(&lease.job, LeaseAuthority::Holder(&lease), JobEvent::Ended(verdict), None)
            .await
            .expect("settled");
        Some(self.context.jobs().get(&self.alice, &lease.job.id).expect("a job"))
    }

    fn live(&self) -> Vec<Job> {
        self.context.jobs().list_live(&self.alice, KONNECTOR_WORKER).expect("read")
    }

    fn retries(&self) -> Vec<Job> {
        self.live().into_iter().filter(|job| job.retry_of.is_some()).collect()
    }

    async fn step(&self, step: &ChainStep) -> Option<Job> {
        match step {
            ChainStep::Launch(number) => {
                let trigger = &self.triggers[number % 3];
                self.context.triggers().launch(&self.alice, trigger).await.expect("launched");
            }
            ChainStep::Push(number) => self.push(*number).await,
            ChainStep::Webhook(body) => {
                let called =
                    self.context.triggers().call_webhook(&self.alice, &self.triggers[3], &[*body], false).await;
                // The rate limit of this hour may be reached.
                drop(called);
            }
            ChainStep::Run(end) => return self.run(*end).await,
            ChainStep::Wait(minutes) => self.clock.set(self.clock.now() + TimeDelta::minutes(*minutes)),
        }
        None
    }

    /// Checks the invariants after each step.
    fn check(&self, ended: Option<&Job>) {
        let mut chains: HashMap<String, usize> = HashMap::new();
        for retry in self.retries() {
            if let Some(chain) = retry.chain_key() {
                *chains.entry(chain).or_default() += 1;
            }
        }
        assert!(chains.values().all(|count| *count == 1), "more than one retry of the same work: {chains:?}");
        let Some(ended) = ended else { return };
        if ended.state == JobStatus::Done
            && let Some(chain) = ended.chain_key()
        {
            // The body of a webhook is erased at the end. Its job then looks as if it belonged to its trigger's chain,
            // in which nothing fails here.
            assert!(!chains.contains_key(&chain), "a success left a retry of {chain}");
        }
        assert_eq!(ended.next_attempt_at.is_some(), ended.retried_as.is_some(), "{ended:?}");
        if let Some(retry) = &ended.retried_as {
            let retry = self.context.jobs().get(&self.alice, retry).expect("the retry that is named");
            assert_eq!(retry.state, JobStatus::Queued);
            let at = self.alice.doc(&JOBS, retry.id.as_str());
            let queued = self.context.core.store().get_queued(&at).expect("read").expect("in the queue");
            assert_eq!(
                Some(queued.entry.run_at),
                ended.next_attempt_at.map(|at| chrono::SubsecRound::trunc_subsecs(at, 6))
            );
            let sentence = ended.error_message.as_deref().unwrap_or_default();
            assert!(sentence.contains("It will be retried at") && sentence.contains(&retry.id), "{sentence}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<ChainStep>> {
    let end = prop_oneof![
        Just(RunEnd::Success),
        Just(RunEnd::Down),
        Just(RunEnd::Down),
        (1..100_000_u32).prop_map(RunEnd::Limited),
        Just(RunEnd::Bug)
    ];
    let step = prop_oneof![
        2 => (0..3_usize).prop_map(ChainStep::Launch),
        2 => (0..5_usize).prop_map(ChainStep::Push),
        1 => any::<u8>().prop_map(ChainStep::Webhook),
        6 => end.prop_map(ChainStep::Run),
        3 => (0..600_i64).prop_map(ChainStep::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn work_that_is_the_same_has_one_retry(steps in steps()) {
        block_on(async {
            let site = ChainFixture::new().await;
            for step in &steps {
                let ended = site.step(step).await;
                site.check(ended.as_ref());
            }
        });
    }
}

#[tokio::test]
async fn four_manual_runs_of_a_vendor_that_is_down_have_one_retry_which_a_success_ends() {
    let site = ChainFixture::new().await;
    let mut named = Vec::new();
    for _ in 0..4 {
        site.step(&ChainStep::Launch(0)).await;
        named.extend(site.run(RunEnd::Down).await.expect("ran").retried_as);
    }
    let [retry] = &site.retries()[..] else { panic!("{:?}", site.retries()) };
    assert_eq!((named.len(), named.iter().all(|name| *name == retry.id), retry.attempt), (4, true, 2));
    // Another account means other work.
    site.step(&ChainStep::Launch(1)).await;
    site.run(RunEnd::Down).await;
    assert_eq!(site.retries().len(), 2);
    site.step(&ChainStep::Launch(0)).await;
    let success = site.run(RunEnd::Success).await.expect("ran");
    assert_eq!(site.retries().len(), 1);
    let ended = site.context.jobs().get(&site.alice, &retry.id).expect("a job");
    assert_eq!((ended.state, ended.superseded_by.as_ref()), (JobStatus::Done, Some(&success.id)));
    assert_eq!((ended.started_at, ended.error), (None, None));
    let state = site.context.triggers().status(&site.alice, &site.triggers[0]).expect("a state");
    assert_eq!((state.status, state.last_successful_job_id), (Some(JobStatus::Done), Some(success.id)));
    assert!(state.last_success.is_some());
}

/// A payload that only one job has is neither dropped nor considered done because of another job.
#[tokio::test]
async fn what_a_webhook_brought_is_retried_on_its_own() {
    let site = ChainFixture::new().await;
    for body in [1, 2] {
        site.step(&ChainStep::Webhook(body)).await;
        site.run(RunEnd::Down).await.expect("ran");
    }
    let retries = site.retries();
    assert_eq!(
        retries.iter().map(|job| job.payload.webhook_body()).collect::<Vec<_>>(),
        [Some(vec![1]), Some(vec![2])]
    );
    site.context.triggers().launch(&site.alice, &site.triggers[3]).await.expect("launched");
    site.run(RunEnd::Success).await.expect("ran");
    assert_eq!(site.retries().len(), 2);
}

#[tokio::test]
async fn a_vendor_that_asks_for_more_time_gets_it_from_the_retry_that_waits() {
    let site = ChainFixture::new().await;
    site.step(&ChainStep::Launch(0)).await;
    let first = site.run(RunEnd::Down).await.expect("ran");
    site.step(&ChainStep::Launch(0)).await;
    let second = site.run(RunEnd::Limited(90_000)).await.expect("ran");
    assert_eq!(first.retried_as, second.retried_as);
    assert_eq!(second.next_attempt_at, Some(site.clock.now() + Duration::from_secs(90_000)));
    site.step(&ChainStep::Wait(24 * 60)).await;
    assert!(site.run(RunEnd::Success).await.is_none(), "not before");
    site.step(&ChainStep::Wait(60)).await;
    assert_eq!(site.run(RunEnd::Success).await.map(|job| Some(job.id)), Some(first.retried_as));
}
