//! A konnector's access ends with its run: even with every permission that a manifest can request, it can neither
//! create anything that outlasts the run nor give access to others. Its own triggers end when it is uninstalled.

use konnector_platform::doctype::{PERMISSIONS, TRIGGERS};
use konnector_platform::principal::Audience;
use konnector_store::Changes;
use serde_json::{Value, json};

use crate::openapi::operations;
use crate::support::{Api, NOW, TestRequest, object};

/// Doctypes that rules can name and that lead to something lasting.
const ALL_DOCTYPES: [&str; 12] = [
    "io.cozy.files",
    "io.cozy.bills",
    "io.cozy.jobs",
    "io.cozy.triggers",
    "io.cozy.konnectors",
    "io.cozy.permissions",
    "io.cozy.oauth.clients",
    "io.cozy.settings",
    "io.cozy.accounts",
    "io.cozy.apps",
    "io.cozy.support",
    "io.cozy.notifications",
];

async fn api_with_broad_rules() -> Api {
    let api = Api::new().await;
    let rules: serde_json::Map<String, Value> =
        ALL_DOCTYPES.iter().map(|name| ((*name).to_owned(), json!({ "type": name }))).collect();
    api.install("greedy", Value::Object(rules)).await;
    api.install("other", json!({})).await;
    api.add_file("report", "/Reports", "report.html", b"<p>").await;
    api
}

/// Access of a konnector to an operation that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReviewedAccess {
    /// Denied regardless of its rules.
    Denied,
    /// Permitted by its rules: documents and files, which are its purpose, and stopping or removing something.
    ByRules,
    /// Permitted by its rules, but only for itself and at a limited rate.
    OwnOnly,
    /// Requires no token but another secret; runs cannot reach it.
    WithoutToken,
    /// Changes nothing.
    ReadOnly,
}

