//! `/konnectors`.

use std::sync::{Arc, Mutex};

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use konnector_platform::doctype::KONNECTORS;
use konnector_platform::principal::Audience;
use konnector_store::Changes;
use serde_json::json;

use crate::support::{Api, TestRequest, component, manifest, write_bundle, write_manifest_bundle};

/// A valid manifest with two fields `type`, as real manifests have.
const MANIFEST: &str = r#"{ "name": "New", "type": "node", "type": "konnector", "version": "2.0.0",
    "permissions": { "bills": { "type": "io.cozy.bills" } } }"#;

#[tokio::test]
async fn k15_a_konnector_is_listed_and_shown() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let calls = [TestRequest::get("/konnectors/").token(&token), TestRequest::get("/konnectors/bank").token(&token)];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn a_long_list_has_pages() {
    let api = Api::new().await;
    for slug in ["alpha", "coffee"] {
        api.install(slug, json!({})).await;
    }
    let token = api.token("io.cozy.konnectors");
    let first = api.send(TestRequest::get("/konnectors/?limit=2").token(&token)).await.json();
    let slugs = |page: &serde_json::Value| -> Vec<String> {
        let resources = page["data"].as_array().expect("a list").iter();
        resources.map(|resource| resource["attributes"]["slug"].as_str().expect("a slug").to_owned()).collect()
    };
    assert_eq!(slugs(&first), ["alpha", "bank"]);
    assert_eq!(first["meta"]["count"], 2);
    let next = first["links"]["next"].as_str().expect("a next page");
    assert_eq!(next, "http://alice.example/konnectors/?limit=2&start_key=io.cozy.konnectors%2Fcoffee");
    let path = next.trim_start_matches("http://alice.example");
    let second = api.send(TestRequest::get(path).token(&token)).await.json();
    assert_eq!(slugs(&second), ["coffee"]);
    assert_eq!(second["links"], json!({}));
}

#[tokio::test]
async fn k2_what_is_not_installed_is_neither_updated_nor_deleted() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let calls = [
        TestRequest::put("/konnectors/unknown").token(&token),
        TestRequest::delete("/konnectors/unknown").token(&token),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    PUT /konnectors/unknown → 404 Not Found: Application is not installed: there is no konnector 'unknown'
    DELETE /konnectors/unknown → 404 Not Found: Application is not installed: there is no konnector 'unknown'
    ");
}

