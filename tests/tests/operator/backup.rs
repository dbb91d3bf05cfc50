//! `backup` and `keys` with a wrong path or a wrong key.

use konnector_tests::server::{TestServer, run_command};
use serde_json::Value;

use crate::{run_error, run_ok};

#[test]
fn a_wrong_key_or_folder_is_named_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    for data in [&data, &other] {
        std::fs::create_dir(data).expect("a folder");
        TestServer::start(data).stop();
    }
    let wrong_key = other.join("master-key").display().to_string();
    let target = folder.path().display().to_string();
    let created = run_ok(&data, &["backup", "create", &target]);
    let backup = created["file"].as_str().expect("a path").to_owned();
    assert!(backup.starts_with(&format!("{target}/konnector-")), "{backup}");

    let refused = run_error(&data, &["backup", "verify", &backup, "--key-file", &wrong_key]);
    assert!(refused.starts_with("78 ") && refused.contains("pass the right key"), "{refused}");
    assert!(!refused.contains("another backup"), "{refused}");
    let none = folder.path().join("none");
    // Another folder, because the name of a backup is its second.
    let elsewhere = data.display().to_string();
    let refused = run_error(&none, &["backup", "create", &elsewhere]);
    assert!(refused.starts_with("2 ") && refused.contains("contains no store"), "{refused}");

    let shown = run_command(&data, &["keys", "show", "--key-file", &wrong_key]);
    assert_eq!(shown.code, Some(78), "{shown:?}");
    assert!(shown.json["fingerprint"] != shown.json["data"] && shown.json["data"] != Value::Null, "{shown:?}");
    assert_eq!(run_command(&data, &["keys", "show"]).code, Some(0));
}

#[test]
fn a_taken_alias_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let _server = TestServer::start(data);
    run_ok(data, &["instances", "add", "alice.example", "--alias", "taken.example"]);
    let refused = run_error(data, &["instances", "add", "bob.example", "--alias", "taken.example"]);
    assert_eq!(refused, "1 the domain 'taken.example' already belongs to an instance; choose another one");
    let refused = run_error(data, &["instances", "add", "alice.example"]);
    assert_eq!(refused, "1 the domain 'alice.example' already belongs to an instance; choose another one");
}
