//! Runs each fuzz target on many inputs, without a fuzzer: 20,000 inputs or two seconds, whichever ends first.
//! `KONNECTOR_FUZZ_SEED` selects other inputs.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use konnector_tests::fuzz::{FuzzTarget, Mutator, TARGETS, target};

const INPUTS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(2);

fn fuzz(target: &FuzzTarget) {
    let seed = std::env::var("KONNECTOR_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in target.seeds {
        (target.run)(seed);
    }
    let (mut mutator, started, mut inputs) = (Mutator::new(seed), Instant::now(), 0);
    while inputs < INPUTS && started.elapsed() < TIME {
        let input = mutator.input(target);
        if catch_unwind(|| (target.run)(&input)).is_err() {
            panic!("{} breaks on input {inputs} of seed {seed}: {}", target.name, input.escape_ascii());
        }
        inputs += 1;
    }
    println!("{}: {inputs} inputs of seed {seed} in {:?}", target.name, started.elapsed());
    assert!(inputs > 100, "{inputs} inputs in {TIME:?}");
}

#[test]
fn manifest() {
    fuzz(target("manifest"));
}

#[test]
fn http_rule() {
    fuzz(target("http_rule"));
}

#[test]
fn protocol() {
    fuzz(target("protocol"));
}

#[test]
fn path() {
    fuzz(target("path"));
}

#[test]
fn each_target_is_one_for_libfuzzer_too() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("fuzz/Cargo.toml");
    for FuzzTarget { name, .. } in TARGETS {
        let text = std::fs::read_to_string(format!("{folder}/fuzz_targets/{name}.rs")).expect(name);
        assert!(text.contains(&format!("konnector_tests::fuzz::{name}")), "{text}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing from fuzz/Cargo.toml");
    }
}