/// Every operation that may change something, with the result of its review.
const REVIEWED: &[(&str, ReviewedAccess)] = &[
    ("delete /auth/register/{client_id}", ReviewedAccess::WithoutToken),
    ("delete /data/{doctype}", ReviewedAccess::ByRules),
    ("delete /data/{doctype}/", ReviewedAccess::ByRules),
    ("delete /data/{doctype}/_design/{id}", ReviewedAccess::ByRules),
    ("delete /data/{doctype}/{id}", ReviewedAccess::ByRules),
    ("delete /data/{doctype}/{id}/relationships/references", ReviewedAccess::ByRules),
    ("delete /files/trash", ReviewedAccess::ByRules),
    ("delete /files/trash/{id}", ReviewedAccess::ByRules),
    ("delete /files/versions", ReviewedAccess::ByRules),
    ("delete /files/{id}", ReviewedAccess::ByRules),
    ("delete /files/{id}/relationships/referenced_by", ReviewedAccess::ByRules),
    ("delete /files/{id}/{version}", ReviewedAccess::ByRules),
    ("delete /jobs/purge", ReviewedAccess::Denied),
    ("delete /jobs/triggers/{id}", ReviewedAccess::OwnOnly),
    ("delete /konnectors/{slug}", ReviewedAccess::Denied),
    ("delete /permissions/{id}", ReviewedAccess::ByRules),
    ("delete /settings/clients/{id}", ReviewedAccess::ByRules),
    ("patch /files/metadata", ReviewedAccess::ByRules),
    ("patch /files/{id}", ReviewedAccess::ByRules),
    ("patch /files/{id}/{version}", ReviewedAccess::ByRules),
    ("patch /jobs/triggers/{id}", ReviewedAccess::OwnOnly),
    ("patch /jobs/{id}", ReviewedAccess::ByRules),
    ("patch /permissions/apps/{slug}", ReviewedAccess::Denied),
    ("patch /permissions/konnectors/{slug}", ReviewedAccess::Denied),
    ("patch /permissions/{id}", ReviewedAccess::Denied),
    ("post /accounts/{type}/{id}/refresh", ReviewedAccess::ByRules),
    ("post /auth/access_token", ReviewedAccess::WithoutToken),
    ("post /auth/authorize", ReviewedAccess::WithoutToken),
    ("post /auth/register", ReviewedAccess::WithoutToken),
    ("post /auth/session_code", ReviewedAccess::Denied),
    ("post /auth/tokens/konnectors/{slug}", ReviewedAccess::Denied),
    ("post /data/{doctype}", ReviewedAccess::ByRules),
    ("post /data/{doctype}/", ReviewedAccess::ByRules),
    ("post /data/{doctype}/_all_docs", ReviewedAccess::ReadOnly),
    ("post /data/{doctype}/_bulk_docs", ReviewedAccess::ByRules),
    ("post /data/{doctype}/_bulk_get", ReviewedAccess::ReadOnly),
    ("post /data/{doctype}/_changes", ReviewedAccess::ReadOnly),
    ("post /data/{doctype}/_design/{id}/copy", ReviewedAccess::ByRules),
    ("post /data/{doctype}/_find", ReviewedAccess::ReadOnly),
    ("post /data/{doctype}/_index", ReviewedAccess::ByRules),
    ("post /data/{doctype}/_revs_diff", ReviewedAccess::ReadOnly),
    ("post /data/{doctype}/{id}/relationships/references", ReviewedAccess::ByRules),
    ("post /files", ReviewedAccess::ByRules),
    ("post /files/", ReviewedAccess::ByRules),
    ("post /files/_all_docs", ReviewedAccess::ReadOnly),
    ("post /files/_find", ReviewedAccess::ReadOnly),
    ("post /files/archive", ReviewedAccess::Denied),
    ("post /files/downloads", ReviewedAccess::Denied),
    ("post /files/revert/{id}/{version}", ReviewedAccess::ByRules),
    ("post /files/trash/{id}", ReviewedAccess::ByRules),
    ("post /files/upload/metadata", ReviewedAccess::ByRules),
    ("post /files/{id}", ReviewedAccess::ByRules),
    ("post /files/{id}/copy", ReviewedAccess::ByRules),
    ("post /files/{id}/relationships/referenced_by", ReviewedAccess::ByRules),
    ("post /files/{id}/versions", ReviewedAccess::ByRules),
    ("post /jobs/campaign-emails", ReviewedAccess::ReadOnly),
    ("post /jobs/clean", ReviewedAccess::Denied),
    ("post /jobs/queue/{worker}", ReviewedAccess::OwnOnly),
    ("post /jobs/support", ReviewedAccess::ReadOnly),
    ("post /jobs/triggers", ReviewedAccess::OwnOnly),
    ("post /jobs/triggers/", ReviewedAccess::OwnOnly),
    ("post /jobs/triggers/{id}/launch", ReviewedAccess::Denied),
    ("post /jobs/webhooks/{id}", ReviewedAccess::WithoutToken),
    ("post /jobs/{id}/cancel", ReviewedAccess::OwnOnly),
    ("post /konnectors/", ReviewedAccess::Denied),
    ("post /konnectors/{slug}", ReviewedAccess::Denied),
    ("post /konnectors/{slug}/logs", ReviewedAccess::ReadOnly),
    ("post /konnectors/{slug}/trigger", ReviewedAccess::OwnOnly),
    ("post /permissions", ReviewedAccess::Denied),
    ("post /permissions/exists", ReviewedAccess::ReadOnly),
    ("post /realtime/{doctype}/{id}", ReviewedAccess::ReadOnly),
    ("post /settings/synchronized", ReviewedAccess::ReadOnly),
    ("put /auth/register/{client_id}", ReviewedAccess::WithoutToken),
    ("put /data/{doctype}/{id}", ReviewedAccess::ByRules),
    ("put /files/{id}", ReviewedAccess::ByRules),
    ("put /konnectors/{slug}", ReviewedAccess::Denied),
    ("put /settings/instance", ReviewedAccess::ByRules),
];

