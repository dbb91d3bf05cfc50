//! Konnectors of a registry on a real socket.

use konnector_egress::AddressRule;
use konnector_platform::konnector::BundleDirectory;
use konnector_platform::principal::Audience;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{Api, TestRequest, manifest, revealing_component, write_bundle, write_bundle_with};

const BILLS: &[&str] = &["io.cozy.bills"];

/// Registry with its bundle folder.
struct FakeRegistry {
    folder: TempDir,
    url: String,
}

impl FakeRegistry {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = konnector_api::registry_server(
            BundleDirectory::new(folder.path().to_owned(), |_| {}).expect("a shelf"),
            None,
        );
        tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
        Self { folder, url }
    }

    fn publish(&self, version: &str, types: &[&str]) {
        self.publish_as(version, &manifest(version, types));
    }

    fn publish_as(&self, version: &str, manifest: &Value) {
        write_bundle(&self.folder.path().join("shop").join(version), manifest);
    }

    /// Publishes a component that reads passwords, with the same rules.
    fn publish_revealing(&self, version: &str, types: &[&str]) {
        write_bundle_with(
            &self.folder.path().join("shop").join(version),
            &manifest(version, types),
            &revealing_component(),
        );
    }

    /// Starts a server with this registry.
    async fn server(&self) -> Api {
        Api::with_config(|config, gate| {
            config.registries = vec![self.url.parse().expect("an address")];
            gate.allowed_private = vec!["127.0.0.0/8".parse::<AddressRule>().expect("a rule")];
        })
        .await
    }
}

fn versions(konnector: &Value) -> (&str, Option<&str>) {
    (konnector["version"].as_str().expect("a version"), konnector["available_version"].as_str())
}

#[tokio::test]
async fn a_konnector_is_installed_from_a_channel_or_at_a_version() {
    let registry = FakeRegistry::start().await;
    for version in ["1.0.0", "1.10.0", "1.9.0", "2.0.0-beta.1", "2.0.0-dev.a1b2"] {
        registry.publish(version, BILLS);
    }
    let api = registry.server().await;
    // The default source is the stable channel of the slug.
    assert_eq!(api.follow(TestRequest::post("/konnectors/shop")).await, ["installing 1.10.0", "ready 1.10.0"]);
    let shop = api.konnector("shop").await;
    assert_eq!(shop["source"], "registry://shop/stable");
    for (slug, source, version) in [
        ("b", "registry://shop/beta", "2.0.0-beta.1"),
        ("c", "registry://shop/dev", "2.0.0-dev.a1b2"),
        ("d", "registry://shop/1.0.0", "1.0.0"),
        ("e", "registry://shop/beta/1.9.0", "1.9.0"),
        ("f", "registry://shop/stable/latest", "1.10.0"),
    ] {
        let events = api.follow(TestRequest::post(&format!("/konnectors/{slug}?Source={source}"))).await;
        assert_eq!(events.last().expect("an event"), &format!("ready {version}"), "{source}");
    }
}

#[tokio::test]
async fn missing_and_malformed_versions_are_reported() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    let token = api.token("*");
    let mut summaries = Vec::new();
    for source in ["other/stable", "shop/nightly", "shop/3.0.0"] {
        let call = TestRequest::post(&format!("/konnectors/new?Source=registry://{source}")).token(&token);
        let response = api.send(call).await;
        summaries.push(format!(
            "{} {}",
            response.status,
            response.json()["errors"][0]["detail"].as_str().expect("a text")
        ));
    }
    insta::assert_snapshot!(summaries.join("\n"), @r"
    404 no registry of this server offers 'other' in the channel 'stable'
    404 no registry of this server offers 'shop' in the channel 'nightly'
    404 no registry of this server offers version 3.0.0 of 'shop'
    ");
    let nowhere = Api::new().await;
    let call = TestRequest::post("/konnectors/new?Source=registry://shop").token(&nowhere.token("*"));
    assert_eq!(nowhere.send(call).await.status, 422);
}

