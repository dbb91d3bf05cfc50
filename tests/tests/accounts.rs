//! An account belongs to one konnector: no other konnector gets anything of the account, whatever it tries and with
//! whoever's help.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::time::{Duration, Instant};

use konnector_tests::bundle;
use konnector_tests::client::{StatusAndBody, TestClient};
use konnector_tests::recorder::RecordingServer;
use konnector_tests::server::{TestServer, run_command};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Prefix of the bank's passwords, which only the bank may ever see.
const BANK_PASSWORD_PREFIX: &str = "hunter2-of-the-bank";
const BANK: &str = "bank";
const THIEF: &str = "thief";
/// The password of all other accounts.
const OTHER_PASSWORD: &str = "sesame-of-another";

/// A server with two konnectors that send their vendors everything that they have.
struct AccountsFixture {
    server: TestServer,
    client: TestClient,
    /// A client with a token of the thief.
    thief: TestClient,
    bank_vendor: RecordingServer,
    thief_vendor: RecordingServer,
    data: TempDir,
}

impl AccountsFixture {
    async fn new() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let unlimited = ["jobs", "webhooks", "events"].map(|kind| format!("--hourly-limit={kind}=0"));
        let server = TestServer::start_with(data.path(), &unlimited.each_ref().map(String::as_str));
        let client = server.client().await;
        let [bank_vendor, thief_vendor] = [(); 2].map(|()| RecordingServer::start(|_| (200, "{}")));
        for (slug, vendor) in [(BANK, &bank_vendor), (THIEF, &thief_vendor)] {
            let manifest = json!({
                "name": slug, "version": "1.0.0", "type": "konnector", "parameters": { "url": vendor.url },
                "fields": { "login": { "type": "text" }, "password": { "type": "password" } },
                "permissions": {
                    "accounts": { "type": "io.cozy.accounts" }, "jobs": { "type": "io.cozy.jobs" },
                    "triggers": { "type": "io.cozy.triggers" }, "bills": { "type": "io.cozy.bills" },
                    "vendor": { "type": "http", "values": [vendor.url] },
                },
            });
            let source = bundle::write_guest(&data.path().join(slug), "tells_all", &manifest);
            assert_eq!(client.install(slug, &source).await.0, 202);
        }
        let thief = client.with_token(server.token("konn", THIEF, "").await.1);
        Self { server, client, thief, bank_vendor, thief_vendor, data }
    }

    async fn account(&self, slug: &str, password: &str) -> String {
        self.client.create_account(slug, json!({ "login": "ada", "password": password })).await
    }

    /// Waits until no job is queued or running.
    async fn wait_idle(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let waiting = self.client.get("/jobs/queue/konnector").await["data"].as_array().expect("a list").len();
            let timed = self.client.get("/jobs/triggers?Type=@in").await["data"].as_array().expect("a list").len();
            if waiting + timed == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting} jobs and {timed} triggers are left");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn path(account: &str) -> String {
    format!("/data/io.cozy.accounts/{account}")
}

fn attributes(members: Value) -> Value {
    json!({ "data": { "attributes": members } })
}

fn message(konnector: &str, account: &str) -> Value {
    json!({ "konnector": konnector, "account": account })
}

async fn push(client: &TestClient, message: Value) -> StatusAndBody {
    client.post("/jobs/queue/konnector", attributes(json!({ "arguments": message, "manual": true }))).await
}

async fn trigger(client: &TestClient, kind: &str, arguments: &str, message: Value) -> StatusAndBody {
    let members = json!({ "type": kind, "arguments": arguments, "worker": "konnector", "message": message });
    client.post("/jobs/triggers", attributes(members)).await
}

/// The first error of a response: its status, source and detail.
fn error_summary((status, body): &StatusAndBody) -> String {
    let error = &body["errors"][0];
    let about = error["source"].as_object().and_then(|source| source.values().next());
    format!(
        "{status} {}: {}",
        about.and_then(Value::as_str).unwrap_or_default(),
        error["detail"].as_str().unwrap_or("")
    )
}