/// A new route must be reviewed before konnectors can use it.
#[tokio::test]
async fn every_operation_that_changes_something_was_reviewed() {
    let api = Api::new().await;
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    let mut changing: Vec<String> = operations(&description).into_iter().map(|(name, _)| name).collect();
    changing.retain(|name| !name.starts_with("get ") && !name.starts_with("head "));
    changing.sort();
    let reviewed: Vec<&str> = REVIEWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(changing, reviewed);
}

#[tokio::test]
async fn a_konnector_with_every_rule_makes_nothing_that_lasts() {
    let api = api_with_broad_rules().await;
    let token = api.token_of(Audience::Konnector, "greedy", "");
    let own = json!({ "type": "@cron", "arguments": "0 5 * * *", "worker": "konnector", "message": { "konnector": "greedy" } });
    let created = api.send(TestRequest::post("/jobs/triggers").token(&token).attributes(own.clone())).await;
    assert_eq!(created.status, 201, "{created}");
    let trigger = created.json()["data"]["id"].as_str().expect("an id").to_owned();
    let files = json!({ "permissions": { "files": { "type": "io.cozy.files", "verbs": ["GET"] } } });
    let trigger_of = |kind: &str, worker: &str, slug: &str| {
        let message = json!({ "konnector": slug });
        TestRequest::post("/jobs/triggers").attributes(
            json!({ "type": kind, "arguments": "0 5 * * *", "worker": worker, "message": message, "debounce": "1h" }),
        )
    };
    let job =
        |worker: &str, attributes: Value| TestRequest::post(&format!("/jobs/queue/{worker}")).attributes(attributes);
    // A schedule and a job of the owner.
    let owner = api.token("*");
    let foreign_trigger =
        json!({ "type": "@cron", "arguments": "0 5 * * *", "worker": "konnector", "message": { "konnector": "bank" } });
    let schedule = api.send(TestRequest::post("/jobs/triggers").token(&owner).attributes(foreign_trigger)).await.json();
    let schedule = schedule["data"]["id"].as_str().expect("an id").to_owned();
    let waiting =
        api.send(job("konnector", json!({ "arguments": { "konnector": "bank" } })).token(&owner)).await.json();
    let waiting = waiting["data"]["id"].as_str().expect("an id").to_owned();
    // A reference that gives the named konnector access to a folder.
    let reference = |kind: &str, id: &str| json!({ "data": [{ "type": kind, "id": id }] });
    let mark = reference("io.cozy.konnectors", "io.cozy.konnectors/greedy");
    let calls = [
        TestRequest::delete(&format!("/jobs/triggers/{schedule}")),
        TestRequest::post(&format!("/jobs/{waiting}/cancel")),
        TestRequest::post("/jobs/clean"),
        TestRequest::delete("/jobs/purge"),
        TestRequest::post("/files/report/relationships/referenced_by").json(&mark),
        TestRequest::delete("/files/report/relationships/referenced_by").json(&mark),
        TestRequest::post("/data/io.cozy.konnectors/io.cozy.konnectors%2Fgreedy/relationships/references")
            .json(&reference("io.cozy.files", "report")),
        TestRequest::post("/permissions?codes=mallory").attributes(files.clone()),
        TestRequest::patch("/permissions/konnector-greedy").attributes(files.clone()),
        TestRequest::patch("/permissions/konnectors/greedy").attributes(files.clone()),
        TestRequest::patch("/permissions/konnectors/other").attributes(files),
        TestRequest::post("/files/downloads?Id=report"),
        TestRequest::post("/files/downloads?Path=/Reports/report.html"),
        TestRequest::post("/files/archive").attributes(json!({ "ids": ["report"] })),
        TestRequest::post("/auth/session_code"),
        TestRequest::post("/auth/tokens/konnectors/greedy"),
        TestRequest::post("/auth/tokens/konnectors/other"),
        job("konnector", json!({ "arguments": { "konnector": "other" } })),
        job("konnector", json!({ "arguments": { "konnector": "greedy" }, "manual": true })),
        job("client", json!({ "arguments": { "konnector": "greedy" } })),
        trigger_of("@webhook", "konnector", "greedy"),
        trigger_of("@client", "client", "greedy"),
        trigger_of("@cron", "konnector", "other"),
        TestRequest::post(&format!("/jobs/triggers/{trigger}/launch")),
        TestRequest::post("/konnectors/greedy/trigger?ExecNow=true"),
        TestRequest::post("/konnectors/other/trigger"),
        TestRequest::post("/konnectors/new?Source=registry://new/stable"),
        TestRequest::put("/konnectors/other"),
        TestRequest::delete("/konnectors/other"),
    ];
    for call in calls {
        let line = call.request_line();
        let response = api.send(call.token(&token)).await;
        assert_eq!(response.status, 403, "{line}: {response}");
    }
    // A konnector named like Cozy's store has none of its permissions.
    api.install("store", json!({ "konnectors": { "type": "io.cozy.konnectors" } })).await;
    let store = api.token_of(Audience::Konnector, "store", "");
    let install = TestRequest::post("/konnectors/new?Source=registry://new/stable").token(&store);
    assert_eq!(api.send(install).await.status, 403);
    // Permitted: operations for itself, and operations without lasting effect.
    let archive =
        TestRequest::post("/files/archive").accept("application/zip").attributes(json!({ "ids": ["report"] }));
    assert_eq!(api.send(archive.token(&token)).await.status, 200);
    let pushed = job("konnector", json!({ "arguments": { "konnector": "greedy" } }));
    assert_eq!(api.send(pushed.token(&token)).await.status, 202);
    assert_eq!(api.send(TestRequest::post("/konnectors/greedy/trigger").token(&token)).await.status, 201);
}

