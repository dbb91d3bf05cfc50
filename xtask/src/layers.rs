//! Tests of rules of the architecture that Cargo cannot enforce.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns `path:line` of each line below these folders that contains one of the words.
fn lines_with(folders: &[&str], words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    folders.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    assert!(files.len() > 10, "the folders were renamed");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}", file.strip_prefix(root).unwrap_or(&file).display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn api_and_cli_use_handles_and_never_the_store_behind_them() {
    assert_eq!(lines_with(&["host/api/src", "host/cli/src"], &["raw_store("]), [""; 0]);
}

#[test]
fn the_domain_knows_no_http_api() {
    let words = ["axum", "aide::", "jsonapi", "StatusCode::"];
    let found = lines_with(&["host/platform/src", "host/store/src", "host/manifest/src", "host/query/src"], &words);
    assert_eq!(found, [""; 0]);
}
