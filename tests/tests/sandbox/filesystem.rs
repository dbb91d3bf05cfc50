//! `/tmp` and `/files`, used by ordinary programs and by others.

use std::sync::Arc;

use konnector_sandbox::{Outcome, Report};
use konnector_tests::fakes::World;
use konnector_tests::fakes::tree::FakeTree;
use konnector_tests::guest;
use serde_json::json;

use super::run;

/// A world with files.
fn world() -> World {
    World { tree: Some(Arc::new(FakeTree::default())), ..World::default() }
}

#[tokio::test]
async fn an_ordinary_program_works_in_both_directories() {
    let world = world();
    let ended = run(&guest("std_fs"), json!({ "directories": ["/tmp", "/files"] }), &world).await;
    assert_eq!(ended.outcome, Outcome::Completed(Report::default()), "{}", world.log());
    insta::assert_snapshot!(world.log(), @"");
}
