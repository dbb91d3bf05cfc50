//! `/tmp` and `/files`, used by ordinary programs and by others.

use std::sync::Arc;

use konnector_sandbox::{Ended, Outcome, Report};
use konnector_tests::fakes::World;
use konnector_tests::fakes::tree::FakeTree;
use konnector_tests::guest;
use serde_json::json;

use super::{run, sentence};

/// A world with files.
fn world() -> World {
    World { tree: Some(Arc::new(FakeTree::default())), ..World::default() }
}

fn listed(world: &World) -> String {
    world.tree.as_ref().expect("files").listed()
}

/// Runs the guest that ends in this way.
async fn end(world: &World, how: &str) -> Ended {
    run(&guest("fs_ends"), json!({ "end": how }), world).await
}

fn completed(ended: &Ended, world: &World) {
    assert_eq!(ended.outcome, Outcome::Completed(Report::default()), "{}", world.log());
}

#[tokio::test]
async fn an_ordinary_program_works_in_both_directories() {
    let world = world();
    let ended = run(&guest("std_fs"), json!({ "directories": ["/tmp", "/files"] }), &world).await;
    completed(&ended, &world);
    insta::assert_snapshot!(world.log(), @"");
    assert_eq!(ended.receipt.files_not_saved, 0);
}

#[tokio::test]
async fn what_tmp_refuses() {
    let world = world();
    let ended = run(&guest("fs_refusals"), json!({ "directory": "/tmp" }), &world).await;
    completed(&ended, &world);
    insta::assert_snapshot!(world.log(), @"");
}

#[tokio::test]
async fn what_files_refuses() {
    let world = world();
    let ended = run(&guest("fs_refusals"), json!({ "directory": "/files" }), &world).await;
    completed(&ended, &world);
    insta::assert_snapshot!(world.log(), @"");
    insta::assert_snapshot!(listed(&world), @"");
}

#[tokio::test]
async fn tmp_is_held_to_its_quota() {
    let world = world();
    let ended = run(&guest("fs_flood"), json!({}), &world).await;
    insta::assert_snapshot!(world.log(), @"");
    insta::assert_snapshot!(sentence(&ended), @"");
}

#[tokio::test]
async fn tmp_is_gone_at_the_end() {
    let world = world();
    for _ in 0..2 {
        let script = json!([["walk", "/tmp"], ["write", "/tmp/secret", "x"]]);
        completed(&run(&guest("fs_script"), json!({ "script": script }), &world).await, &world);
    }
    insta::assert_snapshot!(world.log(), @"");
}

#[tokio::test]
async fn a_file_is_there_as_a_whole_or_not_at_all() {
    for (how, left) in [
        ("closes", "/half.txt (10 bytes) \"half of it\""),
        ("panics", ""),
        ("forgets", ""),
        ("syncs", "/half.txt (10 bytes) \"half of it\""),
    ] {
        let world = world();
        end(&world, how).await;
        assert_eq!(listed(&world), ["/Closed/", "/Hidden/", left].join("\n").trim_end(), "{how}: {}", world.log());
    }
}

#[tokio::test]
async fn a_lost_lease_ends_the_run() {
    let world = world();
    let ended = end(&world, "fails").await;
    insta::assert_snapshot!(sentence(&ended), @"");
    insta::assert_snapshot!(world.log(), @"");
    insta::assert_snapshot!(listed(&world), @"");
    assert_eq!(ended.receipt.files_not_saved, 1);
}

#[tokio::test]
async fn sync_tells_what_close_cannot() {
    let world = world();
    let ended = end(&world, "fails to sync").await;
    insta::assert_snapshot!(world.log(), @"");
    completed(&ended, &world);
}

#[tokio::test]
async fn readers_see_what_was_there_until_it_is_closed() {
    let world = world();
    world.tree.as_ref().expect("files").put("", "old.txt", b"old content");
    completed(&end(&world, "is read meanwhile").await, &world);
    insta::assert_snapshot!(world.log(), @"");
}

#[tokio::test]
async fn files_can_be_written_in_any_order() {
    let world = world();
    world.tree.as_ref().expect("files").put("", "old.txt", b"old content");
    completed(&end(&world, "writes anywhere").await, &world);
    insta::assert_snapshot!(world.log(), @"");
}

#[tokio::test]
async fn a_new_file_has_its_name_from_the_beginning() {
    let world = world();
    completed(&end(&world, "writes before it is there").await, &world);
    insta::assert_snapshot!(world.log(), @"");
    insta::assert_snapshot!(listed(&world), @"");
}

#[tokio::test]
async fn open_files_are_held_to_a_number() {
    let world = world();
    completed(&end(&world, "opens too many").await, &world);
    insta::assert_snapshot!(world.log(), @"");
}

#[tokio::test]
async fn rules_and_quotas_hold_below_files() {
    let world = World { tree: Some(Arc::new(FakeTree::with_room(1 << 20))), ..World::limited(|limits| limits.files = 3) };
    let tree = world.tree.as_ref().expect("files");
    tree.put("Closed", "closed.txt", b"closed");
    tree.put("Hidden", "hidden.txt", b"hidden");
    let script = json!([
        ["walk", "/files"], ["read", "/files/Closed/closed.txt"], ["read", "/files/Hidden/hidden.txt"],
        ["write", "/files/Closed/closed.txt", "x"], ["write", "/files/Closed/new.txt", "x"], ["mkdir", "/files/Closed/d"],
        ["remove", "/files/Closed/closed.txt"], ["rename", "/files/Closed/closed.txt", "/files/open.txt"],
        ["write much", "/files/much.bin"],
        ["mkdir", "/files/1"], ["write", "/files/2", "x"], ["write", "/files/3", "x"], ["write", "/files/4", "x"],
    ]);
    let ended = run(&guest("fs_script"), json!({ "script": script }), &world).await;
    completed(&ended, &world);
    insta::assert_snapshot!(world.log(), @"");
    insta::assert_snapshot!(listed(&world), @"");
}

#[tokio::test]
async fn without_a_rule_there_is_no_directory() {
    let world = World::default();
    let script = json!([["walk", "/files"], ["write", "/files/x", "x"], ["write", "/tmp/x", "x"], ["walk", "/tmp"]]);
    completed(&run(&guest("fs_script"), json!({ "script": script }), &world).await, &world);
    insta::assert_snapshot!(world.log(), @"");
}
