//! Fixtures of the tests: an instance with a konnector, requests, and responses as strings for snapshots.

use std::fmt::{self, Display, Write as _};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use konnector_egress::{Gate, GateOptions};
use konnector_platform::clock::ManualClock;
use konnector_platform::doctype::{FILES, KONNECTORS, PERMISSIONS};
use konnector_platform::file::{ContentRef, File, FileKind};
use konnector_platform::instance::{Instance, InstancePatch};
use konnector_platform::principal::Audience;
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::Sandbox;
use konnector_store::{Changes, Map, MasterKey, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub const NOW: &str = "2026-11-20T12:00:00Z";

pub struct Api {
    pub platform: Platform,
    pub clock: Arc<ManualClock>,
    pub alice: Instance,
    pub bob: Instance,
    pub folder: TempDir,
    router: Router,
}

impl Api {
    /// Creates two instances, alice's with the konnector `bank`.
    pub async fn new() -> Self {
        Self::with_config(|_, _| {}).await
    }

    /// Like [`Self::new`], with other settings. Konnectors and the server may reach this machine.
    pub async fn with_config(configure: impl FnOnce(&mut Config, &mut GateOptions)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let clock = Arc::new(ManualClock::new(NOW.parse().expect("a date")));
        let options = konnector_sandbox::SandboxOptions { max_runs: 1, memory_ceiling: 16 << 20, ..Default::default() };
        let (mut config, mut gate) = (Config::new(folder.path().join("cache")), GateOptions::default());
        gate.allowed_private = vec!["127.0.0.0/8".parse().expect("an address")];
        configure(&mut config, &mut gate);
        let platform = Platform::new(PlatformParts {
            store: Store::in_memory(),
            sandbox: Arc::new(Sandbox::new(options).expect("a sandbox")),
            gate: Gate::new(gate).expect("a gate"),
            key: MasterKey::create(&folder.path().join("key")).expect("a key"),
            clock: clock.clone(),
            config,
        })
        .await
        .expect("a platform");
        let patch = InstancePatch::default();
        let alice = platform.instances().create("alice.example", &patch).await.expect("an instance");
        let bob = platform.instances().create("bob.example", &patch).await.expect("an instance");
        let router = konnector_api::public(platform.clone());
        let api = Self { platform, clock, alice, bob, folder, router };
        api.install("bank", json!({ "bills": { "type": "io.cozy.bills" } })).await;
        api
    }

    /// Starts the workers, which also run command components.
    pub async fn start(&self) {
        self.platform.set_internal_api(Arc::new(konnector_api::InProcessApi::default()));
        self.platform.start().await.expect("started");
    }

    /// Installs or updates a konnector; returns its states and its error.
    pub async fn follow(&self, call: TestRequest) -> Vec<String> {
        let response = self.send(call.token(&self.token("*")).accept("text/event-stream")).await;
        let events = response.text().split("\r\n\r\n").filter(|event| !event.is_empty());
        let lines = events.map(|event| {
            let data = event.split_once("data: ").expect("data").1;
            let data: Value = serde_json::from_str(data).expect("JSON");
            let attributes = &data["data"]["attributes"];
            match data.as_str() {
                Some(error) => error.to_owned(),
                None => format!(
                    "{} {}",
                    attributes["state"].as_str().expect("a state"),
                    attributes["version"].as_str().expect("a version")
                ),
            }
        });
        lines.collect()
    }

    /// Returns the attributes of an installed konnector.
    pub async fn konnector(&self, slug: &str) -> Value {
        let response = self.send(TestRequest::get(&format!("/konnectors/{slug}")).token(&self.token("*"))).await;
        assert_eq!(response.status, 200, "{response}");
        response.json()["data"]["attributes"].clone()
    }

    /// Waits until `actual` returns the expected value.
    pub async fn wait_until<T: PartialEq + std::fmt::Debug>(&self, expected: T, actual: impl AsyncFn() -> T) {
        let mut last = None;
        for _ in 0..400 {
            let found = actual().await;
            if found == expected {
                return;
            }
            last = Some(found);
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("waited for {expected:?}, but there is {last:?}");
    }

    /// Stores a konnector without compiling it.
    pub async fn install(&self, slug: &str, permissions: Value) {
        let (icon, _) = self.blob(b"<svg/>").await;
        let mut changes = Changes::new();
        changes.create(
            self.alice.doc(&KONNECTORS, format!("io.cozy.konnectors/{slug}")),
            object(json!({
                "slug": slug, "state": "ready", "source": "file:///nowhere", "version": "1.0.0", "checksum": "00",
                "created_at": NOW, "updated_at": NOW, "_component": null, "_icon": icon.blob,
                "name": slug, "type": "konnector", "icon": "icon.svg", "frequency": "daily", "permissions": permissions,
                "folders": [{ "defaultDir": "$administrative/$konnector/$account" }],
            })),
        );
        changes.create(
            self.alice.doc(&PERMISSIONS, format!("konnector-{slug}")),
            object(json!({
                "type": "konnector", "source_id": format!("io.cozy.konnectors/{slug}"), "permissions": permissions,
            })),
        );
        self.platform.raw_store().commit(changes).await.expect("stored");
    }

    async fn blob(&self, content: &'static [u8]) -> (ContentRef, [u8; 16]) {
        let mut writer = self.platform.raw_store().blobs().create().await.expect("a blob");
        writer.write(Bytes::from_static(content)).await.expect("written");
        let blob = writer.finish().await.expect("finished");
        let sha256 = blob.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        (ContentRef { blob: blob.id, sha256, size: blob.size }, blob.md5)
    }

    /// Stores a file of alice's, as a run would.
    pub async fn add_file(&self, id: &str, directory: &str, name: &str, content: &'static [u8]) {
        let parent = self.platform.files().ensure_directory(&self.alice, directory).await.expect("a directory");
        let (stored, md5) = self.blob(content).await;
        let now = NOW.parse().expect("a date");
        let file = File {
            id: id.to_owned(),
            rev: None,
            kind: FileKind::File,
            name: name.to_owned(),
            dir_id: parent.id.clone(),
            path: None,
            created_at: now,
            updated_at: now,
            tags: vec!["tax".to_owned()],
            size: Some(stored.size.to_string()),
            md5sum: Some(STANDARD.encode(md5)),
            mime: Some("text/html".to_owned()),
            class: Some("text".to_owned()),
            executable: Some(false),
            encrypted: false,
            trashed: false,
            restore_path: None,
            restore_name: None,
            metadata: Map::new(),
            referenced_by: Vec::new(),
            cozy_metadata: Map::new(),
            content: Some(stored),
        };
        let mut changes = Changes::new();
        changes.create(self.alice.doc(&FILES, id), object(serde_json::to_value(&file).expect("a document")));
        changes.put_unique(&self.alice.id, "files.children", format!("{}/{name}", parent.id), id);
        self.platform.raw_store().commit(changes).await.expect("stored");
    }

    /// Issues a token of the command line for alice's data.
    pub fn token(&self, scope: &str) -> String {
        self.token_of(Audience::Cli, "CLI", scope)
    }

    pub fn token_of(&self, audience: Audience, subject: &str, scope: &str) -> String {
        self.platform.auth().issue_token(&self.alice, audience, subject, scope).expect("a token")
    }

    /// Registers an OAuth client of alice's; issues a token for it.
    pub async fn client_token(&self, scope: &str) -> String {
        let client = json!({ "redirect_uris": ["https://app.example/"], "client_name": "App", "software_id": "app" });
        let client = self.platform.oauth_clients().register(&self.alice, object(client)).await.expect("a client");
        self.token_of(Audience::Access, &client.client.id, scope)
    }

    pub async fn send(&self, call: TestRequest) -> TestResponse {
        send(self.router.clone(), call).await
    }

    /// Sends requests concurrently, each in its own task; returns the responses in the order of the requests.
    pub async fn send_concurrently(&self, calls: impl IntoIterator<Item = TestRequest>) -> Vec<TestResponse> {
        let sent: Vec<_> = calls.into_iter().map(|call| tokio::spawn(send(self.router.clone(), call))).collect();
        futures_util::future::join_all(sent).await.into_iter().map(|response| response.expect("an answer")).collect()
    }

    /// Sends requests one after the other; returns the responses as a string.
    pub async fn transcript(&self, calls: impl IntoIterator<Item = TestRequest>) -> String {
        let mut text = String::new();
        for call in calls {
            let line = call.request_line();
            writeln!(text, "{line}\n{}", self.send(call).await).expect("a text");
        }
        text
    }

    /// Like [`Self::transcript`], with one line for each response.
    pub async fn summary(&self, calls: impl IntoIterator<Item = TestRequest>) -> String {
        let mut lines = Vec::new();
        for call in calls {
            let line = call.request_line();
            lines.push(format!("{line} → {}", self.send(call).await.summary()));
        }
        lines.join("\n")
    }
}

pub fn object(value: Value) -> Map {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

pub async fn send(router: Router, call: TestRequest) -> TestResponse {
    let response = router.oneshot(call.0).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    TestResponse { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A request.
pub struct TestRequest(Request<Body>);

impl TestRequest {
    pub fn new(method: Method, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).header(HOST, "alice.example");
        Self(request.body(Body::empty()).expect("a request"))
    }

    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn put(path: &str) -> Self {
        Self::new(Method::PUT, path)
    }

    pub fn patch(path: &str) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn header(mut self, name: http::HeaderName, value: &str) -> Self {
        self.0.headers_mut().insert(name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a header"));
        self
    }

    pub fn host(self, host: &str) -> Self {
        self.header(HOST, host)
    }

    pub fn accept(self, media_type: &str) -> Self {
        self.header(ACCEPT, media_type)
    }

    pub fn token(self, token: &str) -> Self {
        self.header(AUTHORIZATION, &format!("Bearer {token}"))
    }

    pub fn text(self, body: impl Into<Body>) -> Self {
        Self(Request::from_parts(self.0.into_parts().0, body.into()))
    }

    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        self.text(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
    }

    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// Sets a JSON:API body with these attributes.
    pub fn attributes(self, attributes: Value) -> Self {
        self.json(&json!({ "data": { "attributes": attributes } }))
    }

    /// Returns method and path, for messages.
    pub fn request_line(&self) -> String {
        redact(&format!("{} {}", self.0.method(), self.0.uri()))
    }
}

impl From<TestRequest> for Request<Body> {
    fn from(TestRequest(request): TestRequest) -> Self {
        request
    }
}

/// A response. `Display` replaces ids and revisions, so that snapshots are stable.
pub struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl TestResponse {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    pub fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(&name).map(|value| value.to_str().expect("a text")).unwrap_or_default()
    }

    /// Returns the status and, for an error, its message: the plain text, or the first error with its source.
    pub fn summary(&self) -> String {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else {
            return redact(format!("{} {}", self.status, self.text()).trim_end());
        };
        let error = &body["errors"][0];
        let Some(detail) = error["detail"].as_str() else { return self.status.to_string() };
        let source = object(error["source"].clone()).into_values().next();
        let source = source.map(|source| format!(" ({})", source.as_str().expect("a text"))).unwrap_or_default();
        redact(&format!("{} {}{source}: {detail}", self.status, error["title"].as_str().expect("a title")))
    }

    /// Returns the id of the resource in a JSON:API response.
    pub fn id(&self) -> String {
        self.json()["data"]["id"].as_str().expect("an id").to_owned()
    }
}

impl Display for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.status, self.header(CONTENT_TYPE))?;
        for name in [http::header::WWW_AUTHENTICATE, http::header::CONTENT_RANGE, http::header::ALLOW] {
            if let Some(value) = self.headers.get(&name) {
                writeln!(f, "{name}: {}", value.to_str().expect("a text"))?;
            }
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(json) => writeln!(f, "{}", redact(&serde_json::to_string_pretty(&json).expect("a text"))),
            Err(_) => writeln!(f, "{}", redact(self.text())),
        }
    }
}

/// Replaces each run of 32 hexadecimal digits.
fn redact(text: &str) -> String {
    let mut redacted = String::new();
    let mut run = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            run.push(character);
            continue;
        }
        redacted.push_str(if run.len() == 32 { "<id>" } else { &run });
        run.clear();
        if character != '\0' {
            redacted.push(character);
        }
    }
    redacted
}

