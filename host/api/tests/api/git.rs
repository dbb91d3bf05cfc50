//! Konnectors in git repositories, fetched from real servers. Requires `git` with `git daemon` and `git http-backend`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use konnector_egress::AddressRule;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Api, TestRequest, manifest, write_bundle};

/// A folder with the repository `shop`.
struct Repository {
    folder: TempDir,
}

impl Repository {
    /// `None` if git is not installed.
    fn new() -> Option<Self> {
        test_tools::require_git()?;
        let repository = Self { folder: TempDir::new().expect("a folder") };
        std::fs::create_dir(repository.path()).expect("a folder");
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit("1.0.0", &["io.cozy.bills"]);
        Some(repository)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.path())
            .args(["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a text").trim().to_owned()
    }

    fn commit(&self, version: &str, types: &[&str]) -> String {
        write_bundle(&self.path(), &manifest(version, types));
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", version]);
        format!("{version}-{}", self.git(&["rev-parse", "HEAD"]))
    }
}

/// Process that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn daemon(folder: &Path) -> (Daemon, String) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    // The program itself, because `git daemon` would start it and leave it running.
    let programs = Command::new("git").arg("--exec-path").output().expect("git is installed").stdout;
    let programs = PathBuf::from(String::from_utf8(programs).expect("a text").trim());
    let child = Command::new(programs.join("git-daemon"))
        .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")])
        .arg(format!("--base-path={}", folder.display()))
        .stderr(Stdio::null())
        .spawn()
        .expect("git daemon is installed");
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    (Daemon(child), format!("git://127.0.0.1:{port}/shop"))
}

fn local() -> Vec<AddressRule> {
    vec!["127.0.0.0/8".parse().expect("a rule")]
}

fn source(konnector: &Value) -> (&str, &str) {
    (konnector["source"].as_str().expect("a source"), konnector["version"].as_str().expect("a version"))
}

#[tokio::test]
async fn k1_k4_a_branch_is_installed_and_stays_chosen() {
    let Some(repository) = Repository::new() else { return };
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["checkout", "--quiet", "-b", "feature/two"]);
    let on_branch = repository.commit("2.0.0", &["io.cozy.bills"]);
    let (_daemon, url) = daemon(repository.folder.path());
    let api = Api::with_config(|_, gate| gate.allowed_private = local()).await;
    let install = || TestRequest::post(&format!("/konnectors/shop?Source={url}"));
    let events = api.follow(install()).await;
    assert_eq!(events, [format!("installing 1.0.0-{first}"), format!("ready 1.0.0-{first}")]);
    let again = api.send(install().token(&api.token("*"))).await;
    assert_eq!(again.status, 409, "{again}");

    let branch = format!("{url}#feature/two");
    api.follow(TestRequest::put(&format!("/konnectors/shop?Source={}", branch.replace('#', "%23")))).await;
    assert_eq!(source(&api.konnector("shop").await), (branch.as_str(), on_branch.as_str()));
    let newer = repository.commit("2.1.0", &["io.cozy.bills"]);
    api.follow(TestRequest::put("/konnectors/shop")).await;
    assert_eq!(source(&api.konnector("shop").await), (branch.as_str(), newer.as_str()));
    api.follow(TestRequest::put(&format!("/konnectors/shop?Source={url}"))).await;
    assert_eq!(source(&api.konnector("shop").await), (url.as_str(), format!("1.0.0-{first}").as_str()));
}

#[tokio::test]
async fn without_main_there_is_master_and_a_missing_branch_is_named() {
    let Some(repository) = Repository::new() else { return };
    repository.git(&["branch", "-m", "main", "master"]);
    let (_daemon, url) = daemon(repository.folder.path());
    let api = Api::with_config(|_, gate| gate.allowed_private = local()).await;
    let events = api.follow(TestRequest::post(&format!("/konnectors/shop?Source={url}"))).await;
    assert!(events[1].starts_with("ready 1.0.0-"), "{events:?}");
    let rejected = async |source: String| {
        let response =
            api.send(TestRequest::post(&format!("/konnectors/new?Source={source}")).token(&api.token("*"))).await;
        assert_eq!(response.status, 404, "{response}");
        response.json()["errors"][0]["detail"].as_str().expect("a text").replace(&url, "<url>")
    };
    insta::assert_snapshot!(rejected(format!("{url}%23gone")).await, @"the repository <url> cannot be fetched: it has no branch gone");
    repository.git(&["rm", "--quiet", "manifest.konnector"]);
    repository.git(&["commit", "--quiet", "--message", "x"]);
    let message = rejected(url.clone()).await;
    assert!(message.ends_with("has no manifest.konnector at its top level"), "{message}");
    let message = rejected(url.replace("/shop", "/other")).await;
    assert!(message.contains("cannot be fetched"), "{message}");
}