/// Once, sixty triggers and 250 runs in half a minute were possible.
#[tokio::test]
async fn a_konnector_that_starts_itself_again_and_again_is_held_up() {
    let api = api_with_broad_rules().await;
    let token = api.token_of(Audience::Konnector, "greedy", "");
    let push = || {
        let attributes = json!({ "arguments": { "konnector": "greedy" } });
        TestRequest::post("/jobs/queue/konnector").token(&token).attributes(attributes)
    };
    let schedule = || {
        let message = json!({ "konnector": "greedy" });
        let attributes = json!({ "type": "@in", "arguments": "1s", "worker": "konnector", "message": message });
        TestRequest::post("/jobs/triggers").token(&token).attributes(attributes)
    };
    let (mut accepted, mut rejected) = (0, Vec::new());
    for number in 0..120 {
        let response = api.send(if number % 2 == 0 { push() } else { schedule() }).await;
        match response.status {
            201 | 202 => accepted += 1,
            status => rejected.push(status),
        }
    }
    assert_eq!(accepted, 20, "in this hour");
    assert!(rejected.iter().all(|status| *status == 429 || *status == 403), "{rejected:?}");
    // Others are not delayed.
    let mut own = api.token("io.cozy.jobs");
    let attributes = json!({ "arguments": { "konnector": "bank" } });
    let call = |token: &str| TestRequest::post("/jobs/queue/konnector").token(token).attributes(attributes.clone());
    assert_eq!(api.send(call(&own)).await.status, 202);
    own = api.token("*");
    assert_eq!(api.send(call(&own)).await.status, 202);
}