/// Returns a component whose runs end at once.
pub fn component(succeeds: bool) -> Vec<u8> {
    component_of(if succeeds { "i32.const 0" } else { "i32.const 1" })
}

/// Returns a component whose runs execute these instructions and succeed if they leave 0.
pub fn component_of(instructions: &str) -> Vec<u8> {
    component_with("", instructions)
}

/// Returns a component that imports `reveal`, so that it can read passwords.
pub fn revealing_component() -> Vec<u8> {
    component_with(r#"(import "konnector:host/reveal@0.1.0" (instance))"#, "i32.const 0")
}

fn component_with(imports: &str, instructions: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $m (func (export "run") (result i32) {instructions}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// Writes a bundle that can be installed and run; returns its source.
pub fn write_bundle(folder: &Path, manifest: &Value) -> String {
    write_bundle_with(folder, manifest, &component(true))
}

/// Like [`write_bundle`], with this component.
pub fn write_bundle_with(folder: &Path, manifest: &Value, component: &[u8]) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("konnector.wasm"), component).expect("written");
    std::fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
    std::fs::write(folder.join("icon.svg"), "<svg/>").expect("written");
    format!("file://{}", folder.display())
}

/// Returns a manifest with rules on these types.
pub fn manifest(version: &str, types: &[&str]) -> Value {
    let rules: Map = types.iter().map(|name| ((*name).to_owned(), json!({ "type": name }))).collect();
    json!({ "name": "Shop", "type": "konnector", "version": version, "icon": "icon.svg", "editor": "me", "permissions": rules })
}

/// Writes a bundle whose component passes the inspection but cannot be linked, because it exports no function.
pub fn write_manifest_bundle(folder: &Path, manifest: &str) -> String {
    let component = r#"(component (instance $empty) (export "konnector:host/run@0.1.0" (instance $empty)))"#;
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("konnector.wasm"), wat::parse_str(component).expect("a component")).expect("written");
    std::fs::write(folder.join("manifest.konnector"), manifest).expect("written");
    format!("file://{}", folder.display())
}
