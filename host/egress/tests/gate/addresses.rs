//! Tests which addresses are dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use konnector_egress::{HttpError, Resolver};

use super::fixture::{Fixture, get, record};
use super::server::{Server, ok, response};

fn is_prohibited(error: &HttpError) -> bool {
    matches!(error, HttpError::AddressProhibited(_))
}

#[tokio::test]
async fn private_addresses_are_denied_unless_the_operator_allows_them() {
    let server = Server::start(|_| ok("")).await;
    let url = server.url("nas.example", "/");
    let mut fixture = Fixture::new().allow(server.url("nas.example", ""));
    fixture.options.allowed_private = Vec::new();
    let session = fixture.session();
    let error = get(&session, url.clone()).await.unwrap_err();
    assert!(is_prohibited(&error), "{error}");
    assert!(!error.to_string().contains("127.0.0.1"), "a guest learns nothing of the network: {error}");
    let record = record(&session, &url);
    assert_eq!((record.requests, record.denied, record.bytes_up), (0, 1, 0));
    assert!(record.methods.is_empty());
    assert_eq!(server.connections(), 0);

    let port = server.port();
    for (rule, allowed) in [
        (format!("127.0.0.1:{port}"), true),
        ("127.0.0.0/8".to_owned(), true),
        (format!("127.0.0.1:{}", port ^ 1), false),
        ("127.0.0.2".to_owned(), false),
    ] {
        fixture.options.allowed_private = vec![rule.parse().unwrap()];
        assert_eq!(get(&fixture.session(), url.clone()).await.is_ok(), allowed, "{rule}");
    }
}

