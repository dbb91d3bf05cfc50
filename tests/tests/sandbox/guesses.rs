//! No import reveals to a guest whether a guess is a secret: each is given the right value and a wrong one, and
//! returns the same.

use std::collections::BTreeSet;
use std::path::Path;

use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::run;

/// Imports of WASI that take or return strings, and the guest's stand-ins for them.
const OF_WASI: [&str; 5] =
    ["cli.stdout", "filesystem.list", "filesystem.missing", "filesystem.read", "filesystem.write"];

/// Each function of the contract that a konnector can import, as `interface.function`.
fn imports() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/0.1.0/konnector.wit");
    let contract = std::fs::read_to_string(path).unwrap();
    let (mut interface, mut imports) = (String::new(), BTreeSet::new());
    for line in contract.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("interface ") {
            interface = name.trim_end_matches([' ', '{']).to_owned();
        }
        if let Some((name, _)) = line.split_once(": ").filter(|(_, rest)| rest.contains("func(")) {
            imports.insert(format!("{interface}.{name}"));
        }
    }
    imports.remove("run.run");
    imports
}

/// The lines in which the guest logs its results, and those of the log that anyone else would read.
async fn answers(guess: &str) -> (Vec<(String, String)>, FakeEnvironment, String) {
    let environment = FakeEnvironment::default();
    let output = run(&guest("guesses"), json!({ "guess": guess }), &environment).await;
    let imports: BTreeSet<_> = imports().into_iter().chain(OF_WASI.map(str::to_owned)).collect();
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    // A file whose content is the guess is read as its bytes and has its hash, which the guest knows as well.
    let (hash, bytes) = (hex::encode(Sha256::digest(guess)), format!("{:?}", guess.as_bytes()));
    let forms = [(backwards(guess), "GUESS"), (backwards(&hash), "HASH"), (backwards(&bytes), "BYTES")];
    let without_guess =
        |answer: &str| forms.iter().fold(answer.to_owned(), |answer, (form, name)| answer.replace(form, name));
    let log = environment.log();
    let answers = log.lines().filter_map(|line| {
        let (import, answer) = line.strip_prefix("Info: ")?.split_once(' ')?;
        imports.contains(import).then(|| (import.to_owned(), without_guess(answer)))
    });
    let answers = answers.collect();
    (answers, environment, format!("{:?} {:?}", output.outcome, output.receipt))
}

#[tokio::test]
async fn every_import_treats_a_right_guess_like_a_wrong_one() {
    let (right, environment, outcome) = answers("hunter22").await;
    let called_imports: BTreeSet<_> = right.iter().map(|(import, _)| import.clone()).collect();
    let missing: Vec<_> = imports().into_iter().filter(|import| !called_imports.contains(import)).collect();
    assert!(missing.is_empty(), "the guest `guesses` has no case for {missing:?}");
    assert!(OF_WASI.iter().all(|import| called_imports.contains(*import)));
    // The output of the process is masked, so the guess was the secret.
    assert!(environment.log().contains("[masked]") && !environment.log().contains("hunter22"), "{}", environment.log());
    assert!(outcome.contains("[masked]") && !outcome.contains("hunter22"), "{outcome}");
    for wrong in ["hunter23", "hxnter22"] {
        let (other, _, _) = answers(wrong).await;
        assert_eq!(right.len(), other.len());
        for (one, other) in right.iter().zip(&other) {
            assert_eq!(one, other, "an answer tells a right guess from a wrong one");
        }
    }
}
