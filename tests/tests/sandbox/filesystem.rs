//! `/tmp` and `/files`, used by ordinary programs and by hostile ones.

use std::sync::Arc;

use konnector_sandbox::capability::QuotaKind;
use konnector_sandbox::{Outcome, Report, RunOutput};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::fakes::tree::FakeTree;
use konnector_tests::guest;
use serde_json::json;

use super::{run, sentence};

/// An environment with files.
fn environment() -> FakeEnvironment {
    FakeEnvironment { tree: Some(Arc::new(FakeTree::default())), ..FakeEnvironment::default() }
}

fn listed(environment: &FakeEnvironment) -> String {
    environment.tree.as_ref().expect("files").listing()
}

/// Runs the guest that ends in this way.
async fn end(environment: &FakeEnvironment, how: &str) -> RunOutput {
    run(&guest("fs_ends"), json!({ "end": how }), environment).await
}

fn completed(output: &RunOutput, environment: &FakeEnvironment) {
    assert_eq!(output.outcome, Outcome::Completed(Report::default()), "{}", environment.log());
}

#[tokio::test]
async fn an_ordinary_program_works_in_both_directories() {
    let environment = environment();
    let output = run(&guest("std_fs"), json!({ "directories": ["/tmp", "/files"] }), &environment).await;
    completed(&output, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: in /tmp:
    Info: "first line\n"
    Info: "first LINE\nsecond line\n", then "first LINE\nseco"
    Info: 15 bytes, a file: true, changed: true
    Info: "first LINE\nseco"
    Info: a: ["c", "over.txt"]
    Info: a/c: ["note.txt"]
    Info: 100000 bytes while it is written
    Info: 100000 bytes read back
    Info: 0 left
    Info: in /files:
    Info: "first line\n"
    Info: "first LINE\nsecond line\n", then "first LINE\nseco"
    Info: 15 bytes, a file: true, changed: true
    Info: "first LINE\nseco"
    Info: a: ["c", "over.txt"]
    Info: a/c: ["note.txt"]
    Info: 100000 bytes while it is written
    Info: 100000 bytes read back
    Info: 1 left
    "#);
    assert_eq!(output.receipt.files_not_saved, 0);
}

#[tokio::test]
async fn what_tmp_refuses() {
    let environment = environment();
    let output = run(&guest("fs_refusals"), json!({ "directory": "/tmp" }), &environment).await;
    completed(&output, &environment);
    insta::assert_snapshot!(environment.log(), @r"
    Info: read nothing: NotFound, No such file or directory (os error 44)
    Info: create twice: AlreadyExists, File exists (os error 20)
    Info: create a directory twice: AlreadyExists, File exists (os error 20)
    Info: a file as a directory: NotADirectory, Not a directory (os error 54)
    Info: a directory as a file: IsADirectory, Is a directory (os error 31)
    Info: list a file: NotADirectory, Not a directory (os error 54)
    Info: remove a full directory: Uncategorized, Directory not empty (os error 55)
    Info: remove a directory as a file: IsADirectory, Is a directory (os error 31)
    Info: remove a file as a directory: NotADirectory, Not a directory (os error 54)
    Info: rename a file over a directory: IsADirectory, Is a directory (os error 31)
    Info: rename a directory over a file: NotADirectory, Not a directory (os error 54)
    Info: rename over a full directory: Uncategorized, Directory not empty (os error 55)
    Info: rename into itself: InvalidInput, Invalid argument (os error 28)
    Info: rename to elsewhere: CrossesDevices, Cross-device link (os error 75)
    Info: hard link: PermissionDenied, Operation not permitted (os error 63)
    Info: symbolic link: PermissionDenied, Operation not permitted (os error 63)
    Info: read a link: InvalidInput, Invalid argument (os error 28)
    Info: slash at the end of a file: NotADirectory, Not a directory (os error 54)
    Info: slash at the end of a new file: IsADirectory, Is a directory (os error 31)
    Info: slash at the end of a directory: ok
    Info: write what is open for reading: Uncategorized, Bad file descriptor (os error 8)
    Info: read what is open for writing: Uncategorized, Bad file descriptor (os error 8)
    Info: out of it: PermissionDenied, Operation not permitted (os error 63)
    Info: out of it, from deep below: PermissionDenied, Operation not permitted (os error 63)
    Info: up and down within it: ok
    Info: up from a file: NotADirectory, Not a directory (os error 54)
    Info: elsewhere: NotFound, No such file or directory (os error 44)
    Info: nowhere: NotFound, No such file or directory (os error 44)
    Info: NUL: InvalidInput, file name contained an unexpected NUL byte
    Info: the root: NotFound, No such file or directory (os error 44)
    Info: backslashes: ok
    Info: a control character: ok
    Info: a line break: ok
    Info: a device of Windows: ok
    Info: right to left: ok
    Info: 63 emoji: ok
    Info: 64 emoji: InvalidFilename, Filename too long (os error 37)
    Info: a very long path: InvalidFilename, Filename too long (os error 37)
    Info: very deep: InvalidFilename, Filename too long (os error 37)
    Info: everything goes: ok
    ");
}

#[tokio::test]
async fn what_files_refuses() {
    let environment = environment();
    let output = run(&guest("fs_refusals"), json!({ "directory": "/files" }), &environment).await;
    completed(&output, &environment);
    insta::assert_snapshot!(environment.log(), @r"
    Info: read nothing: NotFound, No such file or directory (os error 44)
    Info: create twice: AlreadyExists, File exists (os error 20)
    Info: create a directory twice: AlreadyExists, File exists (os error 20)
    Info: a file as a directory: NotADirectory, Not a directory (os error 54)
    Info: a directory as a file: IsADirectory, Is a directory (os error 31)
    Info: list a file: NotADirectory, Not a directory (os error 54)
    Info: remove a full directory: Uncategorized, Directory not empty (os error 55)
    Info: remove a directory as a file: IsADirectory, Is a directory (os error 31)
    Info: remove a file as a directory: NotADirectory, Not a directory (os error 54)
    Info: rename a file over a directory: IsADirectory, Is a directory (os error 31)
    Info: rename a directory over a file: NotADirectory, Not a directory (os error 54)
    Info: rename over a full directory: Uncategorized, Directory not empty (os error 55)
    Info: rename into itself: InvalidInput, Invalid argument (os error 28)
    Info: rename to elsewhere: CrossesDevices, Cross-device link (os error 75)
    Info: hard link: PermissionDenied, Operation not permitted (os error 63)
    Info: symbolic link: PermissionDenied, Operation not permitted (os error 63)
    Info: read a link: InvalidInput, Invalid argument (os error 28)
    Info: slash at the end of a file: NotADirectory, Not a directory (os error 54)
    Info: slash at the end of a new file: IsADirectory, Is a directory (os error 31)
    Info: slash at the end of a directory: ok
    Info: write what is open for reading: Uncategorized, Bad file descriptor (os error 8)
    Info: read what is open for writing: Uncategorized, Bad file descriptor (os error 8)
    Info: out of it: PermissionDenied, Operation not permitted (os error 63)
    Info: out of it, from deep below: PermissionDenied, Operation not permitted (os error 63)
    Info: up and down within it: ok
    Info: up from a file: NotADirectory, Not a directory (os error 54)
    Info: elsewhere: NotFound, No such file or directory (os error 44)
    Info: nowhere: NotFound, No such file or directory (os error 44)
    Info: NUL: InvalidInput, file name contained an unexpected NUL byte
    Info: the root: NotFound, No such file or directory (os error 44)
    Warn: /files: the file name is not valid; use '..-..-x' instead
    Info: backslashes: InvalidInput, Invalid argument (os error 28)
    Warn: /files: the file name is not valid; use 'ab' instead
    Info: a control character: InvalidInput, Invalid argument (os error 28)
    Warn: /files: the file name is not valid; use 'ab' instead
    Info: a line break: InvalidInput, Invalid argument (os error 28)
    Warn: /files: the file name is not valid; use '_CON.pdf' instead
    Info: a device of Windows: InvalidInput, Invalid argument (os error 28)
    Warn: /files: the file name is not valid; use 'afdp.exe' instead
    Info: right to left: InvalidInput, Invalid argument (os error 28)
    Info: 63 emoji: InvalidFilename, Filename too long (os error 37)
    Info: 64 emoji: InvalidFilename, Filename too long (os error 37)
    Info: a very long path: InvalidFilename, Filename too long (os error 37)
    Info: very deep: InvalidFilename, Filename too long (os error 37)
    Info: everything goes: ok
    ");
    insta::assert_snapshot!(listed(&environment), @r#"
    /Closed/
    /Hidden/
    /e/
    /f (1 bytes) "f"
    /slash/
    "#);
}

#[tokio::test]
async fn tmp_is_held_to_its_quota() {
    let environment = environment();
    let output = run(&guest("fs_flood"), json!({}), &environment).await;
    insta::assert_snapshot!(environment.log(), @r#"
    Warn: /tmp: the run's limit scratch_mib of 32 MiB has been reached
    Info: 1 GiB: Some(Os { code: 29, kind: Uncategorized, message: "I/O error" }) after 33554432 bytes
    Info: reading goes on: Ok(33554432)
    Warn: /tmp: the run's limit scratch_mib of 32 MiB has been reached
    Info: a hole of 1 TiB: Err(Os { code: 29, kind: Uncategorized, message: "I/O error" })
    Warn: /tmp: the run's limit scratch_mib of 32 MiB has been reached
    Info: a length of 1 TiB: Err(Os { code: 19, kind: QuotaExceeded, message: "Quota exceeded" })
    Info: a hole of 30 MiB: Ok(())
    Warn: /tmp: the run's limit scratch_files of 10000 has been reached
    Info: 10^6 files: Some(Os { code: 19, kind: QuotaExceeded, message: "Quota exceeded" }) after 10000
    Info: room for one more: Ok(())
    "#);
    insta::assert_snapshot!(sentence(&output), @"the konnector has more than 2048 resources (files, streams, timers, uploads) open at one time; drop those that are no longer needed");
}

#[tokio::test]
async fn a_limit_on_the_content_of_files_is_the_runs_and_not_the_users() {
    let environment = FakeEnvironment {
        tree: Some(Arc::new(FakeTree::with_capacity(100 << 20))),
        ..FakeEnvironment::with_limits(|limits| limits.file_bytes = 5 << 20)
    };
    let script = json!([["sync much", "/files/much.bin"]]);
    let output = run(&guest("fs_script"), json!({ "script": script }), &environment).await;
    insta::assert_snapshot!(environment.log(), @r"
    Warn: /files: the run's limit file_mib of 5 MiB has been reached
    Info: sync much /files/much.bin: QuotaExceeded
    ");
    let quota = QuotaKind::Limit { limit: konnector_manifest::Limit::FileContent, value: 5 << 20 };
    assert_eq!(output.file_quota, Some(quota));
}

#[tokio::test]
async fn tmp_is_deleted_at_the_end() {
    let environment = environment();
    for _ in 0..2 {
        let script = json!([["walk", "/tmp"], ["write", "/tmp/secret", "x"]]);
        completed(&run(&guest("fs_script"), json!({ "script": script }), &environment).await, &environment);
    }
    insta::assert_snapshot!(environment.log(), @r#"
    Info: walk /tmp: ""
    Info: write /tmp/secret x: ""
    Info: walk /tmp: ""
    Info: write /tmp/secret x: ""
    "#);
}

#[tokio::test]
async fn a_file_is_there_as_a_whole_or_not_at_all() {
    for (how, left) in [
        ("closes", "/half.txt (10 bytes) \"half of it\""),
        ("panics", ""),
        ("forgets", ""),
        ("syncs", "/half.txt (10 bytes) \"half of it\""),
    ] {
        let environment = environment();
        end(&environment, how).await;
        assert_eq!(
            listed(&environment),
            ["/Closed/", "/Hidden/", left].join("\n").trim_end(),
            "{how}: {}",
            environment.log()
        );
    }
}

#[tokio::test]
async fn a_lost_lease_ends_the_run() {
    let environment = environment();
    let output = end(&environment, "fails").await;
    insta::assert_snapshot!(sentence(&output), @"the run was abandoned because another worker restarted the job");
    insta::assert_snapshot!(environment.log(), @r"
    Warn: /files: the disk is full
    Error: /files/refused.txt was not saved when it was closed: I/O error
    Info: after fail: Err(NotFound)
    ");
    insta::assert_snapshot!(listed(&environment), @r"
    /Closed/
    /Hidden/
    ");
    assert_eq!(output.receipt.files_not_saved, 1);
}

#[tokio::test]
async fn sync_reports_errors_that_close_cannot() {
    let environment = environment();
    let output = end(&environment, "fails to sync").await;
    insta::assert_snapshot!(environment.log(), @r#"
    Warn: /files: the disk is full
    Info: Err(Os { code: 29, kind: Uncategorized, message: "I/O error" })
    Info: Err(Os { code: 29, kind: Uncategorized, message: "I/O error" })
    "#);
    completed(&output, &environment);
}

#[tokio::test]
async fn readers_see_what_was_there_until_it_is_closed() {
    let environment = environment();
    environment.tree.as_ref().expect("files").put("", "old.txt", b"old content");
    completed(&end(&environment, "is read meanwhile").await, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: before: Ok("old content")
    Info: after: Ok("new content")
    Info: whoever had it open: "old content"
    "#);
}

#[tokio::test]
async fn files_can_be_written_in_any_order() {
    let environment = environment();
    environment.tree.as_ref().expect("files").put("", "old.txt", b"old content");
    completed(&end(&environment, "writes anywhere").await, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: Ok("old CONTENT\0\0\0\0\0!?")
    Warn: /tmp: the run's limit scratch_mib of 32 MiB has been reached
    Info: Err(Os { code: 19, kind: QuotaExceeded, message: "Quota exceeded" })
    "#);
}

#[tokio::test]
async fn a_new_file_has_its_name_from_the_beginning() {
    let environment = environment();
    completed(&end(&environment, "writes before it is there").await, &environment);
    insta::assert_snapshot!(environment.log(), @r"
    Info: Err(AlreadyExists)
    Info: Err(NotFound)
    Info: 26 bytes
    ");
    insta::assert_snapshot!(listed(&environment), @r#"
    /Closed/
    /Hidden/
    /whole.txt (26 bytes) "half of it, the othe"
    "#);
}

#[tokio::test]
async fn open_files_are_held_to_a_number() {
    let environment = environment();
    completed(&end(&environment, "opens too many").await, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Warn: /files: the run's limit uploads of 8 has been reached
    Info: Some(Os { code: 19, kind: QuotaExceeded, message: "Quota exceeded" })
    "#);
}

#[tokio::test]
async fn rules_and_quotas_hold_below_files() {
    let environment = FakeEnvironment {
        tree: Some(Arc::new(FakeTree::with_capacity(1 << 20))),
        ..FakeEnvironment::with_limits(|limits| limits.files = 3)
    };
    let tree = environment.tree.as_ref().expect("files");
    tree.put("Closed", "closed.txt", b"closed");
    tree.put("Hidden", "hidden.txt", b"hidden");
    let script = json!([
        ["walk", "/files"],
        ["read", "/files/Closed/closed.txt"],
        ["read", "/files/Hidden/hidden.txt"],
        ["write", "/files/Closed/closed.txt", "x"],
        ["write", "/files/Closed/new.txt", "x"],
        ["mkdir", "/files/Closed/d"],
        ["remove", "/files/Closed/closed.txt"],
        ["rename", "/files/Closed/closed.txt", "/files/open.txt"],
        ["write much", "/files/much.bin"],
        ["mkdir", "/files/1"],
        ["write", "/files/2", "x"],
        ["write", "/files/3", "x"],
        ["write", "/files/4", "x"],
    ]);
    let output = run(&guest("fs_script"), json!({ "script": script }), &environment).await;
    completed(&output, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: walk /files: "/files/Closed/ /files/Closed/closed.txt"
    Info: read /files/Closed/closed.txt: "closed"
    Info: read /files/Hidden/hidden.txt: NotFound
    Warn: /files: the manifest has no rule for POST on io.cozy.files
    Info: write /files/Closed/closed.txt x: PermissionDenied
    Warn: /files: the manifest has no rule for POST on io.cozy.files
    Info: write /files/Closed/new.txt x: PermissionDenied
    Warn: /files: the manifest has no rule for POST on io.cozy.files
    Info: mkdir /files/Closed/d: PermissionDenied
    Warn: /files: the manifest has no rule for POST on io.cozy.files
    Info: remove /files/Closed/closed.txt: PermissionDenied
    Warn: /files: the manifest has no rule for POST on io.cozy.files
    Info: rename /files/Closed/closed.txt /files/open.txt: PermissionDenied
    Warn: /files: no storage space is left
    Error: /files/much.bin was not saved when it was closed: No space left on device
    Info: write much /files/much.bin: Uncategorized
    Info: mkdir /files/1: ""
    Info: write /files/2 x: ""
    Info: write /files/3 x: ""
    Warn: /files: the run's limit files of 3 has been reached
    Info: write /files/4 x: QuotaExceeded
    "#);
    insta::assert_snapshot!(listed(&environment), @r#"
    /1/
    /2 (1 bytes) "x"
    /3 (1 bytes) "x"
    /Closed/
    /Closed/closed.txt (6 bytes) "closed"
    /Hidden/
    /Hidden/hidden.txt (6 bytes) "hidden"
    "#);
}

#[tokio::test]
async fn without_a_rule_there_is_no_directory() {
    let environment = FakeEnvironment::default();
    let script = json!([["walk", "/files"], ["write", "/files/x", "x"], ["write", "/tmp/x", "x"], ["walk", "/tmp"]]);
    completed(&run(&guest("fs_script"), json!({ "script": script }), &environment).await, &environment);
    insta::assert_snapshot!(environment.log(), @r#"
    Info: walk /files: NotFound
    Info: write /files/x x: NotFound
    Info: write /tmp/x x: ""
    Info: walk /tmp: "/tmp/x"
    "#);
}