fn id((_, body): &StatusAndBody) -> Option<String> {
    body["data"]["id"].as_str().or_else(|| body["id"].as_str()).map(str::to_owned)
}

#[tokio::test]
async fn a_job_for_an_account_of_another_konnector_is_rejected_on_every_route() {
    let setting = AccountsFixture::new().await;
    let AccountsFixture { client, thief, .. } = &setting;
    let (theirs, own) =
        (setting.account(BANK, BANK_PASSWORD_PREFIX).await, setting.account(THIEF, OTHER_PASSWORD).await);
    let stolen = || message(THIEF, &theirs);
    let mine = client.create_trigger(THIEF, &own).await;
    let told = format!(
        "the account '{theirs}' belongs to the konnector 'bank' and is not shared with 'thief'; name an account of 'thief', or \
         share this one: konnector accounts share {theirs} thief"
    );
    let of_job = format!("422 /data/attributes/arguments/account: {told}");
    assert_eq!(error_summary(&push(client, stolen()).await), of_job);
    let of_trigger = format!("422 /data/attributes/message/account: {told}");
    // Most of these are rejected for a konnector by a stricter rule, whoever owns the account: see the tests of what
    // konnectors may plan.
    let is_refused =
        |(status, body): &StatusAndBody| matches!(status, 403 | 422) && id(&(*status, body.clone())).is_none();
    let own_push = attributes(json!({ "arguments": stolen() }));
    assert_eq!(error_summary(&thief.post("/jobs/queue/konnector", own_push).await), of_job);
    assert!(is_refused(&push(thief, stolen()).await));
    for (kind, arguments) in [
        ("@cron", "0 0 3 * * *"),
        ("@every", "1h"),
        ("@in", "1s"),
        ("@event", "io.cozy.bills:CREATED"),
        ("@webhook", ""),
        ("@daily", ""),
        ("@client", ""),
    ] {
        assert_eq!(error_summary(&trigger(client, kind, arguments, stolen()).await), of_trigger, "{kind}");
        let by_thief = trigger(thief, kind, arguments, stolen()).await;
        assert!(is_refused(&by_thief), "{kind}: {by_thief:?}");
    }
    let patch = || Some(attributes(json!({ "message": stolen() })));
    let patched = client.request(Method::PATCH, &format!("/jobs/triggers/{mine}"), patch()).await;
    assert_eq!(error_summary(&patched), of_trigger);
    assert!(is_refused(&thief.request(Method::PATCH, &format!("/jobs/triggers/{mine}"), patch()).await));
    let scheduled = format!("/konnectors/thief/trigger?AccountID={theirs}&ExecNow=true");
    assert_eq!(error_summary(&client.post(&scheduled, Value::Null).await), format!("422 AccountID: {told}"));
    assert!(is_refused(&thief.post(&scheduled, Value::Null).await));
    let ran =
        run_command(setting.data.path(), &["triggers", "add", THIEF, "--account", &theirs, "--daily", "before 5am"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("belongs to the konnector 'bank'"), "{ran:?}");

    // An account that a person moves to the bank while the thief has triggers and a job for it.
    let moved = setting.account(THIEF, OTHER_PASSWORD).await;
    let cron = client.create_trigger(THIEF, &moved).await;
    let hook = id(&trigger(client, "@webhook", "", message(THIEF, &moved)).await).expect("a webhook");
    let soon = id(&trigger(client, "@in", "2s", message(THIEF, &moved)).await).expect("a trigger");
    let event =
        id(&trigger(client, "@event", "io.cozy.bills:CREATED", message(THIEF, &moved)).await).expect("a trigger");
    let mut account = client.get(&path(&moved)).await;
    account["account_type"] = json!(BANK);
    account["auth"]["password"] = json!(BANK_PASSWORD_PREFIX);
    assert_eq!(client.request(Method::PUT, &path(&moved), Some(account)).await.0, 200);
    let launched = client.post(&format!("/jobs/triggers/{cron}/launch"), Value::Null).await;
    assert!(error_summary(&launched).starts_with("422 /data/attributes/message/account: the account"), "{launched:?}");
    let edit = attributes(json!({ "arguments": "0 0 4 * * *" }));
    let edited = client.request(Method::PATCH, &format!("/jobs/triggers/{cron}"), Some(edit)).await;
    assert!(error_summary(&edited).starts_with("422 /data/attributes/message/account: the account"), "{edited:?}");
    for query in ["", "?Manual=true"] {
        let called = client.post(&format!("/jobs/webhooks/{hook}{query}"), json!({ "order": 7 })).await;
        assert!(called.0 == 403 && !called.1.to_string().contains(BANK), "{called:?}");
    }
    assert_eq!(client.post("/data/io.cozy.bills/", json!({ "amount": 1 })).await.0, 201);
    for (trigger, cause) in [(soon, "schedule"), (event, "event")] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.request(Method::GET, &format!("/jobs/triggers/{trigger}"), None).await.0 != 404 {
            assert!(Instant::now() < deadline, "the trigger of what makes no sense is removed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        setting.wait_idle().await;
        let jobs = client.documents("io.cozy.jobs").await;
        let job = jobs.iter().find(|job| job["trigger_id"] == *trigger).expect("its job");
        assert_eq!((&job["cause"], &job["state"]), (&json!(cause), &json!("errored")), "{job:#}");
        assert_eq!(job["error"], "UNKNOWN_ERROR.FOREIGN_ACCOUNT", "{job:#}");
        assert!(
            job["error_message"].as_str().expect("a sentence").contains("belongs to the konnector 'bank'"),
            "{job:#}"
        );
    }
    assert_eq!(setting.thief_vendor.take_requests(), Vec::<String>::new());

    // The bank gets its password, as the value that the thief would have received.
    let bank = client.create_trigger(BANK, &theirs).await;
    assert_eq!(client.run(&bank).await["state"], "done");
    let told = setting.bank_vendor.take_requests().join("\n");
    assert_eq!(told.matches(BANK_PASSWORD_PREFIX).count(), 2, "{told}");
}

/// Requests of a command component, as its parameters: name, method, path and body.
fn requests(server: &TestServer, list: &[(&str, &str, String, Option<Value>)]) -> Value {
    let authority = server.url.trim_start_matches("http://");
    let list = list.iter().map(|(name, method, path, body)| {
        let mut request = json!({
            "name": name, "method": method, "authority": authority, "path": path, "whole": true,
            "headers": [["authorization", "Bearer $COZY_CREDENTIALS"], ["content-type", "application/json"]],
        });
        if let Some(body) = body {
            let text = body.to_string();
            request["headers"].as_array_mut().expect("a list").push(json!(["content-length", text.len().to_string()]));
            request["body"] = json!({ "text": text });
        }
        request
    });
    list.collect()
}

/// Installs a command component that sends requests, and runs it for its own account; returns the lines of its log by
/// name.
async fn run_requests(setting: &AccountsFixture, slug: &str, list: &[(&str, &str, String, Option<Value>)]) -> String {
    let AccountsFixture { client, .. } = setting;
    let manifest = json!({
        "name": slug, "version": "1.0.0", "type": "konnector", "parameters": { "requests": requests(&setting.server, list) },
        "permissions": {
            "accounts": { "type": "io.cozy.accounts", "verbs": ["GET", "POST", "PUT", "DELETE"] },
            "jobs": { "type": "io.cozy.jobs" }, "triggers": { "type": "io.cozy.triggers" },
        },
    });
    let source = bundle::write_guest(&setting.data.path().join(slug), "wasi_requests", &manifest);
    assert_eq!(client.install(slug, &source).await.0, 202);
    let own = setting.account(slug, OTHER_PASSWORD).await;
    let trigger = client.create_trigger(slug, &own).await;
    let job = client.launch(&trigger).await;
    let ended = client.wait_for_job(&job).await;
    assert_eq!(ended["state"], "done", "{ended:#}");
    String::from_utf8(client.bytes(&format!("/jobs/{job}/log")).await).expect("text")
}

fn line<'a>(log: &'a str, name: &str) -> &'a str {
    log.lines().find(|line| line.contains(&format!("\"{name}: "))).unwrap_or_else(|| panic!("{name}: {log}"))
}

