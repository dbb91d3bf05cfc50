//! Secrets reach the hosts that the manifest names, and nobody else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use konnector_sandbox::http::{HttpError, Request};

use super::fixture::{Fixture, get};
use super::server::{Server, ok, redirect};

const VALUE: &str = "p\u{e4}ss&w\"ord";

fn fixture(server: &Server) -> (Fixture, String) {
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", VALUE);
    let word = fixture.secrets.placeholder("password").unwrap();
    (fixture, word)
}

#[tokio::test]
async fn the_vendor_reads_the_value() {
    let server = Server::start(|_| ok("")).await;
    let (fixture, word) = fixture(&server);
    let session = fixture.session();
    let url = || server.url("a.example", "/");

    let form = Request::post(url(), "application/x-www-form-urlencoded", format!("u=me&p={word}"));
    session.send(form).await.unwrap();
    assert_eq!(server.last().body, "u=me&p=p%C3%A4ss%26w%22ord");

    session.send(Request::post(url(), "application/json", format!(r#"{{"p":"{word}"}}"#))).await.unwrap();
    assert_eq!(server.last().body, "{\"p\":\"p\u{e4}ss&w\\\"ord\"}");

    let basic = format!("Basic {}", STANDARD.encode(format!("me:{word}")));
    session.send(Request::get(url()).header("Authorization", &basic)).await.unwrap();
    let sent = server.last().header("authorization").unwrap().to_owned();
    assert_eq!(sent, format!("Basic {}", STANDARD.encode(format!("me:{VALUE}"))));
    assert!(session.secrets().mask(&sent).contains("[masked]"));
}

#[tokio::test]
async fn nobody_else_does() {
    let (server, other) = (Server::start(|_| ok("")).await, Server::start(|_| ok("")).await);
    let (fixture, word) = fixture(&server);
    let session = fixture.session();
    let form = Request::post(other.url("b.example", "/"), "application/x-www-form-urlencoded", format!("p={word}"));
    assert!(matches!(session.send(form).await, Err(HttpError::Denied(_))));
    let in_url = get(&session, server.url("a.example", &format!("/?p={word}"))).await;
    assert!(matches!(in_url, Err(HttpError::Invalid(_))), "{in_url:?}");
    assert_eq!((server.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn a_redirect_carries_it_only_to_a_named_host() {
    let other = Server::start(|_| ok("")).await;
    let location = other.url("b.example", "/");
    let server = Server::start(move |_| redirect(307, &location)).await;
    let (fixture, word) = fixture(&server);
    let form = || Request::post(server.url("a.example", "/"), "application/x-www-form-urlencoded", format!("p={word}"));
    assert!(matches!(fixture.session().send(form()).await, Err(HttpError::Denied(_))));
    assert_eq!(other.connections(), 0);

    let session = fixture.allow(other.url("b.example", "")).session();
    session.send(form().header("X-Key", &format!("k {word}"))).await.unwrap();
    let seen = other.last();
    assert_eq!((seen.body.as_str(), seen.header("x-key")), ("p=p%C3%A4ss%26w%22ord", None));
    assert!(server.last().header("x-key").is_some());
}

#[tokio::test]
async fn error_texts_are_masked() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", "tokenvalue");
    let session = fixture.session();
    for request in [
        get(&session, "http://tokenvalue.example/".to_owned()).await,
        get(&session, "tokenvalue://x".to_owned()).await,
        session.send(Request::get(server.url("a.example", "/")).header("tokenvalue x", "1")).await,
    ] {
        let text = request.unwrap_err().to_string();
        assert!(text.contains("[masked]") && !text.contains("tokenvalue"), "{text}");
    }
    session.secrets().put("late", "addedlater").unwrap();
    let text = get(&session, "addedlater://x".to_owned()).await.unwrap_err().to_string();
    assert!(!text.contains("addedlater"), "{text}");
}
