//! Bundles that cannot be installed: each gives a clear error with the status of the API's documentation, and nothing
//! is installed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::Path;

use konnector_tests::client::{StatusAndBody, TestClient};
use konnector_tests::server::{TestServer, binary};
use konnector_tests::wat_components::component_with_names;
use konnector_tests::{bundle, guest};
use serde_json::{Value, json};
use sha2::Digest as _;

struct InstallFixture<'a> {
    client: &'a TestClient,
    folder: &'a Path,
}

impl InstallFixture<'_> {
    /// Tries to install a valid bundle after `change` modified it.
    async fn install_error(&self, change: impl FnOnce(&Path)) -> String {
        let folder = self.folder.join("bundle");
        drop(std::fs::remove_dir_all(&folder));
        let source = bundle::bank101(&folder, "http://127.0.0.1:9091", |_| {});
        change(&folder);
        self.answer("bank101", &source).await
    }

    async fn answer(&self, slug: &str, source: &str) -> String {
        let (status, body): StatusAndBody = self.client.install(slug, source).await;
        let (konnector_status, _) = self.client.request(reqwest::Method::GET, "/konnectors/bank101", None).await;
        assert_eq!(konnector_status, 404, "something was installed: {body}");
        let error = &body["errors"][0];
        let text = error["detail"].as_str().map_or_else(|| body.to_string(), str::to_owned);
        let text = text.replace(&self.folder.display().to_string(), "<folder>");
        // The offset of the damage changes with every build.
        let text = text.split(" (at offset").next().unwrap_or_default();
        format!("{status} {text}")
    }
}

fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("manifest.konnector");
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).expect("a manifest")).expect("JSON");
    change(&mut manifest);
    std::fs::write(path, format!("{manifest:#}")).expect("written");
}

fn component(bytes: &[u8]) -> impl FnOnce(&Path) {
    let bytes = bytes.to_vec();
    move |folder| std::fs::write(folder.join("konnector.wasm"), bytes).expect("written")
}