#[tokio::test]
async fn private_addresses_are_not_contacted() {
    let Some(repository) = Repository::new() else { return };
    let (_daemon, url) = daemon(repository.folder.path());
    let api = Api::with_config(|_, gate| gate.allowed_private.clear()).await;
    let rest = url.trim_start_matches("git://");
    for source in [url.clone(), format!("git%2Bhttps://{rest}"), format!("git%2Bssh://git@{rest}")] {
        let response =
            api.send(TestRequest::post(&format!("/konnectors/shop?Source={source}")).token(&api.token("*"))).await;
        assert_eq!(response.status, 404, "{response}");
        let text = response.text();
        assert!(text.contains("private addresses are blocked") || text.contains("not public"), "{source}: {text}");
    }
    for path in ["git://", "git:///srv/shop", "git%2Bfile:///srv/shop", "ext::sh"] {
        let response =
            api.send(TestRequest::post(&format!("/konnectors/shop?Source={path}")).token(&api.token("*"))).await;
        assert_eq!(response.status, 422, "{path}: {response}");
    }
}

#[tokio::test]
async fn a_repository_is_reached_over_ssh_by_the_systems_program() {
    let Some(repository) = Repository::new() else { return };
    let folder = repository.folder.path();
    let ssh = folder.join("ssh");
    // Stands for a server: runs the remote command locally and records the call.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nfor last; do :; done\nexec sh -c \"$last\"\n",
        folder.join("calls").display()
    );
    std::fs::write(&ssh, script).expect("written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("set");
    let api = Api::with_config(|config, gate| {
        config.ssh_program = ssh;
        gate.allowed_private = local();
    })
    .await;
    for (slug, scheme) in [("one", "git%2Bssh"), ("two", "ssh%2Bgit")] {
        let source = format!("{scheme}://git@localhost:2222{}", repository.path().display());
        let events = api.follow(TestRequest::post(&format!("/konnectors/{slug}?Source={source}"))).await;
        assert!(events.last().expect("an event").starts_with("ready 1.0.0-"), "{events:?}");
    }
    let calls = std::fs::read_to_string(folder.join("calls")).expect("calls");
    assert!(
        calls.contains("-o HostName=127.0.0.1 -o HostKeyAlias=[localhost]:2222 -p 2222 git@localhost git-upload-pack"),
        "{calls}"
    );
    let source = format!("git%2Bssh://git@localhost{}'$(id)'", repository.path().display());
    let response =
        api.send(TestRequest::post(&format!("/konnectors/three?Source={source}")).token(&api.token("*"))).await;
    assert_eq!(response.status, 404, "{response}");
}

#[tokio::test]
async fn a_repository_is_fetched_over_https() {
    let Some(repository) = Repository::new() else { return };
    let (root, address) = https(repository.folder.path().to_owned()).await;
    let api = Api::with_config(|_, gate| {
        gate.allowed_private = local();
        gate.extra_roots = vec![root];
    })
    .await;
    let source = format!("git%2Bhttps://{address}/shop/.git");
    let events = api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
    assert!(events.last().expect("an event").starts_with("ready 1.0.0-"), "{events:?}");
    let newer = repository.commit("1.1.0", &["io.cozy.bills"]);
    let events = api.follow(TestRequest::put("/konnectors/shop")).await;
    assert_eq!(events.last().expect("an event"), &format!("ready {newer}"));
}

/// Serves git's smart HTTP protocol over TLS; returns the certificate and the address.
async fn https(folder: PathBuf) -> (tokio_rustls::rustls::pki_types::CertificateDer<'static>, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = certified.cert.der().clone();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let router = Router::new().fallback(move |request: Request| backend(folder.clone(), request));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                drop(connection.await);
            });
        }
    });
    (certificate, format!("localhost:{port}"))
}

/// Passes a request to `git http-backend` (Common Gateway Interface, RFC 3875).
async fn backend(folder: PathBuf, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().expect("a text")).unwrap_or_default();
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is installed");
    let mut input = child.stdin.take().expect("an input");
    input.write_all(&body).await.expect("written");
    drop(input);
    let output = child.wait_with_output().await.expect("an output").stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).expect("a text").lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = match name {
            "Status" => response.status(value.split(' ').next().expect("a status")),
            name => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("a response")
}
