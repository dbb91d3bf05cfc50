//! Tests what the manifest's rules allow.

use konnector_egress::{HttpError, Request};

use super::fixture::{Fixture, get, record, text};
use super::server::{Server, ok};

#[tokio::test]
async fn a_named_host_is_reached_and_accounted_for() {
    let server = Server::start(|_| ok("hello")).await;
    let url = server.url("a.example", "/page?q=1");
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let response = get(&session, format!("{url}#part")).await.unwrap();
    assert_eq!((response.status, text(&response), response.url.as_str()), (200, "hello", url.as_str()));
    let request = server.last_request();
    assert_eq!((request.method.as_str(), request.target.as_str(), request.body.as_str()), ("GET", "/page?q=1", ""));
    assert_eq!(request.header("host"), Some(format!("a.example:{}", server.port()).as_str()));
    assert!(request.header("user-agent").unwrap().starts_with("konnector/"));
    let record = record(&session, &url);
    assert_eq!((record.requests, record.denied, record.methods["GET"], record.statuses[&200]), (1, 0, 1, 1));
    assert!(record.bytes_up > 20 && record.bytes_down > 20, "{record:?}");
}

#[tokio::test]
async fn a_method_that_no_rule_names_is_denied() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow_methods(&["GET"], server.url("a.example", "")).session();
    let url = server.url("a.example", "/");
    get(&session, url.clone()).await.unwrap();
    let error = session.send(Request::post(url.clone(), "text/plain", "x")).await.unwrap_err();
    assert!(matches!(&error, HttpError::Denied(text) if text.contains("POST")), "{error}");
    assert_eq!(server.requests().len(), 1);
    let record = record(&session, &url);
    assert_eq!((record.requests, record.denied), (1, 1));
    assert!(!record.methods.contains_key("POST"));
}

#[tokio::test]
async fn a_host_port_or_scheme_that_no_rule_names_is_denied() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    for url in [
        server.url("b.example", "/"),
        server.url("www.a.example", "/"),
        "http://a.example/".to_owned(),
        format!("https://a.example:{}/", server.port()),
        format!("http://127.0.0.1:{}/", server.port()),
    ] {
        let error = get(&session, url.clone()).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{url}: {error}");
        assert_eq!(record(&session, &url).denied, 1, "{url}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn one_spelling_of_a_host_is_as_good_as_another() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    get(&session, server.url("A.EXAMPLE.", "/")).await.unwrap();
    assert_eq!(server.last_request().header("host"), Some(format!("a.example:{}", server.port()).as_str()));
}

#[tokio::test]
async fn methods_with_a_body_say_its_length_even_when_it_is_empty() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let request = Request { method: "post".into(), ..Request::get(server.url("a.example", "/")) };
    session.send(request).await.unwrap();
    assert_eq!(server.last_request().header("content-length"), Some("0"));
    let report =
        Request { method: "PROPFIND".into(), ..Request::post(server.url("a.example", "/"), "text/xml", "<a/>") };
    session.send(report).await.unwrap();
    assert_eq!((server.last_request().method.as_str(), server.last_request().body.as_str()), ("PROPFIND", "<a/>"));
}