#[tokio::test]
async fn what_a_konnector_made_ends_when_it_is_uninstalled() {
    let api = api_with_broad_rules().await;
    let token = api.token_of(Audience::Konnector, "greedy", "");
    let trigger_json = json!({ "type": "@cron", "arguments": "0 5 * * *", "worker": "konnector", "message": { "konnector": "greedy" } });
    let trigger_json =
        api.send(TestRequest::post("/jobs/triggers").token(&token).attributes(trigger_json)).await.json();
    let trigger = trigger_json["data"]["id"].as_str().expect("an id").to_owned();
    let push = TestRequest::post("/jobs/queue/konnector").attributes(json!({ "arguments": { "konnector": "greedy" } }));
    let pushed = api.send(push.token(&token)).await.json();
    let job = pushed["data"]["id"].as_str().expect("an id").to_owned();
    let other = TestRequest::post("/jobs/queue/konnector").attributes(json!({ "arguments": { "konnector": "other" } }));
    let other = api.send(other.token(&api.token("*"))).await.json();
    let other = other["data"]["id"].as_str().expect("an id").to_owned();
    // Documents that an earlier version let it create: a share, and a trigger for another konnector.
    let mut changes = Changes::new();
    changes.create(
        api.alice.doc(&PERMISSIONS, "share"),
        object(json!({
            "type": "share", "source_id": "io.cozy.konnectors/greedy",
            "permissions": { "files": { "type": "io.cozy.files" } },
            "codes": { "mallory": "code" }, "shortcodes": { "mallory": "abcdefghijkl" },
        })),
    );
    changes.put_unique(&api.alice.id, "permissions.shortcodes", "abcdefghijkl", "share");
    changes.create(
        api.alice.doc(&TRIGGERS, "odd"),
        object(json!({
            "domain": "alice.example", "type": "@webhook", "arguments": "", "worker": "konnector",
            "message": { "konnector": "other" }, "cozyMetadata": { "createdAt": NOW }, "_made_by": "greedy",
        })),
    );
    api.platform.raw_store().commit(changes).await.expect("stored");
    let everything = api.token("*");
    let get = async |path: &str| api.send(TestRequest::get(path).token(&everything)).await;
    assert_eq!(get("/permissions/share").await.status, 200);
    assert_eq!(api.send(TestRequest::delete("/konnectors/greedy").token(&everything)).await.status, 204);
    assert_eq!(get("/permissions/share").await.status, 404);
    assert_eq!(get("/jobs/triggers/odd").await.status, 404);
    assert_eq!(get(&format!("/jobs/triggers/{trigger}")).await.status, 404);
    let ended = get(&format!("/jobs/{job}")).await.json()["data"]["attributes"].clone();
    assert_eq!((&ended["state"], &ended["error"]), (&json!("errored"), &json!("UNKNOWN_ERROR.CANCELLED")));
    assert_eq!(get(&format!("/jobs/{other}")).await.json()["data"]["attributes"]["state"], "queued");
    assert_eq!(
        api.platform.raw_store().lookup(&api.alice.id, "permissions.shortcodes", "abcdefghijkl").expect("read"),
        None
    );
}

/// Installs a konnector that may read, create and move any file, with full access to a folder of its own.
async fn api_with_file_rules() -> (Api, String, String) {
    let api = Api::new().await;
    let rules = json!({
        "files": { "type": "io.cozy.files", "verbs": ["GET", "POST", "PATCH"] },
        "referenced folders": {
            "type": "io.cozy.files", "description": "Works in the folders that refer to this konnector",
            "selector": "referenced_by", "values": ["io.cozy.konnectors/mover"],
        },
        "drafts": { "type": "io.cozy.files", "selector": "tags", "values": ["draft"] },
        "scratch": { "type": "io.cozy.files", "selector": "name", "values": ["scratch.txt"] },
    });
    api.install("mover", rules).await;
    let own = api.platform.files().ensure_directory(&api.alice, "/Own").await.expect("a directory").id;
    let mark = json!({ "data": [{ "type": "io.cozy.konnectors", "id": "io.cozy.konnectors/mover" }] });
    let mark =
        TestRequest::post(&format!("/files/{own}/relationships/referenced_by")).token(&api.token("*")).json(&mark);
    assert_eq!(api.send(mark).await.status, 200);
    let token = api.token_of(Audience::Konnector, "mover", "");
    (api, token, own)
}

