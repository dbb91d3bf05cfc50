//! A process that is killed at any moment loses no acknowledged data.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::child::{WriterProcess, check};
use crate::support::{assert_no_sled_blobs, open};

/// Total number of rounds; `KONNECTOR_STORE_CRASH_ROUNDS` overrides it.
const ROUNDS: usize = 200;
/// Two lanes share the processors: while one waits for its time to kill, the other checks.
const LANES: usize = 2;
/// Number of rounds per folder, limited to make the checks short.
const ROUNDS_PER_FOLDER: usize = 10;

fn rounds() -> usize {
    std::env::var("KONNECTOR_STORE_CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

/// Spreads the delays evenly, without a pattern that rounds could share (a van der Corput sequence).
fn kill_delay(round: usize) -> Duration {
    let part = (round as u32).reverse_bits() as f64 / f64::from(u32::MAX);
    // Every other round ends during the start, which takes some tens of milliseconds; the others end during the writes.
    Duration::from_secs_f64(if round.is_multiple_of(2) { part * 0.06 } else { 0.02 + part * 0.2 })
}

#[test]
fn acknowledged_commits_survive_a_kill() {
    let started = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            std::thread::spawn(move || {
                let numbers: Vec<usize> = (lane..rounds()).step_by(LANES).collect();
                numbers
                    .chunks(ROUNDS_PER_FOLDER)
                    .map(run_rounds)
                    .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
            })
        })
        .collect();
    let sums = lanes.into_iter().map(|lane| lane.join().unwrap());
    let (acknowledged, silent) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{} rounds in {:?}: {acknowledged} commits, {silent} rounds without any", rounds(), started.elapsed());
    assert!(acknowledged > rounds(), "only {acknowledged} commits: the test shows little");
    assert!(silent > rounds() / 20, "only {silent} kills fell into the start");
}

/// Runs some rounds on one folder; returns the number of acknowledged commits and the number of rounds without any.
fn run_rounds(rounds: &[usize]) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut all, mut silent) = (HashSet::new(), 0);
    for round in rounds {
        let child = WriterProcess::start(dir.path(), *round, None, None);
        std::thread::sleep(kill_delay(*round));
        let ended = child.kill();
        silent += usize::from(ended.acknowledged.is_empty());
        all.extend(ended.acknowledged);
        // Every third start directly follows a kill, without a check in between.
        if round % 3 != 0 {
            let store = open(dir.path());
            runtime.block_on(check(&store, &all));
        }
    }
    let store = open(dir.path());
    runtime.block_on(check(&store, &all));
    drop(store);
    assert_no_sled_blobs(dir.path());
    (all.len(), silent)
}
