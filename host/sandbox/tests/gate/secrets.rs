//! Secrets reach the hosts that the manifest names, and nobody else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use konnector_sandbox::http::{HttpError, Request};

use super::fixture::{Fixture, get, record, text};
use super::server::{Server, Step, answer, ok, redirect};

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

#[tokio::test]
async fn each_goes_to_the_hosts_that_the_manifest_names_for_it() {
    let (login, api) = (Server::start(|_| ok("")).await, Server::start(|_| ok("")).await);
    let fixture = Fixture::new()
        .allow_with(&["password"], login.url("a.example", "/login"))
        .allow_with(&["token"], api.url("b.example", ""))
        .allow(login.url("a.example", ""))
        .secret("password", "hunter22")
        .secret("token", "tokenvalue")
        .secret("pin", "123456");
    let word = |name: &str| fixture.secrets.placeholder(name).unwrap();
    let session = fixture.session();
    let post = async |server: &Server, host: &str, path: &str, body: String| {
        let request = Request::post(server.url(host, path), "application/x-www-form-urlencoded", body);
        session.send(request).await.map(|_| server.last().body)
    };
    assert_eq!(post(&login, "a.example", "/login", word("password")).await.unwrap(), "hunter22");
    assert_eq!(post(&api, "b.example", "/", word("token")).await.unwrap(), "tokenvalue");
    for (server, host, path, names) in [
        (&api, "b.example", "/", ["password", "password"]),
        (&login, "a.example", "/search", ["password", "password"]),
        (&login, "a.example", "/login", ["token", "token"]),
        (&login, "a.example", "/login", ["password", "token"]),
        (&login, "a.example", "/login", ["pin", "pin"]),
    ] {
        let error = post(server, host, path, names.map(word).join("&")).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{host}{path} {names:?}: {error:?}");
    }
    let error = post(&api, "b.example", "/", word("password")).await.unwrap_err();
    insta::assert_snapshot!(error.to_string().replace(&api.url("b.example", ""), "http://b.example"), @r#"the manifest sends the secret "password" with no POST to http://b.example; add to the rule that allows it: "secrets": ["password"]"#);
    assert_eq!((login.seen().len(), api.seen().len()), (1, 1));
    let record = record(&session, &login.url("a.example", "/"));
    assert_eq!(
        (record.requests, record.denied, record.refusals["secret_not_bound"], record.secrets["password"]),
        (1, 4, 4, 1)
    );
}

#[tokio::test]
async fn https_is_not_enough_to_send_it_over_http() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(format!("https://a.example:{}", server.port())).secret("password", "hunter22");
    let word = fixture.secrets.placeholder("password").unwrap();
    let request = Request::post(server.url("a.example", "/"), "text/plain", word);
    assert!(matches!(fixture.session().send(request).await, Err(HttpError::Denied(_))));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_repeats_it_shows_the_placeholder() {
    let server = Server::start(|seen| {
        let sent = seen.body.trim_start_matches("q=").to_owned();
        match seen.target.as_str() {
            "/search" => {
                answer(200, &[("Content-Type", "text/html"), ("X-Query", &sent)], format!("<input value=\"{sent}\">"))
            }
            "/base64" => answer(200, &[("Content-Type", "text/plain")], STANDARD.encode(format!("you sent {sent}!"))),
            "/binary" => answer(200, &[], [b"\xff\x00", sent.as_bytes(), b"\xff"].concat()),
            "/slow" => {
                let length =
                    format!("HTTP/1.1 200 X\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", sent.len() + 2);
                let bytes = format!("<{sent}>").into_bytes();
                let drops = bytes
                    .into_iter()
                    .flat_map(|byte| [Step::Write(vec![byte]), Step::Wait(super::fixture::milliseconds(2))]);
                [Step::Write(length.into_bytes())].into_iter().chain(drops).collect()
            }
            "/elsewhere" => redirect(303, &format!("/profile?q={sent}")),
            _ => ok(&seen.target),
        }
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("password", "hunter22");
    let word = fixture.secrets.placeholder("password").unwrap();
    let session = fixture.session();
    let form = |path: &str| {
        Request::post(server.url("a.example", path), "application/x-www-form-urlencoded", format!("q={word}"))
    };
    for path in ["/search", "/base64", "/binary", "/slow", "/elsewhere"] {
        let answer = session.send(form(path)).await.unwrap();
        let shown = format!("{answer:?}");
        assert!(shown.contains(&word) && !shown.contains("hunter22"), "{path}: {shown}");
        assert!(!shown.contains(&STANDARD.encode("hunter22")[..10]), "{path}: {shown}");
        let mut stream = session.open(form(path)).await.unwrap();
        let mut body = format!("{:?} {}", stream.headers(), stream.url()).into_bytes();
        while let Some(part) = stream.chunk().await.unwrap() {
            body.extend(part);
        }
        let shown = String::from_utf8_lossy(&body);
        assert!(shown.contains(&word) && !shown.contains("hunter22"), "{path}: {shown}");
    }
    // Whatever else is there stays as it is: an answer to a request that carried no secret is not looked into.
    assert_eq!(text(&get(&session, server.url("a.example", "/?hunter22")).await.unwrap()), "/?hunter22");
}

#[tokio::test]
async fn a_receipt_holds_no_value() {
    let fixture = Fixture::new().allow("https://*.cdn.example").secret("password", "hunter22");
    let session = fixture.session();
    get(&session, "https://hunter22.evil.example/".to_owned()).await.unwrap_err();
    let receipt = serde_json::to_string(&session.ledger()).unwrap();
    assert!(receipt.contains("https://[masked].evil.example") && !receipt.contains("hunter22"), "{receipt}");
}