/// A konnector that may move a file cannot replace or delete it by moving it into its own folder first.
#[tokio::test]
async fn a_konnector_gains_nothing_by_a_move() {
    let (api, token, own) = api_with_file_rules().await;
    api.add_file("will", "/Papers", "will.html", b"mine").await;
    api.add_file("bill", "/Own", "bill.html", b"its own").await;
    let papers = api.platform.files().ensure_directory(&api.alice, "/Papers").await.expect("a directory").id;
    let below = api.platform.files().ensure_directory(&api.alice, "/Own/2026").await.expect("a directory").id;
    let call = |call: TestRequest| api.send(call.token(&token));
    let change = |id: &str, attributes: Value| call(TestRequest::patch(&format!("/files/{id}")).attributes(attributes));
    for (id, attributes) in [
        ("will", json!({ "dir_id": own })),
        ("will", json!({ "dir_id": below, "name": "other.html" })),
        ("will", json!({ "name": "scratch.txt" })),
        ("will", json!({ "tags": ["tax", "draft"] })),
        (papers.as_str(), json!({ "dir_id": own })),
        (papers.as_str(), json!({ "tags": ["draft"] })),
    ] {
        let rejected = change(id, attributes.clone()).await;
        assert_eq!(rejected.status, 403, "{attributes}: {rejected}");
    }
    let by_path = TestRequest::patch("/files/metadata?Path=/Papers/will.html").attributes(json!({ "dir_id": own }));
    insta::assert_snapshot!(call(by_path).await.summary(), @"403 'will.html' cannot be changed in this way: the permissions would then allow PUT on it, but do not allow it now; copy it instead, or request a rule that allows PUT on it at its present place");
    for rejected in [TestRequest::put("/files/will").text("forged"), TestRequest::delete("/files/will")] {
        assert_eq!(call(rejected).await.status, 403);
    }
    // Moves that give it no access are permitted, and everything for its own files.
    for (id, attributes) in [
        ("will", json!({ "name": "testament.html", "tags": ["kept"] })),
        (papers.as_str(), json!({ "name": "Documents" })),
        ("bill", json!({ "dir_id": below })),
        ("bill", json!({ "dir_id": own, "name": "2026.html" })),
        (below.as_str(), json!({ "name": "2027" })),
        ("bill", json!({ "dir_id": papers })),
    ] {
        let response = change(id, attributes.clone()).await;
        assert_eq!(response.status, 200, "{attributes}: {response}");
    }
    let copy = call(TestRequest::post(&format!("/files/will/copy?DirID={own}"))).await;
    assert_eq!(copy.status, 201, "{copy}");
    // The owner may move it there.
    let moved = json!({ "dir_id": own, "name": "moved.html" });
    let moved = TestRequest::patch("/files/will").token(&api.token("*")).attributes(moved);
    assert_eq!(api.send(moved).await.status, 200);
}

#[tokio::test]
async fn a_konnector_gains_nothing_by_a_restore() {
    let (api, token, own) = api_with_file_rules().await;
    api.add_file("in-own", "/Own/2026", "a.html", b"a").await;
    api.add_file("in-papers", "/Papers", "b.html", b"b").await;
    for id in ["in-own", "in-papers"] {
        let trashed = api.send(TestRequest::delete(&format!("/files/{id}")).token(&api.token("*"))).await;
        assert_eq!(trashed.status, 200, "{trashed}");
    }
    let restore = |id: &str| api.send(TestRequest::post(&format!("/files/trash/{id}")).token(&token));
    assert_eq!(restore("in-own").await.status, 403);
    // Its directory was deleted, and would be created again in the folder of the konnector.
    let below = api.platform.files().get_by_path(&api.alice, "/Own/2026").expect("a directory").id;
    assert_ne!(below, own);
    assert_eq!(api.send(TestRequest::delete(&format!("/files/{below}")).token(&api.token("*"))).await.status, 200);
    assert_eq!(restore("in-own").await.status, 403);
    assert_eq!(restore("in-papers").await.status, 200);
}
