//! Manifests of authors: each installs, or is rejected with the position and the reason.

use std::path::Path;

use serde_json::Value;

use crate::support::{Api, TestRequest, component};

/// Names a folder with more manifests, one in each file. To try them: `KONNECTOR_MANIFESTS=… cargo test -p
/// konnector-api -- --ignored --nocapture manifests_of_a_given_folder`.
const FOLDER_VARIABLE: &str = "KONNECTOR_MANIFESTS";

/// Name, manifest and expected outcome: `ready`, or a part of the error.
const SAMPLES: [(&str, &str, &str); 13] = [
    ("the least", r#"{ "name": "A", "version": "1.0.0" }"#, "ready"),
    (
        "an older one",
        r##"{ "version": "0.1.0", "name": "Telco", "type": "node", "slug": "telco", "language": "node", "icon": "telco.svg",
            "source": "git@example.org:telco.git", "frequency": "weekly", "categories": ["telecom"], "color": { "hex": "#000" },
            "fields": { "login": { "type": "text" }, "password": { "type": "password" },
                "advancedFields": { "folderPath": { "advanced": true, "isRequired": false } } },
            "dataType": ["bill"], "permissions": {
                "bills": { "description": "Saves bills", "type": "io.cozy.bills" },
                "files": { "description": "Saves PDFs", "type": "io.cozy.files" },
                "accounts": { "description": "Reads your login", "type": "io.cozy.accounts", "verbs": ["GET"] } } }"##,
        "ready",
    ),
    (
        "a bank",
        r#"{ "version": "3.2.1", "name": "Bank", "type": "konnector", "language": "node", "manifest_version": "2", "editor": "Me",
            "vendor_link": "https://bank.example", "categories": ["banking"], "time_interval": [1, 6], "frequency": "daily",
            "fields": { "login": { "type": "text", "identifier": true, "min": 8, "max": 11, "pattern": "\\d+" },
                "code": { "type": "dropdown", "options": [{ "name": "One", "value": "1" }], "default": "1" } },
            "permissions": { "ops": { "type": "io.cozy.bank.operations", "verbs": ["ALL"] },
                "own": { "type": "io.cozy.jobs", "verbs": ["POST"], "selector": "worker", "values": ["sendmail"] } },
            "notifications": { "balance": { "description": "x", "min_interval": "24h" } } }"#,
        "ready",
    ),
    (
        "one that signs in elsewhere",
        r#"{ "name": "Cloud", "version": "1.0.0", "type": "konnector", "oauth": { "scope": ["a", "b"] }, "aggregator": { "accountId": "x" },
            "parameters": { "api": 2 }, "locales": { "fr": { "short_description": "é" } }, "screenshots": [], "permissions": {} }"#,
        "ready",
    ),
    (
        "one that runs in a client",
        r#"{ "name": "Phone", "version": "1.0.0-beta.1", "type": "konnector", "clientSide": true, "language": "node",
            "folders": [{ "defaultDir": "$administrative/$konnector/$account" }], "permissions": { "logs": { "type": "io.cozy.apps.logs" } } }"#,
        "ready",
    ),
    (
        "one with terms that cleans up",
        r#"{ "name": "Terms", "version": "1.0.0", "terms": { "id": "t", "url": "https://a.example/t", "version": "2" },
            "on_delete_account": "onDeleteAccount.js", "permissions": { "every": { "type": "io.cozy.bank.*" } } }"#,
        "ready",
    ),
    ("not JSON", "{\n  \"name\": \"A\",\n  \"version\": 1.0.0\n}", "line 3, column 17"),
    (
        "a web app",
        r#"{ "name": "A", "version": "1.0.0", "type": "webapp" }"#,
        "type: \"webapp\" is not valid for a konnector",
    ),
    ("no name", r#"{ "version": "1.0.0" }"#, "name: this field is required"),
    ("no version", r#"{ "name": "A" }"#, "version: this field is required"),
    ("a number", r#"{ "name": "A", "version": 1 }"#, "version: expected a string, found a number"),
    (
        "an unknown verb",
        r#"{ "name": "A", "version": "1.0.0", "permissions": { "b": { "type": "io.cozy.bills", "verbs": ["GET", "LOOK"] } } }"#,
        r#"permissions.b.verbs: "LOOK" is not a valid verb"#,
    ),
    (
        "an illegal type",
        r#"{ "name": "A", "version": "1.0.0", "permissions": { "b": { "type": "io.cozy.*" } } }"#,
        "permissions.b.type",
    ),
];

/// Installs a manifest; returns the outcome.
async fn install(api: &Api, folder: &Path, slug: &str, text: &[u8]) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("manifest.konnector"), text).expect("written");
    let component_name = serde_json::from_slice::<Value>(text)
        .ok()
        .and_then(|manifest| Some(manifest.get("component")?.as_str()?.to_owned()));
    std::fs::write(folder.join(component_name.as_deref().unwrap_or("konnector.wasm")), component(true))
        .expect("written");
    let events = api.follow(TestRequest::post(&format!("/konnectors/{slug}?Source=file://{}", folder.display()))).await;
    let last = events.last().expect("an event");
    if last.starts_with("ready ") { "ready".to_owned() } else { last.clone() }
}

#[tokio::test]
async fn manifests_install_or_are_refused_with_place_and_reason() {
    let api = Api::new().await;
    for (position, (name, text, expected)) in SAMPLES.iter().enumerate() {
        let folder = api.folder.path().join(format!("sample-{position}"));
        let outcome = install(&api, &folder, &format!("sample-{position}"), text.as_bytes()).await;
        assert!(outcome.contains(expected), "{name}: {outcome}");
    }
}

#[tokio::test]
#[ignore = "reads the manifests of a folder that KONNECTOR_MANIFESTS names"]
async fn manifests_of_a_given_folder_install_or_are_rejected() {
    let samples = std::env::var_os(FOLDER_VARIABLE).expect(FOLDER_VARIABLE);
    let api = Api::new().await;
    let mut rejected = Vec::new();
    let mut ready = 0;
    for (position, entry) in std::fs::read_dir(&samples).expect("a folder").enumerate() {
        let path = entry.expect("an entry").path();
        let text = std::fs::read(&path).expect("a manifest");
        let folder = api.folder.path().join(format!("own-{position}"));
        match install(&api, &folder, &format!("own-{position}"), &text).await.as_str() {
            "ready" => ready += 1,
            reason => rejected.push(format!("{}: {reason}", path.file_name().expect("a name").to_string_lossy())),
        }
    }
    println!("{ready} installed, {} refused\n{}", rejected.len(), rejected.join("\n"));
    assert!(ready + rejected.len() > 0, "the folder is empty");
    // Each refusal names the line, or the field.
    let placed = |reason: &String| reason.contains("line ") || reason.contains("cannot be used: ");
    assert!(rejected.iter().all(placed), "{rejected:#?}");
}