/// Cozy responds with 500 to a web app; its documentation says 400 for a manifest that cannot be processed.
#[tokio::test]
async fn k7_web_apps_are_not_supported() {
    let api = Api::new().await;
    let web_app = MANIFEST.replace("konnector\"", "webapp\"");
    let source = write_manifest_bundle(&api.folder.path().join("webapp"), &web_app);
    let konnector = write_manifest_bundle(&api.folder.path().join("konnector"), MANIFEST);
    let calls = [format!("/konnectors/new?Source={source}"), format!("/apps/new?Source={konnector}")];
    let summary = api.summary(calls.map(|path| TestRequest::post(&path).token(&api.token("*")))).await;
    insta::assert_snapshot!(summary.replace(&api.folder.path().display().to_string(), "<folder>"), @r#"
    POST /konnectors/new?Source=file://<folder>/webapp → 400 Bad Request: the manifest cannot be used: line 1, column 42: type: "webapp" is not valid for a konnector; write "type": "konnector"
    POST /apps/new?Source=file://<folder>/konnector → 404 Not Found: there is no route /apps/new
    "#);
}

#[tokio::test]
async fn k10_slugs_and_sources_are_checked() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let calls = [
        "/konnectors/?Source=file:///nowhere",
        "/konnectors/coucou%2F?Source=file:///nowhere",
        "/konnectors/Upper?Source=file:///nowhere",
        "/konnectors/new?Source=foo://bar.baz",
        "/konnectors/new?Source=git://bar%20%20.baz",
        "/konnectors/new?Source=",
    ];
    insta::assert_snapshot!(api.summary(calls.map(|path| TestRequest::post(path).token(&token))).await, @r#"
    POST /konnectors/?Source=file:///nowhere → 422 Invalid Parameter (slug): Invalid slug name ''; a slug consists of lower-case letters, digits and -
    POST /konnectors/coucou%2F?Source=file:///nowhere → 422 Invalid Parameter (slug): Invalid slug name 'coucou/'; a slug consists of lower-case letters, digits and -
    POST /konnectors/Upper?Source=file:///nowhere → 422 Invalid Parameter (slug): Invalid slug name 'Upper'; a slug consists of lower-case letters, digits and -
    POST /konnectors/new?Source=foo://bar.baz → 422 Invalid Parameter (Source): "foo://bar.baz" is not a valid source: the scheme "foo" is not supported; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci
    POST /konnectors/new?Source=git://bar%20%20.baz → 422 Invalid Parameter (Source): "git://bar  .baz" is not a valid source: invalid domain character
    POST /konnectors/new?Source= → 400 Bad Request: the source is empty; set the parameter Source, for example file:///path/to/bundle
    "#);
}

#[tokio::test]
async fn k11_an_archive_with_a_directory_at_its_top_is_installed() {
    let manifest = manifest("1.0.0", &["io.cozy.bills"]).to_string().into_bytes();
    let files =
        [("manifest.konnector", manifest), ("konnector.wasm", component(true)), ("icon.svg", b"<svg/>".to_vec())];
    let files = files.map(|(name, bytes)| (format!("cozy-shop-0b5e2c1/{name}"), bytes));
    let archive = konnector_platform::konnector::pack(&files.into()).expect("packed");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let source = format!("http://{}/archive/0b5e2c1.tar.gz", listener.local_addr().expect("an address"));
    let router = axum::Router::new().route("/archive/0b5e2c1.tar.gz", axum::routing::get(async || archive));
    tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
    let api = Api::new().await;
    let events = api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
    assert_eq!(events, ["installing 1.0.0", "ready 1.0.0"]);
    assert_eq!(api.konnector("shop").await["source"], source);
}

#[tokio::test]
async fn k12_of_two_members_of_a_name_the_last_one_counts() {
    let api = Api::new().await;
    let source = write_bundle(&api.folder.path().join("new"), &json!({}));
    std::fs::write(api.folder.path().join("new/manifest.konnector"), MANIFEST).expect("written");
    let events = api.follow(TestRequest::post(&format!("/konnectors/new?Source={source}"))).await;
    assert_eq!(events, ["installing 2.0.0", "ready 2.0.0"]);
    assert_eq!(api.konnector("new").await["type"], "konnector");
}

#[tokio::test]
async fn k23_what_is_not_installed_is_not_there_for_those_who_may_not_look_either() {
    let api = Api::new().await;
    let token = api.token("io.cozy.contacts");
    let calls = [
        TestRequest::get("/konnectors/unknown").token(&token),
        TestRequest::post("/konnectors/unknown/trigger").token(&token),
        TestRequest::get("/konnectors/bank").token(&token),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    GET /konnectors/unknown → 404 Not Found: Application is not installed: there is no konnector 'unknown'
    POST /konnectors/unknown/trigger → 404 Not Found: Application is not installed: there is no konnector 'unknown'
    GET /konnectors/bank → 403 the token does not allow GET on io.cozy.konnectors; use one whose scope has io.cozy.konnectors:GET
    ");
}

#[tokio::test]
async fn k25_a_rule_on_an_illegal_doctype_is_forbidden() {
    let api = Api::new().await;
    let source =
        write_manifest_bundle(&api.folder.path().join("illegal"), &MANIFEST.replace("io.cozy.bills", "IO.COZY.FILES"));
    let response =
        api.send(TestRequest::post(&format!("/konnectors/new?Source={source}")).token(&api.token("*"))).await;
    insta::assert_snapshot!(response.summary(), @r#"403 the manifest cannot be used: line 2, column 41: permissions.bills.type: "IO.COZY.FILES" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and ".""#);
}

#[tokio::test]
async fn what_cannot_be_installed_is_refused_with_the_reason() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let source = |name: &str, manifest: &str| write_manifest_bundle(&api.folder.path().join(name), manifest);
    let (broken, core) = (source("broken", "{"), source("core", MANIFEST));
    std::fs::write(api.folder.path().join("core/konnector.wasm"), b"\0asm\x01\0\0\0").expect("written");
    let post = |path: &str| TestRequest::post(path).token(&token);
    let calls = [
        post("/konnectors/new?Source=file:///nowhere"),
        post("/konnectors/new?Source=file:///nowhere&Parameters=[1]"),
        post("/konnectors/bank?Source=file:///nowhere"),
        post(&format!("/konnectors/new?Source={broken}")),
        post(&format!("/konnectors/new?Source={core}")),
    ];
    let folder = api.folder.path().display().to_string();
    insta::assert_snapshot!(api.summary(calls).await.replace(&folder, "<folder>"), @r"
    POST /konnectors/new?Source=file:///nowhere → 404 Not Found: there is no manifest.konnector in '/nowhere'; check the path of the source
    POST /konnectors/new?Source=file:///nowhere&Parameters=[1] → 400 Bad Request: the parameter Parameters is a list; expected an object
    POST /konnectors/bank?Source=file:///nowhere → 409 Conflict: Application with same slug already exists
    POST /konnectors/new?Source=file://<folder>/broken → 400 Bad Request: the manifest cannot be used: the manifest is not valid JSON: line 1, column 1: EOF while parsing an object
    POST /konnectors/new?Source=file://<folder>/core → 422 Invalid Parameter (Source): the component cannot be used: the file is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2` (or convert it with `wasm-tools component new`)
    ");
}

#[tokio::test]
async fn k13_apps_and_clients_may_not_install_except_the_store_from_the_registry() {
    let api = Api::new().await;
    let install = |audience, subject, source: &str| {
        let token = api.token_of(audience, subject, "io.cozy.konnectors");
        api.send(TestRequest::post(&format!("/konnectors/new?Source={source}")).token(&token))
    };
    assert_eq!(install(Audience::App, "drive", "registry://new/stable").await.status, 403);
    assert_eq!(install(Audience::App, "store", "file:///nowhere").await.status, 403);
    let client = api.client_token("io.cozy.konnectors").await;
    let install_by_client = TestRequest::post("/konnectors/new?Source=registry://new/stable").token(&client);
    assert_eq!(api.send(install_by_client).await.status, 403);
    assert_eq!(api.send(TestRequest::put("/konnectors/bank").token(&client)).await.status, 403);
    // The caller is permitted: there is no registry yet.
    assert_eq!(install(Audience::App, "store", "registry://new/stable").await.status, 422);
    assert_eq!(install(Audience::Cli, "CLI", "file:///nowhere").await.status, 404);
    let update =
        TestRequest::put("/konnectors/bank").token(&api.token_of(Audience::App, "store", "io.cozy.konnectors"));
    assert_eq!(api.send(update).await.status, 403);
    let owner = api.client_token("*").await;
    assert_eq!(api.send(TestRequest::post("/konnectors/new?Source=file:///nowhere").token(&owner)).await.status, 404);
}

#[tokio::test]
async fn k18_an_installation_is_accepted_when_its_manifest_was_read_and_before_it_is_done() {
    let api = Api::new().await;
    let token = api.token("*");
    let unreachable = TestRequest::post("/konnectors/new?Source=file:///nowhere").token(&token);
    assert_eq!(api.send(unreachable).await.status, 404);
    let source = write_manifest_bundle(&api.folder.path().join("new"), MANIFEST);
    let response = api.send(TestRequest::post(&format!("/konnectors/new?Source={source}")).token(&token)).await;
    assert_eq!(response.status, 202, "{response}");
    let body = response.json();
    let resource = &body["data"][0];
    assert_eq!(resource["id"], "io.cozy.konnectors/new");
    assert_eq!(resource["attributes"]["state"], "installing");
    assert_eq!(resource["attributes"]["source"], source.as_str());
    assert_eq!(resource["meta"], json!({}));
}

#[tokio::test]
async fn k18_an_installation_can_be_followed_and_leaves_nothing_where_it_fails() {
    let api = Api::new().await;
    let token = api.token("*");
    let source = write_manifest_bundle(&api.folder.path().join("new"), MANIFEST);
    let follow = |path: String| api.send(TestRequest::post(&path).token(&token).accept("text/event-stream"));
    let response = follow(format!("/konnectors/new?Source={source}")).await;
    assert_eq!((response.status, response.header(CONTENT_TYPE)), (200, "text/event-stream"));
    // The component has the right export without a function: it passes the inspection but cannot be linked.
    let events: Vec<&str> = response.text().split("\r\n\r\n").collect();
    assert!(events[0].starts_with("event: state\r\ndata: {\"data\":{\"type\":\"io.cozy.konnectors\""), "{}", events[0]);
    assert!(events[0].contains("\"state\":\"installing\""), "{}", events[0]);
    assert!(events[1].starts_with("event: error\r\ndata: \"the component cannot be used"), "{}", events[1]);
    assert_eq!(events[2..], [""]);
    assert_eq!(api.send(TestRequest::get("/konnectors/new").token(&token)).await.status, 404);
    // An immediate rejection is also an event, because the status was sent before.
    let rejected = follow("/konnectors/Upper?Source=file:///nowhere".to_owned()).await;
    assert_eq!(rejected.status, 200);
    assert!(rejected.text().starts_with("event: error\r\ndata: \"Invalid slug name"), "{}", rejected.text());
    // Only exactly this media type requests a stream.
    let mixed =
        TestRequest::post("/konnectors/Upper?Source=file:///nowhere").token(&token).accept("text/event-stream, */*");
    assert_eq!(api.send(mixed).await.status, 422);
}

/// A value that is not a boolean does not count as consent. Without the parameter, consent is assumed, as documented.
#[tokio::test]
async fn k19_an_update_waits_for_consent_only_on_request() {
    let api = Api::new().await;
    let token = api.token("*");
    let source = write_manifest_bundle(&api.folder.path().join("new"), &MANIFEST.replace("bills", "contacts"));
    let blocked = format!("/konnectors/bank?Source={source}&PermissionsAcked=maybe");
    let response = api.send(TestRequest::put(&blocked).token(&token)).await;
    assert_eq!(response.status, 202, "{response}");
    let attributes = &response.json()["data"][0]["attributes"];
    assert_eq!(
        (&attributes["state"], &attributes["version"], &attributes["available_version"]),
        (&json!("ready"), &json!("1.0.0"), &json!("2.0.0"))
    );
    let response = api.send(TestRequest::put(&format!("/konnectors/bank?Source={source}")).token(&token)).await;
    assert_eq!(response.json()["data"][0]["attributes"]["state"], "upgrading", "{response}");
}

/// The documentation says 204; Cozy responds with 200 and the manifest.
#[tokio::test]
async fn k8_a_konnector_without_accounts_goes_at_once() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let response = api.send(TestRequest::delete("/konnectors/bank").token(&token)).await;
    assert_eq!((response.status, response.text()), (204, ""));
    assert_eq!(api.send(TestRequest::get("/konnectors/bank").token(&token)).await.status, 404);
    assert_eq!(api.send(TestRequest::delete("/konnectors/bank").token(&token)).await.status, 404);
}

#[tokio::test]
async fn k15_an_icon_is_shown_and_runs_nothing() {
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let response = api.send(TestRequest::get("/konnectors/bank/icon").token(&token)).await;
    assert_eq!((response.status, response.text(), response.header(CONTENT_TYPE)), (200, "<svg/>", "image/svg+xml"));
    assert!(response.header(CONTENT_SECURITY_POLICY).starts_with("sandbox;"));
    let response = api.send(TestRequest::get("/konnectors/bank/icon/1.0.0").token(&token)).await;
    assert!(response.header(CACHE_CONTROL).ends_with("immutable"));
}

/// The account is not checked, and each call creates a trigger. Unlike Cozy's, its time differs between accounts.
#[tokio::test]
async fn k21_a_trigger_is_made_from_the_manifest_and_may_run_at_once() {
    let api = Api::new().await;
    let token = api.token("*");
    let narrow = api.token("io.cozy.triggers:POST:konnector:worker");
    let response = api.send(TestRequest::post("/konnectors/bank/trigger?AccountID=a1").token(&narrow)).await;
    assert_eq!(response.status, 201, "{response}");
    let attributes = &response.json()["data"]["attributes"];
    assert_eq!(attributes["type"], "@cron");
    assert_eq!(attributes["arguments"].as_str().expect("a crontab").split(' ').count(), 6);
    assert_eq!(attributes["message"], json!({ "account": "a1", "konnector": "bank", "folder_to_save": "yes" }));
    let queue = || api.send(TestRequest::get("/jobs/queue/konnector").token(&token));
    assert_eq!(queue().await.json()["meta"]["count"], 0);
    let launched =
        api.send(TestRequest::post("/konnectors/bank/trigger?AccountID=a1&ExecNow=true").token(&token)).await;
    let queued = queue().await.json();
    assert_eq!(queued["data"][0]["attributes"]["trigger_id"], launched.id().as_str());
    assert_eq!(queued["data"][0]["attributes"]["manual_execution"], true);
    assert_ne!(launched.id(), response.id());
    let mut crontabs = std::collections::BTreeSet::new();
    for account in ["a1", "a1", "a2", "a3", "a4"] {
        let call = TestRequest::post(&format!("/konnectors/bank/trigger?AccountID={account}")).token(&token);
        crontabs.insert(api.send(call).await.json()["data"]["attributes"]["arguments"].to_string());
    }
    assert!((2..=4).contains(&crontabs.len()), "{crontabs:?}");
}

/// By mistake, Cozy ignores the hours of the manifest.
#[tokio::test]
async fn k24_the_time_of_a_trigger_is_within_the_hours_of_the_manifest() {
    let api = Api::new().await;
    let mut manifest = manifest("1.0.0", &["io.cozy.bills"]);
    (manifest["frequency"], manifest["time_interval"]) = (json!("daily"), json!([8, 12]));
    let source = write_bundle(&api.folder.path().join("shop"), &manifest);
    api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
    for account in 0..20 {
        let call = TestRequest::post(&format!("/konnectors/shop/trigger?AccountID={account}")).token(&api.token("*"));
        let trigger = api.send(call).await.json();
        let crontab = trigger["data"]["attributes"]["arguments"].as_str().expect("a crontab");
        let hour: u32 = crontab.split(' ').nth(2).and_then(|hour| hour.parse().ok()).expect("an hour");
        assert!((8..12).contains(&hour) && crontab.ends_with(" * * *"), "{crontab}");
    }
}

#[tokio::test]
async fn a_konnector_can_be_installed_without_being_ready_and_brings_its_parameters() {
    let api = Api::new().await;
    let mut manifest = manifest("1.0.0", &["io.cozy.bills"]);
    manifest["parameters"] = json!({ "own": 1 });
    let source = write_bundle(&api.folder.path().join("shop"), &manifest);
    let install = format!("/konnectors/shop?Source={source}&Deactivated=true&Parameters=%7B%22given%22:2%7D");
    assert_eq!(api.follow(TestRequest::post(&install)).await, ["installing 1.0.0", "installed 1.0.0"]);
    let shop = api.konnector("shop").await;
    assert_eq!((&shop["state"], &shop["parameters"]), (&json!("installed"), &json!({ "given": 2 })));
    // A manifest with parameters sets them; one without leaves them unchanged.
    api.follow(TestRequest::put("/konnectors/shop")).await;
    assert_eq!(api.konnector("shop").await["parameters"], json!({ "own": 1 }));
    manifest.as_object_mut().expect("an object").remove("parameters");
    write_bundle(&api.folder.path().join("shop"), &manifest);
    api.follow(TestRequest::put("/konnectors/shop")).await;
    assert_eq!(api.konnector("shop").await["parameters"], json!({ "own": 1 }));
}

#[tokio::test]
async fn what_was_installed_can_be_downloaded_and_installed_again() {
    let api = Api::new().await;
    let token = api.token("*");
    let source = write_bundle(&api.folder.path().join("shop"), &manifest("1.0.0", &["io.cozy.bills"]));
    api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
    let get = |path: &str| api.send(TestRequest::get(&format!("/konnectors/shop/download{path}")).token(&token));
    let response = get("/1.0.0").await;
    assert_eq!((response.status, response.header(CONTENT_TYPE)), (200, "application/gzip"));
    let bundle = konnector_platform::konnector::Bundle::from_archive(&response.body).expect("a bundle");
    assert_eq!((bundle.component, bundle.icon), (component(true), Some(b"<svg/>".to_vec())));
    assert_eq!(bundle.manifest.name, "Shop");
    assert_eq!(get("").await.body, response.body);
    let other = get("/2.0.0").await;
    assert_eq!(other.status, 412);
    let error = &other.json()["errors"][0];
    assert_eq!(error["source"], json!({ "parameter": "version" }));
    assert_eq!(api.send(TestRequest::get("/konnectors/nope/download").token(&token)).await.status, 404);
}

/// Web apps, whose log would be written to `/apps/:slug/logs`, are not supported.
#[tokio::test]
async fn k16_what_clients_log_goes_to_the_log_of_the_server() {
    let api = Api::new().await;
    api.install("talks", json!({ "logs": { "type": "io.cozy.apps.logs", "verbs": ["POST"] } })).await;
    let mut in_client = manifest("1.0.0", &["io.cozy.bills"]);
    in_client["clientSide"] = json!(true);
    let source = write_bundle(&api.folder.path().join("phone"), &in_client);
    api.follow(TestRequest::post(&format!("/konnectors/phone?Source={source}"))).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let line = |level: &str| json!([{ "timestamp": "2026-11-20T10:00:00Z", "level": level, "msg": "hello there" }]);
    let post_to = |slug: &str, token: String, level: &str| {
        api.send(TestRequest::post(&format!("/konnectors/{slug}/logs?job_id=j1")).token(&token).json(&line(level)))
    };
    let post = |token, level| post_to("any", token, level);
    assert_eq!(post(api.token_of(Audience::App, "flagship", "*"), "warning").await.status, 204);
    assert_eq!(post(api.token_of(Audience::Konnector, "talks", ""), "info").await.status, 204);
    assert_eq!(post_to("phone", api.token("*"), "error").await.status, 204);
    let text = log.text();
    let [flagship, own, phone] = *text.trim().split('\n').collect::<Vec<_>>() else { panic!("three lines: {text}") };
    for part in ["WARN", "hello there", "domain=\"alice.example\"", "slug=\"any\"", "job=\"j1\"", "2026-11-20T10:00:00"]
    {
        assert!(flagship.contains(part), "{part}: {flagship}");
    }
    assert!(own.contains("INFO") && own.contains("slug=\"talks\"") && !own.contains("worker_id"), "{own}");
    assert!(phone.contains("ERROR") && phone.contains("worker_id=\"client\""), "{phone}");
    assert_eq!(post(api.token_of(Audience::Konnector, "bank", ""), "info").await.status, 403);
    assert_eq!(post(api.token_of(Audience::App, "drive", "io.cozy.apps.logs"), "info").await.status, 403);
    assert_eq!(post(api.token("*"), "loud").await.status, 422);
    let broken = TestRequest::post("/konnectors/any/logs").token(&api.token("*")).text("{");
    assert_eq!(api.send(broken).await.status, 400);
}

/// Captured log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("whole").clone()).expect("a text")
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A bundle may come from an author who must not read the server's files.
#[tokio::test]
async fn a_link_in_a_folder_leads_nowhere() {
    let api = Api::new().await;
    let token = api.token("*");
    let secret = api.folder.path().join("key");
    for name in ["icon.svg", "konnector.wasm", "manifest.konnector"] {
        let folder = api.folder.path().join(format!("linked-{name}"));
        let source = write_bundle(&folder, &manifest("1.0.0", &["io.cozy.bills"]));
        std::fs::remove_file(folder.join(name)).expect("removed");
        std::os::unix::fs::symlink(&secret, folder.join(name)).expect("a link");
        let rejected = api.send(TestRequest::post(&format!("/konnectors/shop?Source={source}")).token(&token)).await;
        assert!(rejected.status == 404 && rejected.summary().contains("is a symbolic link"), "{rejected}");
        assert_eq!(api.send(TestRequest::get("/konnectors/shop/icon").token(&token)).await.status, 404);
    }
    let folder = api.folder.path().join("piped");
    let source = write_bundle(&folder, &manifest("1.0.0", &["io.cozy.bills"]));
    std::fs::remove_file(folder.join("konnector.wasm")).expect("removed");
    let status = std::process::Command::new("mkfifo").arg(folder.join("konnector.wasm")).status();
    assert!(status.expect("mkfifo is installed").success());
    let rejected = api.send(TestRequest::post(&format!("/konnectors/shop?Source={source}")).token(&token)).await;
    assert!(rejected.status == 404 && rejected.summary().contains("is not a regular file"), "{rejected}");
}

/// An unusable component is described in a few lines, however many names it has.
#[tokio::test]
async fn a_component_with_many_names_has_a_short_error() {
    let api = Api::new().await;
    let token = api.token("*");
    let folder = api.folder.path().join("many");
    let source = write_bundle(&folder, &manifest("1.0.0", &["io.cozy.bills"]));
    let exports: String = (0..100_000).map(|number| format!("(export \"name{number}\" (instance $empty))\n")).collect();
    let exporting = format!("(component (instance $empty) {exports})");
    let name = "n".repeat(90_000);
    let importing = format!(
        "(component (import \"{name}\" (instance)) (instance $empty) (export \"wasi:cli/run@0.2.0\" (instance $empty)))"
    );
    for component in [exporting, importing] {
        std::fs::write(folder.join("konnector.wasm"), wat::parse_str(component).expect("a component"))
            .expect("written");
        let rejected = api.send(TestRequest::post(&format!("/konnectors/shop?Source={source}")).token(&token)).await;
        assert_eq!(rejected.status, 422, "{}", rejected.body.len());
        assert!(rejected.body.len() < 3_000, "{} bytes", rejected.body.len());
    }
}

/// The uninstall command polls the list until the konnector is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_while_konnectors_are_uninstalled() {
    let api = Api::new().await;
    let token = api.token("*");
    let slugs: Vec<String> = (0..40).map(|number| format!("shop-{number}")).collect();
    for slug in &slugs {
        api.install(slug, json!({})).await;
    }
    let calls = slugs.iter().flat_map(|slug| {
        let delete = TestRequest::delete(&format!("/konnectors/{slug}")).token(&token);
        let lists = std::iter::repeat_with(|| TestRequest::get("/konnectors/?limit=1000").token(&token)).take(3);
        std::iter::once(delete).chain(lists)
    });
    for response in api.send_concurrently(calls.collect::<Vec<_>>()).await {
        assert!(matches!(response.status, 200 | 204), "{response}");
    }
}

/// Uninstalls `bank`; returns the names of the events, with the message of an error.
async fn uninstalled(api: &Api, query: &str) -> Vec<String> {
    let call =
        TestRequest::delete(&format!("/konnectors/bank{query}")).token(&api.token("*")).accept("text/event-stream");
    let response = api.send(call).await;
    assert_eq!((response.status, response.header(CONTENT_TYPE)), (200, "text/event-stream"), "{response}");
    let events = response.text().split("\r\n\r\n").filter(|event| !event.is_empty());
    let names = events.map(|event| {
        let (name, data) = event.trim_start_matches("event: ").split_once("\r\ndata: ").expect("an event");
        if name == "error" { data.to_owned() } else { name.to_owned() }
    });
    names.collect()
}

async fn add_account(api: &Api) {
    let call =
        TestRequest::post("/data/io.cozy.accounts/").token(&api.token("*")).json(&json!({ "account_type": "bank" }));
    let response = api.send(call).await;
    assert_eq!(response.status, 201, "{response}");
}

#[tokio::test]
async fn an_uninstallation_can_be_followed() {
    let api = Api::new().await;
    assert_eq!(uninstalled(&api, "").await, ["deleted"]);
    let api = Api::new().await;
    add_account(&api).await;
    assert_eq!(uninstalled(&api, "").await, ["cleaning", "deleted"]);
    let missing = api.send(TestRequest::get("/konnectors/bank").token(&api.token("*"))).await;
    assert_eq!(missing.status, 404, "{missing}");
}

#[tokio::test]
async fn a_follower_of_an_uninstallation_learns_why_the_konnector_stays() {
    let api = Api::new().await;
    let doc_ref = api.alice.doc(&KONNECTORS, "io.cozy.konnectors/bank");
    let konnector = api.platform.raw_store().get(&doc_ref).expect("read").expect("the konnector");
    let mut body = konnector.body;
    body.insert("on_delete_account".to_owned(), json!("onDeleteAccount.js"));
    let mut changes = Changes::new();
    changes.put(doc_ref, &konnector.rev, body);
    api.platform.raw_store().commit(changes).await.expect("stored");
    for (query, last) in [("", "the clean-up failed"), ("?Force=true", "deleted")] {
        if query.is_empty() {
            add_account(&api).await;
        }
        let cancelled = async {
            let job = async || {
                let queue = api.send(TestRequest::get("/jobs/queue/konnector").token(&api.token("*"))).await.json();
                queue["data"][0]["id"].as_str().map(str::to_owned)
            };
            api.wait_until(true, async || job().await.is_some()).await;
            let path = format!("/jobs/{}/cancel", job().await.expect("a job"));
            let response = api.send(TestRequest::post(&path).token(&api.token("*")).attributes(json!({}))).await;
            assert_eq!(response.status, 202, "{response}");
        };
        let (events, ()) = tokio::join!(uninstalled(&api, query), cancelled);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0] == "cleaning" && events[1].contains(last), "{events:?}");
    }
}
