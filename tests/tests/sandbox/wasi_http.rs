//! `wasi:http` through the gate: the responses and errors of a program with its own HTTP client.

use std::time::{Duration, Instant};

use konnector_egress::{GateOptions, Timeouts};
use konnector_sandbox::{Outcome, Report, RunOutput};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::run;

/// A server with a few paths; returns its authority.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address.to_string()
}

async fn serve(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut part = vec![0; 64 << 10];
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        match text.split_once("\r\n\r\n") {
            None => false,
            Some((head, _)) if head.contains("chunked") => text.ends_with("0\r\n\r\n"),
            Some((head, body)) => {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                body.len() >= length.map_or(0, |length| length.parse().unwrap_or(0))
            }
        }
    };
    while !whole(&request) {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend(&part[..length]),
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let response = match text.split(' ').nth(1) {
        Some("/slow") => return tokio::time::sleep(std::time::Duration::from_secs(20)).await,
        Some("/echo") => text.matches('x').count().to_string(),
        Some("/large") => "y".repeat(300_000),
        _ => "hello".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", response.len());
    drop(stream.write_all(format!("{head}{response}").as_bytes()).await);
}

/// Sends requests to one host, which the manifest names unless a request names another; returns the log, with the
/// port hidden.
async fn send(environment: &mut FakeEnvironment, mut requests: Value) -> (String, RunOutput) {
    let server = server().await;
    environment.hosts = vec![format!("http://{server}"), "http://127.0.0.1:1".to_owned(), "http://10.0.0.1".to_owned()];
    for request in requests.as_array_mut().unwrap() {
        let members = request.as_object_mut().unwrap();
        members.entry("authority").or_insert_with(|| json!(server));
    }
    let output = run(&guest("wasi_requests"), json!({ "requests": requests }), environment).await;
    let port = server.rsplit(':').next().unwrap();
    (environment.log().replace(port, "PORT"), output)
}

#[tokio::test]
async fn ordinary_requests_work() {
    let mut environment = FakeEnvironment::default();
    let requests = json!([
        { "name": "get" },
        { "name": "streamed", "method": "POST", "path": "/echo", "body": { "text": "x".repeat(1_000), "times": 200 } },
        { "name": "with length", "method": "PUT", "path": "/echo", "headers": [["content-length", "3"]], "body": { "text": "xxx" } },
        { "name": "large", "path": "/large" },
        { "name": "unread", "path": "/large", "read": false },
    ]);
    let (log, output) = send(&mut environment, requests).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    insta::assert_snapshot!(log, @r"
    Info: get: 200 [content-length=5] 5 bytes: hello
    Info: streamed: 200 [content-length=6] 6 bytes: 200000
    Info: with length: 200 [content-length=1] 1 bytes: 3
    Info: large: 200 [content-length=300000] 300000 bytes: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
    Info: unread: 200 [content-length=300000]
    ");
    let [host] = &output.receipt.hosts[..] else { panic!("{:?}", output.receipt.hosts) };
    assert_eq!((host.requests, host.statuses[&200], host.internal), (5, 5, false));
    assert!(host.bytes_up > 200_000 && host.bytes_down > 300_000, "{host:?}");
}

#[tokio::test]
async fn refusals_have_a_code_and_the_log_says_what_to_do() {
    let mut environment = FakeEnvironment::default();
    let requests = json!([
        { "name": "denied host", "scheme": "https", "authority": "other.example" },
        { "name": "private address", "authority": "10.0.0.1" },
        { "name": "nobody listens", "authority": "127.0.0.1:1" },
        { "name": "user in the authority", "authority": "me:pw@other.example" },
        { "name": "no authority", "authority": null },
        { "name": "other scheme", "scheme": "gopher" },
        { "name": "absolute form", "path": "http://other.example/" },
        { "name": "authority form", "path": "other.example:80" },
        { "name": "asterisk form", "method": "OPTIONS", "path": "*" },
        { "name": "trace", "method": "TRACE" },
        { "name": "long address", "path": format!("/{}", "x".repeat(9_000)) },
    ]);
    let (log, output) = send(&mut environment, requests).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    insta::assert_snapshot!(log, @r#"
    Warn: wasi:http: the manifest has no rule for GET on https://other.example; add to "permissions": "vendor2": { "type": "http", "verbs": ["GET"], "values": ["https://other.example"] }
    Info: denied host: ErrorCode::HttpRequestDenied
    Warn: wasi:http: 10.0.0.1 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address
    Info: private address: ErrorCode::DestinationIpProhibited
    Warn: wasi:http: http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)
    Info: nobody listens: ErrorCode::DestinationUnavailable
    Warn: wasi:http: url: the URL contains a user name or a password; send an Authorization header instead
    Info: user in the authority: ErrorCode::InternalError(Some("url: the URL contains a user name or a password; send an Authorization header instead"))
    Info: no authority: refused at once: ErrorCode::HttpRequestUriInvalid
    Info: other scheme: refused at once: ErrorCode::HttpProtocolError
    Info: absolute form: path refused
    Info: authority form: path refused
    Info: asterisk form: path refused
    Warn: wasi:http: method: TRACE is not available to konnectors
    Info: trace: ErrorCode::InternalError(Some("method: TRACE is not available to konnectors"))
    Warn: wasi:http: url: the URL is 9023 bytes long, but the limit is 8192 bytes
    Info: long address: ErrorCode::InternalError(Some("url: the URL is 9023 bytes long, but the limit is 8192 bytes"))
    "#);
}

#[tokio::test]
async fn headers_of_the_connection_are_not_the_guests() {
    let mut environment = FakeEnvironment::default();
    let names =
        ["Host", "Connection", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "TE", "Trailer", "Expect"];
    let mut requests: Vec<_> = names.iter().map(|name| json!({ "name": name, "headers": [[name, "x"]] })).collect();
    requests.push(json!({ "name": "line break", "headers": [["x", "a\r\nb: c"]] }));
    requests.push(json!({ "name": "two lengths", "headers": [["content-length", "1"], ["content-length", "2"]] }));
    let (log, _) = send(&mut environment, requests.into()).await;
    insta::assert_snapshot!(log, @r"
    Info: Host: header Host: HeaderError::Forbidden
    Info: Connection: header Connection: HeaderError::Forbidden
    Info: Transfer-Encoding: header Transfer-Encoding: HeaderError::Forbidden
    Info: Upgrade: header Upgrade: HeaderError::Forbidden
    Info: Proxy-Authorization: header Proxy-Authorization: HeaderError::Forbidden
    Info: TE: header TE: HeaderError::Forbidden
    Info: Trailer: header Trailer: HeaderError::Forbidden
    Info: Expect: header Expect: HeaderError::Forbidden
    Info: line break: header x: HeaderError::InvalidSyntax
    Info: two lengths: header content-length: HeaderError::InvalidSyntax
    ");
}

#[tokio::test]
async fn too_many_headers_end_the_run() {
    let mut environment = FakeEnvironment::default();
    let headers: Vec<_> = (0..100).map(|number| json!([format!("x-{number}"), "y".repeat(1_000)])).collect();
    let (_, output) = send(&mut environment, json!([{ "name": "large", "headers": headers }])).await;
    insta::assert_snapshot!(super::sentence(&output), @"the konnector put more than 64 KiB of headers into one request; send less, or move it to the body");
}

#[tokio::test]
async fn a_body_has_the_length_that_it_promises() {
    let mut environment = FakeEnvironment::default();
    let request = |name: &str, length: &str, times: u32| {
        json!({ "name": name, "method": "POST", "path": "/echo", "headers": [["content-length", length]],
                "body": { "text": "x".repeat(100), "times": times } })
    };
    let (log, _) = send(&mut environment, json!([request("shorter", "500", 1), request("longer", "50", 1)])).await;
    insta::assert_snapshot!(log, @r#"
    Warn: wasi:http: cannot read the request body: HTTP protocol error
    Info: shorter: ErrorCode::InternalError(Some("cannot read the request body: HTTP protocol error"))
    Warn: wasi:http: body: the body is at least 100 bytes long, but content-length is 50
    Info: longer: ErrorCode::InternalError(Some("body: the body is at least 100 bytes long, but content-length is 50"))
    "#);
}

#[tokio::test]
async fn an_endless_body_ends_with_the_budget() {
    let mut environment = FakeEnvironment::with_limits(|limits| limits.http.bytes_up = 1_000_000);
    let requests = json!([
        { "name": "endless", "method": "POST", "path": "/echo", "body": { "text": "x".repeat(4_096), "times": 10_000_000 } },
        { "name": "after it" },
    ]);
    let (log, output) = send(&mut environment, requests).await;
    insta::assert_snapshot!(log, @r"
    Warn: wasi:http: the run's budget of 1000000 bytes to send is exhausted
    Info: endless: ErrorCode::ConnectionLimitReached
    Info: after it: 200 [content-length=5] 5 bytes: hello
    ");
    assert!(output.receipt.bytes_up <= 1_000_000, "{:?}", output.receipt);
}

#[tokio::test]
async fn a_million_empty_writes_cost_the_guest_and_nobody_else() {
    // Each write is passed to the thread of the connection and back, and none of that counts as progress.
    let gate = GateOptions {
        allowed_private: ["127.0.0.1".parse().unwrap()].into(),
        timeouts: Timeouts { headers: Duration::from_secs(300), ..Timeouts::default() },
        ..GateOptions::default()
    };
    let mut environment = FakeEnvironment { gate: Some(gate), ..FakeEnvironment::default() };
    let requests = json!([
        { "name": "empty", "method": "POST", "path": "/echo", "empty_writes": 1_000_000, "body": { "text": "xx" } },
    ]);
    let (log, output) = send(&mut environment, requests).await;
    insta::assert_snapshot!(log, @"Info: empty: 200 [content-length=1] 1 bytes: 2");
    assert!(output.receipt.bytes_up < 1_000, "{:?}", output.receipt);
}

#[tokio::test]
async fn a_timeout_of_nothing_is_a_second() {
    let mut environment = FakeEnvironment::default();
    let started = Instant::now();
    let requests = json!([
        { "name": "slow", "path": "/slow", "timeouts": [0, 0, 0] },
        { "name": "quick", "timeouts": [0, 0, 0] },
        { "name": "for ever", "timeouts": [u64::MAX, u64::MAX, u64::MAX] },
    ]);
    let (log, _) = send(&mut environment, requests).await;
    insta::assert_snapshot!(log, @r"
    Warn: wasi:http: the response headers did not arrive in time
    Info: slow: ErrorCode::HttpResponseTimeout
    Info: quick: 200 [content-length=5] 5 bytes: hello
    Info: for ever: 200 [content-length=5] 5 bytes: hello
    ");
    assert!((1_900..10_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_budget_of_requests_holds_here_too() {
    let mut environment = FakeEnvironment::with_limits(|limits| limits.http.requests = 1);
    let (log, _) = send(&mut environment, json!([{ "name": "first" }, { "name": "second" }])).await;
    insta::assert_snapshot!(log, @r"
    Info: first: 200 [content-length=5] 5 bytes: hello
    Warn: wasi:http: the run's budget of 1 requests is exhausted
    Info: second: ErrorCode::ConnectionLimitReached
    ");
}
