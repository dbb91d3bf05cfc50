//! Tests that redirects pass all checks of the gate again.

use konnector_egress::{HttpError, MAX_REDIRECTS, Request};

use super::fixture::{Fixture, get, record, text};
use super::server::{Server, ok, redirect, response};

#[tokio::test]
async fn a_post_becomes_a_get() {
    let server =
        Server::start(|request| if request.target == "/form" { redirect(303, "/done?x=1") } else { ok("done") }).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let response = session.send(Request::post(server.url("a.example", "/form"), "text/plain", "x")).await.unwrap();
    assert_eq!((text(&response), response.url.as_str()), ("done", server.url("a.example", "/done?x=1").as_str()));
    let request = server.last_request();
    assert_eq!((request.method.as_str(), request.header("content-type"), request.body.as_str()), ("GET", None, ""));
    assert_eq!(server.connections(), 1, "the connection is used again");
    let record = record(&session, &server.url("a.example", "/"));
    assert_eq!((record.methods["POST"], record.methods["GET"], record.statuses[&303]), (1, 1, 1));
}

#[tokio::test]
async fn a_redirect_is_returned_if_it_is_not_followed() {
    let server = Server::start(|_| redirect(302, "app://callback?code=1")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let request = Request { follow_redirects: false, ..Request::get(server.url("a.example", "/")) };
    let response = session.send(request).await.unwrap();
    assert!(response.headers.contains(&("location".into(), "app://callback?code=1".into())));
    let error = get(&session, server.url("a.example", "/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn a_chain_has_an_end() {
    let server = Server::start(|request| match request.target.trim_start_matches('/').parse::<usize>() {
        Ok(0) => ok("end"),
        Ok(left) => redirect(302, &format!("/{}", left - 1)),
        Err(_) => ok("?"),
    })
    .await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let response = get(&session, server.url("a.example", &format!("/{MAX_REDIRECTS}"))).await.unwrap();
    assert_eq!(text(&response), "end");
    let before = server.requests().len();
    let error = get(&session, server.url("a.example", &format!("/{}", MAX_REDIRECTS + 1))).await.unwrap_err();
    assert_eq!(error, HttpError::TooManyRedirects);
    assert_eq!(server.requests().len() - before, MAX_REDIRECTS + 1);
}

#[tokio::test]
async fn a_loop_is_a_chain_without_end() {
    let server = Server::start(|request| redirect(307, if request.target == "/a" { "/b" } else { "/a" })).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let error = get(&session, server.url("a.example", "/a")).await.unwrap_err();
    insta::assert_snapshot!(error, @"there were more than 10 redirects");
    assert_eq!(server.requests().len(), MAX_REDIRECTS + 1);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_redirect_leads_to_web_pages_only() {
    for location in [
        "file:///etc/passwd",
        "ftp://a.example/",
        "javascript:alert(1)",
        "data:,x",
        "unix:/run/x",
        "https://",
        "http://[::1",
    ] {
        let server = Server::start(move |_| redirect(302, location)).await;
        let session = Fixture::new().allow(server.url("a.example", "")).session();
        let error = get(&session, server.url("a.example", "/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Protocol(_)), "{location}: {error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_host_that_no_rule_names_is_not_reached_by_redirect() {
    let other = Server::start(|_| ok("")).await;
    let target = other.url("b.example", "/");
    let location = target.clone();
    let server = Server::start(move |_| redirect(302, &location)).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let error = get(&session, server.url("a.example", "/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Denied(_)), "{error}");
    assert_eq!(other.connections(), 0);
    assert_eq!(record(&session, &target).denied, 1);
}

#[tokio::test]
async fn a_private_address_is_not_reached_by_redirect() {
    let inside = Server::start(|_| ok("")).await;
    for target in [
        inside.url("inside.example", "/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://[::ffff:7f00:1]:{}/", inside.port()),
    ] {
        let location = target.clone();
        let server = Server::listen("127.0.0.2:0", move |_| redirect(302, &location)).await;
        let mut fixture = Fixture::new()
            .allow(server.url("a.example", ""))
            .allow(target.trim_end_matches("/latest/meta-data/").trim_end_matches('/'))
            .resolve_to("a.example", &["127.0.0.2"]);
        fixture.options.allowed_private = vec!["127.0.0.2".parse().unwrap()];
        let error = get(&fixture.session(), server.url("a.example", "/")).await.unwrap_err();
        assert!(matches!(error, HttpError::AddressProhibited(_)), "{target}: {error}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let other = Server::start(|_| ok("")).await;
    let location = other.url("b.example", "/");
    let server = Server::start(move |_| redirect(307, &location)).await;
    let session = Fixture::new().allow(server.url("a.example", "")).allow(other.url("b.example", "")).session();
    let request = Request::post(server.url("a.example", "/"), "text/plain", "kept")
        .header("Authorization", "Bearer x")
        .header("Cookie", "own=1")
        .header("X-Kept", "1");
    session.send(request).await.unwrap();
    assert_eq!(server.last_request().header("cookie"), Some("own=1"));
    let request = other.last_request();
    assert_eq!(
        (request.header("authorization"), request.header("cookie"), request.header("x-kept")),
        (None, None, Some("1"))
    );
    assert_eq!((request.method.as_str(), request.body.as_str()), ("POST", "kept"));
    assert_eq!(record(&session, &server.url("a.example", "/")).credentials_dropped, 2);
}

#[tokio::test]
async fn cookies_of_a_redirect_are_kept() {
    let server = Server::start(|request| match request.target.as_str() {
        "/login" => response(302, &[("Location", "/home"), ("Set-Cookie", "sid=7; Path=/")], ""),
        _ => ok(request.header("cookie").unwrap_or("none")),
    })
    .await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    assert_eq!(text(&get(&session, server.url("a.example", "/login")).await.unwrap()), "sid=7");
}