#[tokio::test]
async fn nothing_unusable_is_installed() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let case = InstallFixture { client: &client, folder: data.path() };
    let good = guest("bank101");

    let manifest = |text: &'static str| {
        move |folder: &Path| std::fs::write(folder.join("manifest.konnector"), text).expect("written")
    };
    let responses = [
        ("not JSON", case.install_error(manifest("{\n  \"name\": \"A\",\n}")).await),
        (
            "no name",
            case.install_error(|folder| {
                edit(folder, |manifest| drop(manifest.as_object_mut().expect("an object").remove("name")))
            })
            .await,
        ),
        (
            "no version",
            case.install_error(|folder| {
                edit(folder, |manifest| drop(manifest.as_object_mut().expect("an object").remove("version")))
            })
            .await,
        ),
        ("a web app", case.install_error(|folder| edit(folder, |manifest| manifest["type"] = json!("webapp"))).await),
        (
            "illegal doctype",
            case.install_error(|folder| {
                edit(folder, |manifest| manifest["permissions"]["bills"]["type"] = json!("IO.COZY.BILLS"))
            })
            .await,
        ),
        (
            "no manifest",
            case.install_error(|folder| std::fs::remove_file(folder.join("manifest.konnector")).expect("removed"))
                .await,
        ),
        (
            "no component",
            case.install_error(|folder| std::fs::remove_file(folder.join("konnector.wasm")).expect("removed")).await,
        ),
        ("not wasm", case.install_error(component(b"#!/usr/bin/env node\n")).await),
        ("a core module", case.install_error(component(b"\0asm\x01\0\0\0")).await),
        ("cut off", case.install_error(component(&good[..good.len() / 2])).await),
        (
            "another version",
            case.install_error(component(&replace_bytes(
                &good,
                "konnector:host/run@0.1.0",
                "konnector:host/run@9.1.0",
            )))
            .await,
        ),
        (
            "sockets",
            case.install_error(component(&component_with_names(
                &["wasi:sockets/tcp@0.2.0"],
                &["konnector:host/run@0.1.0"],
            )))
            .await,
        ),
        ("bad slug", case.answer("Bank_101", "file:///nowhere").await),
        ("unknown scheme", case.answer("bank101", "foo://bar.baz").await),
        ("no folder", case.answer("bank101", "file:///there/is/no/such/folder").await),
        ("unreachable", case.answer("bank101", "http://127.0.0.1:1/konnector.tar.gz").await),
    ];
    let listing: Vec<String> =
        responses.iter().map(|(description, response)| format!("{description}: {response}")).collect();
    insta::assert_snapshot!(listing.join("\n"), @r##"
    not JSON: 400 the manifest cannot be used: the manifest is not valid JSON: line 3, column 1: trailing comma
    no name: 400 the manifest cannot be used: name: this field is required; add "name": "My Bank"
    no version: 400 the manifest cannot be used: version: this field is required; add "version": "1.0.0"
    a web app: 400 the manifest cannot be used: line 5, column 11: type: "webapp" is not valid for a konnector; write "type": "konnector"
    illegal doctype: 403 "the manifest cannot be used: line 58, column 15: permissions.bills.type: \"IO.COZY.BILLS\" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, \"_\" and \".\""
    no manifest: 404 there is no manifest.konnector in '<folder>/bundle'; check the path of the source
    no component: 404 the source has no file 'konnector.wasm', which the manifest names as its component; build the konnector, or set "component"
    not wasm: 422 the component cannot be used: the file begins with "#!/usr/bin/env n", so it is not WebAssembly; `component` in the manifest must name a .wasm file
    a core module: 422 the component cannot be used: the file is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2` (or convert it with `wasm-tools component new`)
    cut off: 422 the component cannot be used: the component is damaged: unexpected end-of-file
    another version: 422 the component cannot be used: the component was built for konnector:host 9.1.0, but this server supports 0.1.x; build it with a matching SDK
    sockets: 422 the component cannot be used: the component imports `wasi:sockets/tcp@0.2.0`, which is not available to konnectors: konnectors cannot open sockets; use the SDK's HTTP client (`konnector:host/http`) or one based on `wasi:http`, and remove crates that open connections themselves
    bad slug: 422 Invalid slug name 'Bank_101'; a slug consists of lower-case letters, digits and -
    unknown scheme: 422 "foo://bar.baz" is not a valid source: the scheme "foo" is not supported; use one of file, http, https, git, git+https, git+ssh, ssh+git, registry, oci
    no folder: 404 there is no manifest.konnector in '/there/is/no/such/folder'; check the path of the source
    unreachable: 404 the source http://127.0.0.1:1/konnector.tar.gz cannot be reached: http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)
    "##);

    let source = bundle::bank101(&data.path().join("bundle"), "http://127.0.0.1:9091", |_| {});
    assert_eq!(client.install("bank101", &source).await.0, 202);
    assert_eq!(client.install("bank101", &source).await.0, 409);
}

/// The bytes with every occurrence of a name replaced by one of the same length.
fn replace_bytes(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut offset = 0;
    while let Some(found) = bytes[offset..].windows(from.len()).position(|window| window == from.as_bytes()) {
        offset += found;
        bytes[offset..offset + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Serves one body under any path until it is dropped.
async fn serve_once(body: Vec<u8>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            assert!(stream.read(&mut head).await.expect("a request") > 0, "an empty request");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that has read enough may have disconnected.
            drop(stream.write_all(&[head.as_bytes(), &body].concat()).await);
        }
    });
    format!("http://{address}/bank101.tar.gz")
}

#[tokio::test]
async fn an_archive_is_installed_from_the_network_and_only_as_it_was_published() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let folder = data.path().join("bundle");
    bundle::bank101(&folder, "http://127.0.0.1:9091", |_| {});
    let archive = data.path().join("bank101.tar.gz");
    let packed =
        std::process::Command::new(binary()).arg("pack").arg(&folder).arg("-o").arg(&archive).output().expect("packed");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let bytes = std::fs::read(&archive).expect("an archive");
    let checksum = hex::encode(sha2::Sha256::digest(&bytes));
    let url = serve_once(bytes).await;

    let (status, body) = client.install("bank101", &format!("{url}#{}", "0".repeat(64))).await;
    assert_eq!(status, 404, "{body}");
    assert!(body["errors"][0]["detail"].as_str().expect("a detail").contains("tampered"), "{body}");

    let events = client.install_events("bank101", &format!("{url}#{checksum}")).await;
    let states: Vec<_> = events.iter().map(|event| event["data"]["attributes"]["state"].clone()).collect();
    assert_eq!(states, ["installing", "ready"], "{events:#?}");
    let konnector = client.get("/konnectors/bank101").await;
    assert_eq!(konnector["data"]["attributes"]["state"], "ready");
    assert_eq!(konnector["data"]["attributes"]["reads_secrets"], false);
}

/// The server abandons a program source that does not respond after half a minute; a stopping server does not wait
/// for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_does_not_keep_the_server_from_stopping() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    let folder = tempfile::tempdir().expect("a folder");
    let (programs, started_file) = (folder.path().join("bin"), folder.path().join("started"));
    std::fs::create_dir(&programs).expect("a folder");
    let ssh = programs.join("ssh");
    std::fs::write(
        &ssh,
        format!("#!/bin/sh\ntouch '{}'\ntrap '' TERM HUP PIPE\nexec sleep 60\n", started_file.display()),
    )
    .expect("written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    let server = TestServer::start_in(folder.path(), &[], &[("PATH", &path)]);
    let client = server.client().await;
    let installing = tokio::spawn(async move {
        client
            .request(
                reqwest::Method::POST,
                "/konnectors/shop?Source=git%2Bssh%3A%2F%2Fgit%40127.0.0.1%2Fshop.git",
                None,
            )
            .await
    });
    while !started_file.exists() {
        assert!(!installing.is_finished(), "it was refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let started = Instant::now();
    tokio::task::spawn_blocking(move || server.stop()).await.expect("it stops in order");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    installing.abort();
}