#[tokio::test]
async fn an_address_instead_of_a_name_is_vetted_too() {
    let server = Server::start(|_| ok("")).await;
    let url = server.url("127.0.0.1", "/");
    let mut fixture = Fixture::new()
        .allow(&*server.url("127.0.0.1", ""))
        .allow("http://[::ffff:a9fe:a9fe]")
        .allow("http://169.254.169.254");
    get(&fixture.session(), url.clone()).await.unwrap();
    fixture.options.allowed_private = Vec::new();
    let session = fixture.session();
    for url in [
        url,
        server.url("0x7f.1", "/"),
        "http://[::ffff:a9fe:a9fe]/".into(),
        "http://169.254.169.254/latest/meta-data/".into(),
    ] {
        let error = get(&session, url.clone()).await.unwrap_err();
        assert!(is_prohibited(&error), "{url}: {error}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn of_several_addresses_only_the_permitted_ones_are_dialled() {
    let server = Server::listen("127.0.0.2:0", |_| ok("")).await;
    let private = Server::listen(&format!("127.0.0.1:{}", server.port()), |_| ok("")).await;
    let mut fixture = Fixture::new()
        .allow(server.url("a.example", ""))
        .resolve_to("a.example", &["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "127.0.0.2"]);
    fixture.options.allowed_private = vec!["127.0.0.2".parse().unwrap()];
    get(&fixture.session(), server.url("a.example", "/")).await.unwrap();
    assert_eq!((server.connections(), private.connections()), (1, 0));
}

/// Returns an allowed and a prohibited address in turn.
struct RebindingResolver(AtomicUsize);

/// Addresses to which a malicious name server could rebind a name.
const PRIVATE_ADDRESSES: [&str; 16] = [
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fd00:ec2::254",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::1",
    "fe80::1",
    "100.100.100.200",
];

#[async_trait]
impl Resolver for RebindingResolver {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let call = self.0.fetch_add(1, Ordering::SeqCst);
        let private = PRIVATE_ADDRESSES[call / 2 % PRIVATE_ADDRESSES.len()].parse().unwrap();
        Ok(vec![if call.is_multiple_of(2) { Ipv4Addr::new(127, 0, 0, 2).into() } else { private }])
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_never_leads_inside() {
    // `Connection: close`, so every request resolves again.
    let outside = Server::listen("127.0.0.2:0", |_| response(200, &[("Connection", "close")], "outside")).await;
    let port = outside.port();
    let inside = Server::listen(&format!("127.0.0.1:{port}"), |_| ok("inside")).await;
    // Without IPv6, the rest of the test still runs.
    let inside_too = match test_tools::require_ipv6() {
        Some(()) => Some(Server::listen(&format!("[::1]:{port}"), |_| ok("inside")).await),
        None => None,
    };
    let mut fixture = Fixture::new().allow(outside.url("a.example", ""));
    fixture.options.allowed_private = vec!["127.0.0.2".parse().unwrap()];
    let resolver = Arc::new(RebindingResolver(AtomicUsize::new(0)));
    fixture.options.resolver = resolver.clone();
    let session = fixture.session();
    for call in 0..1_000 {
        let result = get(&session, outside.url("a.example", "/")).await;
        assert_eq!(result.as_ref().err().is_some_and(is_prohibited), call % 2 == 1, "{call}: {result:?}");
    }
    assert_eq!((outside.requests().len(), inside.connections()), (500, 0));
    assert!(inside_too.is_none_or(|inside| inside.connections() == 0));
    assert_eq!(resolver.0.load(Ordering::SeqCst), 1_000, "one resolution per connection");
    let record = record(&session, &outside.url("a.example", "/"));
    assert_eq!(
        (record.requests, record.denied, record.refusals["address_prohibited"], record.private),
        (500, 500, 500, 500)
    );
}

#[tokio::test]
async fn no_spelling_of_an_address_leads_inside() {
    let server = Server::start(|_| ok("inside")).await;
    let port = server.port();
    let mut fixture = Fixture::new().allow("https://bank.example").allow(format!("http://bank.example:{port}"));
    fixture.options.allowed_private = Vec::new();
    let session = fixture.session();
    let mut texts = Vec::new();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "\u{2460}\u{2461}\u{2466}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25eth0]",
        "169.254.169.254",
        "2852039166",
        "localhost",
        "LOCALHOST.",
        "metadata.google.internal",
        "bank.example@127.0.0.1",
        "bank.example%40127.0.0.1",
        "127.0.0.1\\@bank.example",
        "127.0.0.1#@bank.example",
        "127.0.0.1%00.bank.example",
        "127.0.0.1%2f.bank.example",
        "bank.example.127.0.0.1.",
    ] {
        let error = get(&session, format!("http://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_) | HttpError::Invalid(_)), "{host}: {error:?}");
        let text = error.to_string();
        let text = text.split("; add to").next().unwrap().replace(&format!(":{port}"), "");
        texts.push(format!("{host}: {text}"));
    }
    assert_eq!(server.connections(), 0);
    insta::assert_snapshot!(texts.join("\n"), @r"
    127.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    2130706433: the manifest has no rule for GET on http://127.0.0.1
    0177.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    0x7f.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    0x7f000001: the manifest has no rule for GET on http://127.0.0.1
    127.1: the manifest has no rule for GET on http://127.0.0.1
    127.0.1: the manifest has no rule for GET on http://127.0.0.1
    127.0.0.1.: the manifest has no rule for GET on http://127.0.0.1
    %31%32%37.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    １２７.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    ①②⑦.0.0.1: the manifest has no rule for GET on http://127.0.0.1
    127。0。0。1: the manifest has no rule for GET on http://127.0.0.1
    [::1]: the manifest has no rule for GET on http://[::1]
    [::ffff:127.0.0.1]: the manifest has no rule for GET on http://[::ffff:7f00:1]
    [::ffff:7f00:1]: the manifest has no rule for GET on http://[::ffff:7f00:1]
    [0:0:0:0:0:ffff:127.0.0.1]: the manifest has no rule for GET on http://[::ffff:7f00:1]
    [64:ff9b::7f00:1]: the manifest has no rule for GET on http://[64:ff9b::7f00:1]
    [fe80::1%25eth0]: url: invalid IPv6 address; expected an absolute http or https URL
    169.254.169.254: the manifest has no rule for GET on http://169.254.169.254
    2852039166: the manifest has no rule for GET on http://169.254.169.254
    localhost: the manifest has no rule for GET on http://localhost
    LOCALHOST.: the manifest has no rule for GET on http://localhost
    metadata.google.internal: the manifest has no rule for GET on http://metadata.google.internal
    bank.example@127.0.0.1: url: the URL contains a user name or a password; send an Authorization header instead
    bank.example%40127.0.0.1: url: invalid international domain name; expected an absolute http or https URL
    127.0.0.1\@bank.example: the manifest has no rule for GET on http://127.0.0.1
    127.0.0.1#@bank.example: the manifest has no rule for GET on http://127.0.0.1
    127.0.0.1%00.bank.example: url: invalid international domain name; expected an absolute http or https URL
    127.0.0.1%2f.bank.example: url: invalid international domain name; expected an absolute http or https URL
    bank.example.127.0.0.1.: url: invalid IPv4 address; expected an absolute http or https URL
    ");
}

#[tokio::test]
async fn a_path_that_leaves_its_prefix_is_denied() {
    let server = Server::start(|request| ok(&request.target)).await;
    let session = Fixture::new().allow(server.url("a.example", "/api")).session();
    for path in [
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/..%2fadmin",
        "/api\\..\\admin",
        "/api/%252e%252e/admin",
        "/apis",
        "/",
    ] {
        let error = get(&session, server.url("a.example", path)).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{path}: {error:?}");
    }
    let long = server.url("a.example", &format!("/api/{}", "x".repeat(100_000)));
    let error = get(&session, long).await.unwrap_err();
    assert!(matches!(&error, HttpError::Invalid(text) if text.contains("the limit is 8192")), "{error:?}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_unreachable() {
    let port = Server::closed_port().await;
    let session = Fixture::new()
        .allow(format!("http://a.example:{port}"))
        .allow("http://bank.invalid")
        .allow("http://empty.example")
        .resolve_to("empty.example", &[])
        .session();
    for (url, expected) in [
        (format!("http://a.example:{port}/"), "cannot be reached"),
        ("http://bank.invalid/".to_owned(), "the name bank.invalid cannot be resolved: no such name"),
        ("http://empty.example/".to_owned(), "the name empty.example cannot be resolved: it has no address"),
    ] {
        let error = get(&session, url).await.unwrap_err();
        assert!(matches!(&error, HttpError::Unreachable(text) if text.contains(expected)), "{error:?}");
    }
}