/// The operator can waive consent for the whole server.
#[tokio::test]
async fn k5_an_update_that_wants_more_waits_for_consent() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    registry.publish("2.0.0", &["io.cozy.bills", "io.cozy.files"]);
    let update = |query: &str| TestRequest::put(&format!("/konnectors/shop{query}"));
    assert_eq!(api.follow(update("?PermissionsAcked=false")).await, ["ready 1.0.0"]);
    assert_eq!(versions(&api.konnector("shop").await), ("1.0.0", Some("2.0.0")));
    assert_eq!(api.follow(update("")).await, ["upgrading 2.0.0", "ready 2.0.0"]);
    assert_eq!(versions(&api.konnector("shop").await), ("2.0.0", None));
    // Without a newer version the update does nothing and succeeds.
    assert_eq!(api.follow(update("")).await, ["ready 2.0.0"]);

    let waived = Api::with_config(|config, gate| {
        config.registries = api.platform.config().registries.clone();
        config.permissions_skip_verification = true;
        gate.allowed_private = vec!["127.0.0.0/8".parse().expect("a rule")];
    })
    .await;
    waived.follow(TestRequest::post("/konnectors/shop?Source=registry://shop/1.0.0")).await;
    let events = waived.follow(update("?PermissionsAcked=false&Source=registry://shop/stable")).await;
    assert_eq!(events, ["upgrading 2.0.0", "ready 2.0.0"]);
    assert_eq!(versions(&waived.konnector("shop").await), ("2.0.0", None));
    let konnector = waived.token_of(Audience::Konnector, "shop", "");
    let rules = waived.send(TestRequest::get("/permissions/self").token(&konnector)).await.json();
    assert_eq!(rules["data"]["attributes"]["permissions"]["io.cozy.files"], json!({ "type": "io.cozy.files" }));
    // New terms still require consent.
    let mut terms = manifest("3.0.0", &["io.cozy.bills", "io.cozy.files"]);
    terms["terms"] = json!({ "id": "shop", "url": "https://shop.example/terms", "version": "1" });
    registry.publish_as("3.0.0", &terms);
    assert_eq!(waived.follow(update("?PermissionsAcked=false")).await, ["ready 2.0.0"]);
    assert_eq!(versions(&waived.konnector("shop").await), ("2.0.0", Some("3.0.0")));
}

#[tokio::test]
async fn showing_a_konnector_offers_the_newest_version_without_consent() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    registry.publish("1.1.0", BILLS);
    assert_eq!(versions(&api.konnector("shop").await), ("1.1.0", None));
    // The registry is not asked again within five minutes.
    registry.publish("1.2.0", BILLS);
    assert_eq!(versions(&api.konnector("shop").await), ("1.1.0", None));

    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop?Source=registry://shop/1.0.0")).await;
    assert_eq!(versions(&api.konnector("shop").await), ("1.0.0", None), "a fixed version stays");
    api.follow(TestRequest::put("/konnectors/shop?Source=registry://shop/stable&PermissionsAcked=false")).await;
    registry.publish("1.3.0", &["io.cozy.contacts"]);
    assert_eq!(versions(&api.konnector("shop").await), ("1.2.0", Some("1.3.0")));
}

/// The new version has the same rules but imports `reveal`: neither showing the konnector nor a run installs it.
#[tokio::test]
async fn a_version_that_newly_reads_passwords_is_never_installed_by_itself() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    registry.publish_revealing("1.1.0", BILLS);
    let shop = api.konnector("shop").await;
    assert_eq!(versions(&shop), ("1.0.0", Some("1.1.0")));
    assert_eq!(shop["available_changes"], json!(["it reads the passwords of its accounts instead of only using them"]));
    assert_eq!(shop["reads_secrets"], false);
    // Once it is accepted, the next version that reads them needs no further consent.
    let update = TestRequest::put("/konnectors/shop").token(&api.token("*")).accept("text/event-stream");
    let response = api.send(update).await;
    let events = response.text();
    let accepted = r#""accepted_changes":["it reads the passwords of its accounts instead of only using them"]"#;
    let lines: Vec<_> = events.lines().filter(|line| line.starts_with("data: ")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(accepted)), "{events}");
    assert!(lines.last().is_some_and(|line| line.contains(r#""state":"ready""#)), "{events}");
    let shop = api.konnector("shop").await;
    assert_eq!(shop["accepted_changes"], Value::Null, "it belongs to the update, not to the konnector");
    assert_eq!((&shop["available_changes"], &shop["reads_secrets"]), (&Value::Null, &json!(true)));

    // Each run looks for updates, too; here it is the first to find 1.1.0.
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    registry.publish_revealing("1.1.0", BILLS);
    let slug = "shop".parse().expect("a slug");
    assert!(api.platform.konnectors().refresh(&api.alice, &slug).await);
    let installed = api.platform.konnectors().get(&api.alice, &slug).expect("installed");
    assert_eq!((installed.version.as_str(), installed.reads_secrets), ("1.0.0", false));
    assert_eq!(installed.available_version.as_deref(), Some("1.1.0"));
}

/// Passwords and terms require consent for every source, even if the operator waives consent to permissions.
#[tokio::test]
async fn every_source_of_an_update_is_held_to_the_same_consent() {
    for waived in [false, true] {
        let api = Api::with_config(|config, _| config.permissions_skip_verification = waived).await;
        let folder = TempDir::new().expect("a folder");
        let accounts = &["io.cozy.accounts"];
        // The API shows passwords to a command component with a rule on accounts.
        let source = write_bundle(folder.path(), &manifest("1.0.0", BILLS));
        api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
        let update = async || api.follow(TestRequest::put("/konnectors/shop?PermissionsAcked=false")).await;
        write_bundle_with(folder.path(), &manifest("1.1.0", BILLS), &revealing_component());
        assert_eq!(update().await, ["ready 1.0.0"], "reveal");
        write_bundle(folder.path(), &manifest("1.2.0", &[BILLS, accounts].concat()));
        assert_eq!(update().await, ["ready 1.0.0"], "a command that reads accounts");
        let mut terms = manifest("1.3.0", BILLS);
        terms["terms"] = json!({ "id": "shop", "version": "1" });
        write_bundle(folder.path(), &terms);
        assert_eq!(update().await, ["ready 1.0.0"], "terms");
        assert_eq!(versions(&api.konnector("shop").await), ("1.0.0", Some("1.3.0")));
        write_bundle(folder.path(), &manifest("1.4.0", BILLS));
        assert_eq!(update().await, ["upgrading 1.4.0", "ready 1.4.0"], "nothing grows");
    }
}

#[tokio::test]
async fn an_unreachable_registry_changes_nothing() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    std::fs::remove_dir_all(registry.folder.path().join("shop")).expect("removed");
    assert_eq!(versions(&api.konnector("shop").await), ("1.0.0", None));
    let response = api.send(TestRequest::put("/konnectors/shop").token(&api.token("*"))).await;
    assert_eq!(response.status, 404, "{response}");
}

#[tokio::test]
async fn an_archive_that_is_not_the_announced_one_is_refused() {
    let registry = FakeRegistry::start().await;
    let archive = registry.folder.path().join("shop/1.0.0.tar.gz");
    let files = |content: &[u8]| {
        let manifest = manifest("1.0.0", BILLS).to_string().into_bytes();
        let files = [("manifest.konnector", manifest), ("konnector.wasm", content.to_vec())];
        konnector_platform::konnector::pack(&files.map(|(name, bytes)| (name.to_owned(), bytes)).into())
            .expect("packed")
    };
    std::fs::create_dir_all(archive.parent().expect("a folder")).expect("a folder");
    std::fs::write(&archive, files(&crate::support::component(true))).expect("written");
    let stamp = std::fs::metadata(&archive).expect("there").modified().expect("a time");
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    // The registry considers the file unchanged, like one that was tampered with.
    let size = std::fs::metadata(&archive).expect("there").len();
    let mut other = std::fs::read(&archive).expect("there");
    *other.last_mut().expect("bytes") ^= 1;
    assert_eq!(other.len() as u64, size);
    std::fs::write(&archive, other).expect("written");
    std::fs::File::open(&archive).expect("there").set_modified(stamp).expect("set");
    let events = api.follow(TestRequest::post("/konnectors/again?Source=registry://shop")).await;
    assert!(events[0].contains("it was changed or tampered with"), "{events:?}");
}

#[tokio::test]
async fn a_download_leads_to_the_registry() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    let api = registry.server().await;
    api.follow(TestRequest::post("/konnectors/shop")).await;
    let response = api.send(TestRequest::get("/konnectors/shop/download").token(&api.token("*"))).await;
    assert_eq!(response.status, 303);
    let expected = format!("{}/registry/shop/1.0.0/tarball/shop-1.0.0.tar.gz", registry.url);
    assert_eq!(response.header(http::header::LOCATION), expected);
}

