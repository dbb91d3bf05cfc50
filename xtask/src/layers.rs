//! Tests of rules of the architecture that Cargo cannot enforce.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates of the host, from the lowest layer to the highest. Each depends only on those before it.
const LAYERS: [&str; 18] = [
    "konnector-manifest",
    "konnector-media-type",
    "konnector-query",
    "konnector-crontab",
    "konnector-egress",
    "konnector-sandbox",
    "konnector-store",
    "konnector-documents",
    "konnector-auth",
    "konnector-files",
    "konnector-packages",
    "konnector-accounts",
    "konnector-jobs",
    "konnector-runner",
    "konnector-platform",
    "konnector-api",
    "konnector",
    "konnector-tests",
];

#[test]
fn each_crate_depends_only_on_layers_below_it() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let layer = |name: &Value| LAYERS.iter().position(|layer| name == layer);
    let mut seen = 0;
    for package in packages {
        let Some(own) = layer(&package["name"]) else { continue };
        seen += 1;
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let is_normal = dependency["kind"].is_null();
            if let Some(other) = layer(&dependency["name"]).filter(|_| is_normal) {
                assert!(other < own, "{} depends on {}, a higher layer", package["name"], dependency["name"]);
            }
        }
    }
    assert_eq!(seen, LAYERS.len(), "a layer was renamed or removed");
    let domain =
        packages.iter().filter(|package| package["manifest_path"].as_str().is_some_and(|path| path.contains("/host/")));
    for package in domain {
        assert!(layer(&package["name"]).is_some(), "{} is missing from LAYERS", package["name"]);
    }
}

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
    let layers = LAYERS
        .iter()
        .take_while(|layer| **layer != "konnector-api")
        // These two are clients of vendors.
        .filter(|layer| !["konnector-egress", "konnector-sandbox"].contains(layer))
        .map(|layer| format!("host/{}/src", layer.strip_prefix("konnector-").unwrap_or(layer)));
    let layers: Vec<String> = layers.collect();
    let found = lines_with(&layers.iter().map(String::as_str).collect::<Vec<_>>(), &words);
    assert_eq!(found, [""; 0]);
}
