//! Schedules, jobs, leases and recovery of several nodes over one store, on virtual time, with everything going wrong that can: nodes
//! crash, stand still for longer than their leases, clocks jump, all power fails and what was not durable is lost.
//!
//! The platform is the real one; simulated are the disk, the clocks, chance, and what a run does. One seed decides everything:
//!
//! ```text
//! KONNECTOR_SIM_SEED=17      this seed alone
//! KONNECTOR_SIM_STEPS=0      on and on, from a random seed (a number: at least so many steps)
//! KONNECTOR_SIM_MUTATION=…   with a fault put in, which must be found; see mutation.rs
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]
#![allow(missing_docs, reason = "this is a test")]

mod checks;
mod disk;
mod mutation;
mod node;
mod random;
mod scenario;
mod vendor;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use konnector_egress::{Gate, GateOptions};
use konnector_sandbox::Sandbox;
use konnector_store::MasterKey;

use crate::scenario::{Scenario, ScenarioReport};

/// Steps (commits, requests to vendors, faults) that an ordinary test takes at least.
const STEPS: u64 = 100_000;

/// What is costly to make, for all seeds.
struct TestBed {
    sandbox: Arc<Sandbox>,
    gate: Gate,
    folder: tempfile::TempDir,
}

impl TestBed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        MasterKey::create(&folder.path().join("key")).unwrap();
        let options = konnector_sandbox::SandboxOptions {
            max_runs: 1,
            worker_threads: 1,
            ..konnector_sandbox::SandboxOptions::default()
        };
        Self {
            sandbox: Arc::new(Sandbox::new(options).unwrap()),
            gate: Gate::new(GateOptions::default()).unwrap(),
            folder,
        }
    }

    /// Plays one seed.
    fn run(&self, seed: u64) -> ScenarioReport {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let played = runtime.block_on(async {
            let story = Scenario::new(self, seed).await;
            tokio::time::timeout(Duration::from_secs(50 * 365 * 24 * 3_600), story.run()).await
        });
        played.unwrap_or_else(|_| panic!("seed {seed}: the story does not end"))
    }

    fn check(&self, seed: u64) -> ScenarioReport {
        let outcome = self.run(seed);
        assert!(
            outcome.violations.is_empty(),
            "KONNECTOR_SIM_SEED={seed} shows after {} steps:\n{}",
            outcome.steps,
            outcome.violations.join("\n")
        );
        outcome
    }
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    let bench = TestBed::new();
    if let Some(seed) = env_number("KONNECTOR_SIM_SEED") {
        println!("{:?}", bench.check(seed));
        return;
    }
    let least = env_number("KONNECTOR_SIM_STEPS").unwrap_or(STEPS);
    let next = AtomicU64::new(if least == 0 { rand_seed() } else { 1 });
    let total = Mutex::new(ScenarioReport::default());
    let enough = || least > 0 && total.lock().is_ok_and(|total| total.steps >= least);
    let play = || {
        while !enough() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let outcome = bench.check(seed);
            if least == 0 {
                println!("seed {seed}: {outcome:?}");
            }
            total.lock().unwrap().add(&outcome);
        }
    };
    // Each story has a runtime, and so a time, of its own.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(play);
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total:?}");
    assert!(total.rejected_writes > 0 && total.lost_writes > 0 && total.retried > 0, "too little happened: {total:?}");
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) >> 16
}

/// The same seed tells the same story.
#[test]
fn a_seed_decides_everything() {
    let bench = TestBed::new();
    for seed in [3, 4] {
        let tell = || format!("{:?}", bench.run(seed));
        assert_eq!(tell(), tell());
    }
}