#[tokio::test]
async fn an_app_reads_the_registry_through_the_server() {
    let registry = FakeRegistry::start().await;
    registry.publish("1.0.0", BILLS);
    registry.publish("1.1.0-beta.1", BILLS);
    let api = registry.server().await;
    let app = api.token_of(Audience::App, "store", "io.cozy.apps");
    let get = async |path: &str| api.send(TestRequest::get(path).token(&app)).await;
    let list = get("/registry?filter[type]=konnector&limit=10").await.json();
    assert_eq!(list["meta"], json!({ "count": 1, "next_cursor": "" }));
    assert_eq!(list["data"][0]["latest_version"]["version"], "1.0.0");
    assert_eq!(list["data"][0]["maintenance_activated"], false);
    let shop = get("/registry/shop").await.json();
    assert_eq!(
        shop["versions"],
        json!({ "has_versions": true, "stable": ["1.0.0"], "beta": ["1.1.0-beta.1"], "dev": [] })
    );
    assert_eq!(get("/registry/shop/beta/latest").await.json()["version"], "1.1.0-beta.1");
    assert_eq!(get("/registry/shop/1.0.0").await.json()["manifest"]["name"], "Shop");
    let icon = get("/registry/shop/icon").await;
    assert_eq!((icon.text(), icon.header(http::header::CONTENT_TYPE)), ("<svg/>", "image/svg+xml"));
    assert_eq!(get("/registry/other").await.status, 404);
    assert_eq!(get("/registry/maintenance").await.json(), json!([]));
    // The operator's maintenance applies in addition to the registry's.
    api.platform
        .konnectors()
        .begin_maintenance(&"shop".parse().expect("a slug"), crate::support::object(json!({})))
        .await
        .expect("begun");
    assert_eq!(get("/registry/shop").await.json()["maintenance_options"], json!({ "flag_infra_maintenance": true }));
    assert_eq!(get("/registry/maintenance").await.json()[0]["slug"], "shop");
    // Callers without permission.
    let narrow = api.token_of(Audience::App, "drive", "io.cozy.files");
    assert_eq!(api.send(TestRequest::get("/registry/shop/1.0.0").token(&narrow)).await.status, 403);
    assert_eq!(api.send(TestRequest::get("/registry").token(&api.token("io.cozy.apps"))).await.status, 403);
    assert_eq!(api.send(TestRequest::get("/registry")).await.status, 401);
}
