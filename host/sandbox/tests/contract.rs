//! A released version of the contract is not changed any more.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

fn wit_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// What is left of a WIT text when comments and white space are taken away.
fn normalize(text: &str) -> String {
    assert!(!text.contains("/*"), "write comments as `//` or `///`");
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn checksum(text: &str) -> String {
    hex::encode(Sha256::digest(normalize(text)))
}

/// The text of each version: its files in the order of their names.
fn versions() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(wit_dir()).unwrap().map(|entry| entry.unwrap().path());
    let text = |folder: PathBuf| {
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<Vec<_>>();
        (folder.file_name().unwrap().to_str().unwrap().to_owned(), texts.join("\n"))
    };
    entries.filter(|path| path.is_dir()).map(text).collect()
}

/// Says which released versions are not what they were.
fn contract_violations(released: &str, versions: &BTreeMap<String, String>) -> Vec<String> {
    let lines = released.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let check = |line: &str| {
        let (version, expected) = line.split_once(' ').expect("`<version> <checksum>`");
        match versions.get(version) {
            None => Some(format!("wit/{version} was released and must stay; put the folder back")),
            Some(text) if checksum(text) != expected => Some(format!(
                "wit/{version} is released and must not change; undo the change, and make it in a new folder (wit/README.md)"
            )),
            Some(_) => None,
        }
    };
    lines.filter_map(check).collect()
}

#[test]
fn released_versions_are_unchanged() {
    let versions = versions();
    for (version, text) in &versions {
        println!("{version} {}", checksum(text));
        assert!(
            normalize(text).contains(&format!("package konnector:host@{version};")),
            "the package line in wit/{version} names another version"
        );
    }
    let released = std::fs::read_to_string(wit_dir().join("released.txt")).unwrap();
    assert_eq!(contract_violations(&released, &versions), Vec::<String>::new());
}

#[test]
fn a_change_is_detected_and_a_comment_is_not_a_change() {
    let text = "package konnector:host@0.9.0; // one\ninterface a { b: func(); }";
    let version = |text: &str| BTreeMap::from([("0.9.0".to_owned(), text.to_owned())]);
    let released = format!("# a comment\n0.9.0 {}\n", checksum(text));
    let commented = "/// Another\npackage konnector:host@0.9.0;\n\n  interface a {\n b: func(); }";
    assert!(contract_violations(&released, &version(commented)).is_empty());
    let renamed = text.replace('b', "c");
    insta::assert_snapshot!(contract_violations(&released, &version(&renamed)).concat(), @"wit/0.9.0 is released and must not change; undo the change, and make it in a new folder (wit/README.md)");
    insta::assert_snapshot!(contract_violations(&released, &BTreeMap::new()).concat(), @"wit/0.9.0 was released and must stay; put the folder back");
}
