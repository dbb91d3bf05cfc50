//! Which addresses are dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use konnector_sandbox::http::{HttpError, Resolver};

use super::fixture::{Fixture, get, record};
use super::server::{Server, answer, ok};

fn prohibited(error: &HttpError) -> bool {
    matches!(error, HttpError::AddressProhibited(_))
}

#[tokio::test]
async fn private_addresses_are_refused_unless_the_operator_allows_them() {
    let server = Server::start(|_| ok("")).await;
    let url = server.url("nas.example", "/");
    let mut fixture = Fixture::new().allow(server.url("nas.example", ""));
    fixture.options.allowed_private = Vec::new();
    let session = fixture.session();
    let refused = get(&session, url.clone()).await.unwrap_err();
    assert!(prohibited(&refused), "{refused}");
    assert!(!refused.to_string().contains("127.0.0.1"), "a guest learns nothing of the network: {refused}");
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
        let refused = get(&session, url.clone()).await.unwrap_err();
        assert!(prohibited(&refused), "{url}: {refused}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn of_several_addresses_only_the_permitted_ones_are_dialled() {
    let server = Server::listen("127.0.0.2:0", |_| ok("")).await;
    let private = Server::listen(&format!("127.0.0.1:{}", server.port()), |_| ok("")).await;
    let mut fixture = Fixture::new()
        .allow(server.url("a.example", ""))
        .name("a.example", &["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "127.0.0.2"]);
    fixture.options.allowed_private = vec!["127.0.0.2".parse().unwrap()];
    get(&fixture.session(), server.url("a.example", "/")).await.unwrap();
    assert_eq!((server.connections(), private.connections()), (1, 0));
}

/// Answers with an address that is allowed and one that is not, by turns.
struct Turncoat(AtomicUsize);

#[async_trait]
impl Resolver for Turncoat {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![Ipv4Addr::new(127, 0, 0, if turn.is_multiple_of(2) { 2 } else { 1 }).into()])
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_never_leads_inside() {
    // `Connection: close`, so that every request resolves anew.
    let outside = Server::listen("127.0.0.2:0", |_| answer(200, &[("Connection", "close")], "outside")).await;
    let inside = Server::listen(&format!("127.0.0.1:{}", outside.port()), |_| ok("inside")).await;
    let mut fixture = Fixture::new().allow(outside.url("a.example", ""));
    fixture.options.allowed_private = vec!["127.0.0.2".parse().unwrap()];
    let resolver = Arc::new(Turncoat(AtomicUsize::new(0)));
    fixture.options.resolver = resolver.clone();
    let session = fixture.session();
    for turn in 0..200 {
        let answer = get(&session, outside.url("a.example", "/")).await;
        assert_eq!(answer.as_ref().err().is_some_and(prohibited), turn % 2 == 1, "{answer:?}");
    }
    assert_eq!((outside.seen().len(), inside.connections()), (100, 0));
    assert_eq!(resolver.0.load(Ordering::SeqCst), 200, "one resolution per connection");
}

#[tokio::test]
async fn what_does_not_exist_is_unreachable() {
    let port = Server::closed_port().await;
    let session = Fixture::new()
        .allow(format!("http://a.example:{port}"))
        .allow("http://bank.invalid")
        .allow("http://empty.example")
        .name("empty.example", &[])
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