#[tokio::test]
async fn a_konnector_that_may_push_jobs_gets_no_placeholder_of_another_ones_password() {
    let setting = AccountsFixture::new().await;
    let theirs = setting.account(BANK, BANK_PASSWORD_PREFIX).await;
    let job = |konnector: &str| Some(attributes(json!({ "arguments": message(konnector, &theirs) })));
    let queue = || "/jobs/queue/konnector".to_owned();
    let log = run_requests(
        &setting,
        "pusher",
        &[
            ("for thief", "POST", queue(), job(THIEF)),
            ("for itself", "POST", queue(), job("pusher")),
            ("for bank", "POST", queue(), job(BANK)),
            ("schedule", "POST", format!("/konnectors/thief/trigger?AccountID={theirs}&ExecNow=true"), None),
        ],
    )
    .await;
    assert!(line(&log, "for itself").contains(": 422 "), "{log}");
    assert!(line(&log, "for itself").contains("belongs to the konnector"), "{log}");
    // Jobs of other konnectors, and actions of people, are rejected whoever owns the account.
    for name in ["for thief", "for bank", "schedule"] {
        assert!(line(&log, name).contains(": 403 "), "{log}");
    }
    setting.wait_idle().await;
    assert_eq!(setting.thief_vendor.take_requests(), Vec::<String>::new());
    assert_eq!(setting.bank_vendor.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_konnector_cannot_make_an_account_its_own() {
    let setting = AccountsFixture::new().await;
    let client = &setting.client;
    let theirs = setting.account(BANK, BANK_PASSWORD_PREFIX).await;
    let before = client.get(&path(&theirs)).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut account = before.clone();
        change(&mut account);
        Some(account)
    };
    let taken = changed(&|account| account["account_type"] = json!("taker"));
    let new = Some(json!({ "account_type": "taker", "auth": before["auth"] }));
    let docs = |edits: bool| {
        let mut taken = taken.clone().expect("a body");
        if !edits {
            // The next revision, from a database that also has the current one.
            let (_, here) = before["_rev"].as_str().and_then(|rev| rev.split_once('-')).expect("a revision");
            let next = "0123456789abcdef0123456789abcdef";
            taken["_rev"] = json!(format!("2-{next}"));
            taken["_revisions"] = json!({ "start": 2, "ids": [next, here] });
        }
        Some(json!({ "new_edits": edits, "docs": [taken] }))
    };
    let put = || path(&theirs);
    let log = run_requests(
        &setting,
        "taker",
        &[
            ("put", "PUT", put(), taken.clone()),
            ("share", "PUT", put(), changed(&|account| account["shared_with"] = json!(["taker"]))),
            ("host", "PUT", put(), changed(&|account| account["auth"]["url"] = json!("https://thief.example"))),
            ("delete", "DELETE", format!("{}?rev={}", put(), before["_rev"].as_str().expect("a revision")), None),
            ("bulk", "POST", "/data/io.cozy.accounts/_bulk_docs".to_owned(), docs(true)),
            ("replica", "POST", "/data/io.cozy.accounts/_bulk_docs".to_owned(), docs(false)),
            ("sealed", "POST", "/data/io.cozy.accounts/".to_owned(), new),
            ("for bank", "POST", "/data/io.cozy.accounts/".to_owned(), Some(json!({ "account_type": BANK }))),
            ("read", "GET", put(), None),
        ],
    )
    .await;
    for name in ["put", "share", "host", "delete", "for bank"] {
        assert!(line(&log, name).contains(": 403 ") && line(&log, name).contains("account_type: "), "{log}");
    }
    for name in ["bulk", "replica"] {
        assert!(line(&log, name).contains("account_type: "), "{log}");
    }
    assert!(line(&log, "sealed").contains(": 400 ") && line(&log, "sealed").contains("cannot be accepted"), "{log}");
    assert!(line(&log, "read").contains(": 200 ") && line(&log, "read").contains("credentials_encrypted"), "{log}");
    assert!(!log.contains(BANK_PASSWORD_PREFIX), "{log}");
    assert_eq!(client.get(&path(&theirs)).await, before);
}

#[tokio::test]
async fn an_account_that_becomes_another_konnectors_loses_what_is_secret() {
    let setting = AccountsFixture::new().await;
    let client = &setting.client;
    let account = setting.account(BANK, BANK_PASSWORD_PREFIX).await;
    let bank = client.create_trigger(BANK, &account).await;
    assert_eq!(client.run(&bank).await["state"], "done");
    setting.bank_vendor.take_requests();
    assert_eq!(client.run(&bank).await["state"], "done");
    let told = setting.bank_vendor.take_requests().join("\n");
    assert!(told.contains("kept-by-bank") && told.contains("of-bank"), "{told}");

    let mut body = client.get(&path(&account)).await;
    body["account_type"] = json!(THIEF);
    body["oauth"] = json!({ "access_token": "given with it" });
    let (status, answer) = client.request(Method::PUT, &path(&account), Some(body)).await;
    assert_eq!((status, &answer["data"]["auth"]), (200, &json!({ "login": "ada" })), "{answer}");
    let thief = client.create_trigger(THIEF, &account).await;
    assert_eq!(client.run(&thief).await["state"], "done");
    let told = setting.thief_vendor.take_requests().join("\n");
    assert!(told.contains("given with it") && told.contains("ada"), "{told}");
    for secret in [BANK_PASSWORD_PREFIX, "kept-by-bank", "of-bank"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn an_account_is_shared_while_its_owner_consents() {
    let setting = AccountsFixture::new().await;
    let client = &setting.client;
    let account = setting.account(BANK, BANK_PASSWORD_PREFIX).await;
    let bank = client.create_trigger(BANK, &account).await;
    assert_eq!(client.run(&bank).await["state"], "done");

    let cli = |arguments: &[&str]| run_command(setting.data.path(), arguments);
    let unknown = cli(&["accounts", "share", &account, "nobody"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("'nobody' is not installed"), "{unknown:?}");
    let shared = cli(&["accounts", "share", &account, THIEF]);
    assert_eq!(shared.code, Some(0), "{shared:?}");
    assert_eq!(client.get(&path(&account)).await["shared_with"], json!([THIEF]));
    let thief = client.create_trigger(THIEF, &account).await;
    for _ in 0..2 {
        assert_eq!(client.run(&thief).await["state"], "done");
    }
    let told = setting.thief_vendor.take_requests().join("\n");
    // The secrets are shared; each konnector has its own state and session.
    assert_eq!(told.matches(BANK_PASSWORD_PREFIX).count(), 4, "{told}");
    assert!(told.contains("kept-by-thief") && told.contains("of-thief"), "{told}");
    assert!(!told.contains("kept-by-bank") && !told.contains("of-bank"), "{told}");
    let seen = setting.thief.get(&path(&account)).await;
    assert_eq!(seen["auth"]["password"], BANK_PASSWORD_PREFIX, "{seen}");
    // It may write the fields that it may use, but not give them away.
    for (member, value) in [("shared_with", json!([THIEF, BANK])), ("account_type", json!(THIEF))] {
        let mut body = seen.clone();
        body[member] = value;
        let (status, told) = setting.thief.request(Method::PUT, &path(&account), Some(body)).await;
        assert!(status == 403 && told.to_string().contains(&format!("{member}: only the owner")), "{told}");
    }
    let mut body = seen;
    body["note"] = json!("by the thief");
    body.as_object_mut().expect("an object").remove("shared_with");
    assert_eq!(setting.thief.request(Method::PUT, &path(&account), Some(body)).await.0, 200);
    assert_eq!(client.get(&path(&account)).await["shared_with"], json!([THIEF]));

    let unshared = cli(&["accounts", "unshare", &account, THIEF]);
    assert_eq!(unshared.code, Some(0), "{unshared:?}");
    assert!(!setting.thief.get(&path(&account)).await.to_string().contains(BANK_PASSWORD_PREFIX));
    let launched = client.post(&format!("/jobs/triggers/{thief}/launch"), Value::Null).await;
    assert_eq!(launched.0, 422, "{launched:?}");
    setting.bank_vendor.take_requests();
    assert_eq!(client.run(&bank).await["state"], "done");
    let told = setting.bank_vendor.take_requests().join("\n");
    assert!(
        told.contains(BANK_PASSWORD_PREFIX) && told.contains("kept-by-bank") && !told.contains("kept-by-thief"),
        "{told}"
    );
    // Shared again, the other konnector starts from scratch.
    assert_eq!(cli(&["accounts", "share", &account, THIEF]).code, Some(0));
    assert_eq!(client.run(&thief).await["state"], "done");
    let told = setting.thief_vendor.take_requests().join("\n");
    assert!(told.contains(BANK_PASSWORD_PREFIX) && !told.contains("kept-by"), "{told}");
}

#[tokio::test]
async fn uninstalling_a_konnector_deletes_its_own_accounts_only() {
    let setting = AccountsFixture::new().await;
    let client = &setting.client;
    let (shared, moved) =
        (setting.account(BANK, BANK_PASSWORD_PREFIX).await, setting.account(THIEF, OTHER_PASSWORD).await);
    let own = setting.account(THIEF, OTHER_PASSWORD).await;
    assert_eq!(run_command(setting.data.path(), &["accounts", "share", &shared, THIEF]).code, Some(0));
    for account in [&shared, &moved, &own] {
        client.create_trigger(THIEF, account).await;
    }
    let mut body = client.get(&path(&moved)).await;
    body["account_type"] = json!(BANK);
    assert_eq!(client.request(Method::PUT, &path(&moved), Some(body)).await.0, 200);
    assert_eq!(client.request(Method::DELETE, "/konnectors/thief", None).await.0, 202);
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.request(Method::GET, "/konnectors/thief", None).await.0 != 404 {
        assert!(Instant::now() < deadline, "{}", setting.server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut left: Vec<_> = client.documents("io.cozy.accounts").await.iter().map(|one| one["_id"].clone()).collect();
    left.sort_by_key(ToString::to_string);
    let mut expected = vec![json!(shared), json!(moved)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(left, expected);
    assert_eq!(client.get("/jobs/triggers").await["data"], json!([]));
    // A new konnector of that name gets nothing that was shared with the old one.
    assert_eq!(client.get(&path(&shared)).await["shared_with"], json!([]));
}

/// An attempt: the action, its author, the target konnector, and the account.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    route: usize,
    by_thief: bool,
    konnector: &'static str,
    of_bank: bool,
}

const ROUTES: usize = 24;

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    // The most important case is the thief with the account of the bank.
    let attempt = (0..ROUTES, any::<bool>(), proptest::bool::weighted(0.8), proptest::bool::weighted(0.8));
    let attempt = attempt.prop_map(|(door, by_thief, thief, of_bank)| Attempt {
        route: door,
        by_thief,
        konnector: if thief { THIEF } else { BANK },
        of_bank,
    });
    vec(attempt, 1..16)
}

/// The accounts of a sequence of attempts.
struct AttemptAccounts {
    of_bank: String,
    of_thief: String,
    /// The initial account of the bank, its secrets sealed.
    sealed: Value,
}

impl Attempt {
    /// Makes the attempt; returns the responses.
    async fn run(self, setting: &AccountsFixture, scene: &AttemptAccounts) -> Vec<StatusAndBody> {
        let by = if self.by_thief { &setting.thief } else { &setting.client };
        let account = if self.of_bank { &scene.of_bank } else { &scene.of_thief };
        let job = || message(self.konnector, account);
        let launch = async |made: StatusAndBody, way: &str| match id(&made) {
            Some(id) => vec![by.post(&way.replace("{id}", &id), json!({ "a": 1 })).await, made],
            None => vec![made],
        };
        let put = async |change: &dyn Fn(&mut Value)| {
            let (status, mut body) = by.request(Method::GET, &path(account), None).await;
            if status != 200 {
                return vec![(status, body)];
            }
            change(&mut body);
            vec![by.request(Method::PUT, &path(account), Some(body)).await]
        };
        let sealed = &scene.sealed["auth"];
        match self.route {
            0 => vec![push(by, job()).await],
            1 => {
                let mut job = job();
                job["account_deleted"] = json!(true);
                vec![push(by, job).await]
            }
            2 => launch(trigger(by, "@cron", "0 0 3 * * *", job()).await, "/jobs/triggers/{id}/launch").await,
            3 => vec![trigger(by, "@in", "1s", job()).await],
            4 => launch(trigger(by, "@event", "io.cozy.bills:CREATED", job()).await, "/data/io.cozy.bills/").await,
            5 => launch(trigger(by, "@webhook", "", job()).await, "/jobs/webhooks/{id}").await,
            6 => launch(trigger(by, "@webhook", "", job()).await, "/jobs/webhooks/{id}?Manual=true").await,
            7 => vec![trigger(by, "@client", "", job()).await],
            8 => {
                let path = format!("/konnectors/{}/trigger?AccountID={account}&ExecNow=true", self.konnector);
                launch(by.post(&path, Value::Null).await, "/jobs/triggers/{id}/launch").await
            }
            9 => {
                let made = trigger(by, "@cron", "0 0 3 * * *", message(THIEF, &scene.of_thief)).await;
                let Some(id) = id(&made) else { return vec![made] };
                let patch = Some(attributes(json!({ "message": job() })));
                let patched = by.request(Method::PATCH, &format!("/jobs/triggers/{id}"), patch).await;
                vec![patched, by.post(&format!("/jobs/triggers/{id}/launch"), Value::Null).await]
            }
            10 => put(&|body| body["account_type"] = json!(self.konnector)).await,
            // A share written by a person is consent, so only the thief tries.
            11 if self.by_thief => put(&|body| body["shared_with"] = json!([self.konnector])).await,
            11 => put(&|body| body["shared_with"] = json!([])).await,
            12 => put(&|body| body["auth"] = sealed.clone()).await,
            13 => put(&|body| body["auth"]["url"] = json!("http://127.0.0.1:1")).await,
            14 | 15 => {
                let mut body = scene.sealed.clone();
                body["account_type"] = json!(self.konnector);
                if self.route == 15 {
                    body["_rev"] = json!("9-0123456789abcdef0123456789abcdef");
                    body["_revisions"] = json!({ "start": 9, "ids": ["0123456789abcdef0123456789abcdef"] });
                }
                let docs = json!({ "new_edits": self.route == 14, "docs": [body] });
                vec![by.post("/data/io.cozy.accounts/_bulk_docs", docs).await]
            }
            16 => {
                let body = json!({ "account_type": self.konnector, "auth": sealed });
                launch_account(by, by.post("/data/io.cozy.accounts/", body).await).await
            }
            17 => {
                let (_, found) = by.request(Method::GET, &path(account), None).await;
                let rev = found["_rev"].as_str().unwrap_or_default();
                let gone = by.request(Method::DELETE, &format!("{}?rev={rev}", path(account)), None).await;
                let body = json!({ "account_type": self.konnector, "auth": sealed });
                vec![gone, by.request(Method::PUT, &path(account), Some(body)).await, push(by, job()).await]
            }
            18 => {
                let reads = ["", "?include=credentials", "?open_revs=all", "?revs=true&include=credentials"];
                let mut answers = Vec::new();
                for query in reads {
                    answers.push(by.request(Method::GET, &format!("{}{query}", path(account)), None).await);
                }
                answers
            }
            19 => {
                let mut answers = Vec::new();
                for list in
                    ["_all_docs?include_docs=true", "_normal_docs?include=credentials", "_changes?include_docs=true"]
                {
                    answers.push(by.request(Method::GET, &format!("/data/io.cozy.accounts/{list}"), None).await);
                }
                answers
            }
            20 => {
                let all = |path: &str| format!("/data/io.cozy.accounts/{path}");
                vec![
                    by.post(&all("_find"), json!({ "selector": { "_id": account } })).await,
                    by.post(&all("_bulk_get"), json!({ "docs": [{ "id": account }] })).await,
                    by.post(&all("_all_docs?include_docs=true"), json!({ "keys": [account] })).await,
                ]
            }
            21 => vec![by.post(&format!("/accounts/{}/{account}/refresh", self.konnector), Value::Null).await],
            22 => vec![by.post("/data/io.cozy.bills/", json!({ "amount": 1 })).await],
            _ => {
                let codes = json!({ "data": { "type": "io.cozy.permissions", "attributes": {
                    "permissions": { "accounts": { "type": "io.cozy.accounts" } } } } });
                let made = by.post("/permissions?codes=fence", codes).await;
                let Some(code) = made.1["data"]["attributes"]["codes"]["fence"].as_str() else { return vec![made] };
                let fence = by.with_token(code);
                let (status, mut body) =
                    fence.request(Method::GET, &format!("{}?include=credentials", path(account)), None).await;
                let read = (status, body.clone());
                body["shared_with"] = json!([THIEF]);
                body["account_type"] = json!(self.konnector);
                vec![read, fence.request(Method::PUT, &path(account), Some(body)).await, made]
            }
        }
    }
}

/// Runs the thief for an account that it created.
async fn launch_account(by: &TestClient, made: StatusAndBody) -> Vec<StatusAndBody> {
    match id(&made) {
        Some(account) => vec![push(by, message(THIEF, &account)).await, made],
        None => vec![made],
    }
}

#[test]
fn nothing_that_a_konnector_tries_shows_it_a_secret_of_another_one() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let setting = runtime.block_on(AccountsFixture::new());
    let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let outcome = TestRunner::new(config).run(&attempts(), |attempts| {
        runtime.block_on(async {
            let (of_bank, of_thief) =
                (setting.account(BANK, BANK_PASSWORD_PREFIX).await, setting.account(THIEF, OTHER_PASSWORD).await);
            let sealed = setting.client.get(&path(&of_bank)).await;
            let scene = AttemptAccounts { of_bank, of_thief, sealed };
            for attempt in attempts {
                for (status, body) in attempt.run(&setting, &scene).await {
                    prop_assert!(!body.to_string().contains(BANK_PASSWORD_PREFIX), "{attempt:?}: {status} {body}");
                    prop_assert!(status != 500, "{attempt:?}: {body}");
                }
            }
            setting.wait_idle().await;
            let sent = setting.thief_vendor.take_requests().join("\n");
            prop_assert!(!sent.contains(BANK_PASSWORD_PREFIX), "{sent}");
            // The test can detect leaks: both konnectors send their own secrets.
            setting.bank_vendor.take_requests();
            for (slug, vendor, secret) in
                [(BANK, &setting.bank_vendor, BANK_PASSWORD_PREFIX), (THIEF, &setting.thief_vendor, OTHER_PASSWORD)]
            {
                let account = setting.account(slug, secret).await;
                prop_assert!(push(&setting.client, message(slug, &account)).await.0 == 202);
                setting.wait_idle().await;
                let sent = vendor.take_requests().join("\n");
                prop_assert!(sent.contains(secret), "{sent}");
            }
            delete_leftovers(&setting).await;
            Ok::<_, TestCaseError>(())
        })
    });
    outcome.expect("no secret is shown");
}

/// Deletes the data of a case, so that the next one starts from scratch.
async fn delete_leftovers(setting: &AccountsFixture) {
    let client = &setting.client;
    for trigger in client.get("/jobs/triggers").await["data"].as_array().expect("a list") {
        let id = trigger["id"].as_str().expect("an id");
        client.request(Method::DELETE, &format!("/jobs/triggers/{id}"), None).await;
    }
    assert_eq!(client.request(Method::DELETE, "/data/io.cozy.accounts/", None).await.0, 200);
}
