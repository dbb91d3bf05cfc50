//! Tests the second entry point: bodies are streams, and the guest handles redirects, cookies and compression.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use konnector_egress::{HttpError, InternalApi, InternalBody, Phase, RequestTimeouts, Session, StreamingBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::fixture::{Fixture, milliseconds, record};
use super::server::{ResponseStep, Server, ok, redirect, response};

type ResponseResult = Result<http::Response<StreamingBody>, HttpError>;

fn request<B>(method: Method, url: &str, headers: &[(&str, &str)], body: B) -> http::Request<B> {
    let mut request = http::Request::builder().method(method).uri(url).body(body).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    request
}

async fn get(session: &Session, url: &str, headers: &[(&str, &str)]) -> ResponseResult {
    session.send_streaming(request(Method::GET, url, headers, Empty::new()), RequestTimeouts::default(), None).await
}

async fn post<B: Body<Data = Bytes, Error = Infallible> + Send + 'static>(
    session: &Session,
    url: &str,
    headers: &[(&str, &str)],
    body: B,
) -> ResponseResult {
    session.send_streaming(request(Method::POST, url, headers, body), RequestTimeouts::default(), None).await
}

async fn read(response: http::Response<StreamingBody>) -> Result<Bytes, HttpError> {
    response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
}

/// A body in frames of these sizes; if `endless`, it continues forever after the last one.
struct FrameBody {
    sizes: std::vec::IntoIter<usize>,
    endless: Option<usize>,
    trailers: bool,
}

impl FrameBody {
    fn of(sizes: impl IntoIterator<Item = usize>) -> Self {
        Self { sizes: sizes.into_iter().collect::<Vec<_>>().into_iter(), endless: None, trailers: false }
    }
}

impl Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = |size: usize| Ok(Frame::data(Bytes::from(vec![b'x'; size])));
        let next = self.sizes.next().or(self.endless).map(data);
        if next.is_none() && std::mem::take(&mut self.trailers) {
            return Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new()))));
        }
        Poll::Ready(next)
    }
}

#[tokio::test]
async fn redirects_cookies_and_compression_are_left_to_the_guest() {
    let mut zeros = GzEncoder::new(Vec::new(), Compression::best());
    zeros.write_all(&vec![0; 4 << 20]).unwrap();
    let zeros = zeros.finish().unwrap();
    let sent = zeros.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/r" => redirect(302, "/elsewhere"),
        "/cookie" => response(200, &[("Set-Cookie", "a=b")], ""),
        _ => response(200, &[("Content-Encoding", "gzip")], &sent),
    })
    .await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let response = get(&session, &server.url("a.example", "/r"), &[]).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()["location"], "/elsewhere");
    let response = get(&session, &server.url("a.example", "/cookie"), &[]).await.unwrap();
    assert_eq!(response.headers()["set-cookie"], "a=b");
    assert_eq!(session.cookies(), None);
    let response = get(&session, &server.url("a.example", "/z"), &[("accept-encoding", "gzip")]).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(read(response).await.unwrap(), zeros);
    let last = server.last_request();
    assert_eq!((last.header("cookie"), last.header("accept-encoding")), (None, Some("gzip")));
}

#[tokio::test]
async fn a_body_is_sent_as_it_comes_and_metered() {
    let server = Server::start(|request| ok(&request.body.len().to_string())).await;
    let url = server.url("a.example", "/");
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    for headers in [&[][..], &[("content-length", "50001"), ("host", url.split('/').nth(2).unwrap())]] {
        let response = post(&session, &url, headers, FrameBody::of([20_000, 0, 30_000, 0, 1])).await.unwrap();
        assert_eq!(read(response).await.unwrap(), "50001");
    }
    assert_eq!(server.requests()[0].header("transfer-encoding"), Some("chunked"));
    assert_eq!(server.last_request().header("content-length"), Some("50001"));
    let record = record(&session, &url);
    assert!((100_002..101_000).contains(&record.bytes_up), "{record:?}");
    assert_eq!((record.methods["POST"], record.statuses[&200]), (2, 2));
}

#[tokio::test]
async fn a_get_with_a_body_of_nothing_has_none() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let empty = request(Method::GET, &server.url("a.example", "/"), &[], FrameBody::of([0, 0]));
    session.send_streaming(empty, RequestTimeouts::default(), None).await.unwrap();
    let request = server.last_request();
    assert_eq!((request.header("transfer-encoding"), request.header("content-length")), (None, None));
}

#[tokio::test]
async fn a_body_has_the_length_that_it_promises() {
    let server = Server::start(|_| ok("")).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let url = server.url("a.example", "/");
    let refusal = async |length: &str, body: FrameBody| {
        post(&session, &url, &[("content-length", length)], body).await.unwrap_err().to_string()
    };
    insta::assert_snapshot!(refusal("5", FrameBody::of([6])).await, @"body: the body is at least 6 bytes long, but content-length is 5");
    insta::assert_snapshot!(refusal("5", FrameBody::of([4])).await, @"body: the body is 4 bytes long, but content-length is 5");
    insta::assert_snapshot!(refusal("5", FrameBody::of([])).await, @"body: the body is 0 bytes long, but content-length is 5");
    insta::assert_snapshot!(refusal("+5", FrameBody::of([5])).await, @"headers: content-length must be a single number");
    insta::assert_snapshot!(refusal("", FrameBody::of([])).await, @"headers: content-length must be a single number");
    let trailers = FrameBody { trailers: true, ..FrameBody::of([5]) };
    let trailers = post(&session, &url, &[], trailers).await.unwrap_err();
    insta::assert_snapshot!(trailers, @"body: the body ends with trailers, which are not sent; leave them out");
    let twice = post(&session, &url, &[("content-length", "5"), ("content-length", "5")], FrameBody::of([5])).await;
    insta::assert_snapshot!(twice.unwrap_err(), @"headers: content-length must be a single number");
    let endless = FrameBody { endless: Some(1_000), ..FrameBody::of([]) };
    insta::assert_snapshot!(refusal("10", endless).await, @"body: the body is at least 1000 bytes long, but content-length is 10");
    assert!(server.requests().is_empty(), "no request was ever whole");
}

#[tokio::test]
async fn an_endless_body_ends_with_the_budget() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).budget(|budget| budget.bytes_up = 1_000_000);
    let session = fixture.session();
    let endless = FrameBody { endless: Some(10_000), ..FrameBody::of([]) };
    let error = post(&session, &server.url("a.example", "/"), &[], endless).await.unwrap_err();
    insta::assert_snapshot!(error, @"the run's budget of 1000000 bytes to send is exhausted");
}

#[tokio::test]
async fn an_endless_response_ends_with_the_budget() {
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
        vec![ResponseStep::Write(head), ResponseStep::Repeat(vec![b'x'; 10_000])]
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).budget(|budget| budget.bytes_down = 1_000_000);
    let response = get(&fixture.session(), &server.url("a.example", "/"), &[]).await.unwrap();
    insta::assert_snapshot!(read(response).await.unwrap_err(), @"the run's budget of 1000000 bytes to receive is exhausted");
}

#[tokio::test]
async fn the_same_checks_as_at_the_first_door() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new()
        .allow_methods(&["GET"], server.url("a.example", ""))
        .allow("https://private.example")
        .allow("http://10.0.0.1")
        .resolve_to("private.example", &["10.1.2.3"]);
    let session = fixture.session();
    let url = server.url("a.example", "/");
    let refusal = async |url: &str, headers: &[(&str, &str)]| {
        get(&session, url, headers).await.unwrap_err().to_string().replace(&server.port().to_string(), "PORT")
    };
    insta::assert_snapshot!(refusal("https://b.example/", &[]).await, @r#"the manifest has no rule for GET on https://b.example; add to "permissions": "vendor": { "type": "http", "verbs": ["GET"], "values": ["https://b.example"] }"#);
    insta::assert_snapshot!(refusal("https://private.example/", &[]).await, @"private.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address");
    insta::assert_snapshot!(refusal("http://10.0.0.1/", &[]).await, @"10.0.0.1 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address");
    insta::assert_snapshot!(refusal(&url, &[("host", "b.example")]).await, @"headers: the host header differs from the URL's authority a.example:PORT; leave it out");
    insta::assert_snapshot!(refusal("http://me:pw@a.example/", &[]).await, @"url: the URL contains a user name or a password; send an Authorization header instead");
    insta::assert_snapshot!(refusal(&url, &[("proxy-authorization", "x")]).await, @"headers: proxy-authorization is set by the host; leave it out");
    insta::assert_snapshot!(refusal(&url, &[("transfer-encoding", "chunked")]).await, @"headers: transfer-encoding is set by the host; leave it out");
    insta::assert_snapshot!(refusal(&format!("{url}{}", "x".repeat(9_000)), &[]).await, @"url: the URL is 9023 bytes long, but the limit is 8192 bytes");
    insta::assert_snapshot!(post(&session, &url, &[], FrameBody::of([])).await.unwrap_err().to_string().replace(&server.port().to_string(), "PORT"), @r#"the manifest has no rule for POST on http://a.example:PORT; add to "permissions": "vendor": { "type": "http", "verbs": ["POST"], "values": ["http://a.example:PORT"] }"#);
    let path_only = http::Request::builder().uri("/").header("host", "a.example").body(Empty::<Bytes>::new()).unwrap();
    let error = session.send_streaming(path_only, RequestTimeouts::default(), None).await.unwrap_err();
    insta::assert_snapshot!(error, @"url: the scheme or the host is missing");
    let trace = request(Method::TRACE, &url, &[], Empty::new());
    insta::assert_snapshot!(session.send_streaming(trace, RequestTimeouts::default(), None).await.unwrap_err(), @"method: TRACE is not available to konnectors");
    assert_eq!(server.connections(), 0);
    assert_eq!(record(&session, "https://b.example").denied, 1);
    assert_eq!(record(&session, "https://private.example").denied, 1);
}

#[tokio::test]
async fn secrets_are_put_into_headers_towards_hosts_of_the_manifest() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", "s3cret-value");
    let placeholder = fixture.secrets.placeholder("token").unwrap();
    let session = fixture.session();
    get(&session, &server.url("a.example", "/"), &[("authorization", &format!("Bearer {placeholder}"))]).await.unwrap();
    assert_eq!(server.last_request().header("authorization"), Some("Bearer s3cret-value"));
    let denied = get(&session, "https://b.example/", &[("authorization", &format!("Bearer {placeholder}"))]).await;
    assert!(matches!(denied, Err(HttpError::Denied(_))), "{denied:?}");
}

#[tokio::test]
async fn an_echoed_secret_becomes_its_placeholder() {
    let server = Server::start(|request| {
        let key = request.header("x-key").unwrap().to_owned();
        let coding: &[_] = if request.target == "/gzip" { &[("Content-Encoding", "gzip")] } else { &[] };
        response(200, &[&[("X-Echo", key.as_str())], coding].concat(), format!("<p>{key}</p>{}", "x".repeat(100_000)))
    })
    .await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", "s3cret-value");
    let placeholder = fixture.secrets.placeholder("token").unwrap();
    let session = fixture.session();
    let headers = [("x-key", placeholder.as_str()), ("accept-encoding", "br")];
    let response = get(&session, &server.url("a.example", "/"), &headers).await.unwrap();
    assert_eq!(response.headers()["x-echo"], placeholder);
    let body = read(response).await.unwrap();
    assert!(body.starts_with(format!("<p>{placeholder}</p>x").as_bytes()));
    assert_eq!(body.len(), placeholder.len() + 7 + 100_000);
    let request = server.last_request();
    assert_eq!((request.header("x-key"), request.header("accept-encoding")), (Some("s3cret-value"), Some("identity")));
    let compressed = get(&session, &server.url("a.example", "/gzip"), &headers).await.unwrap_err().to_string();
    insta::assert_snapshot!(compressed.replace(&server.port().to_string(), "PORT"), @"the response from http://a.example:PORT is compressed, which is not allowed if the request contains a secret");
}

#[tokio::test]
async fn the_size_of_headers_does_not_depend_on_the_value() {
    let server = Server::start(|request| {
        let key = request.header("x-key").unwrap();
        response(200, &[("X-Echo", key), ("X-Padding", &"x".repeat((64 << 10) - 300))], "")
    })
    .await;
    let mut seen = Vec::new();
    for value in ["s3cret-value".to_owned(), "a-much-longer-value".repeat(30)] {
        let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", &value);
        let placeholder = fixture.secrets.placeholder("token").unwrap();
        let session = fixture.session();
        let url = server.url("a.example", "/");
        get(&session, &url, &[("x-key", &placeholder)]).await.unwrap();
        seen.push(record(&session, &url).bytes_down);
    }
    assert_eq!(seen[0], seen[1]);
}

/// Also if the guess is in a streamed body.
#[tokio::test]
async fn a_guess_is_echoed_unchanged() {
    let server = Server::start(|request| ok(&request.body)).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).secret("token", "s3cret-value");
    let placeholder = fixture.secrets.placeholder("token").unwrap();
    let session = fixture.session();
    for guess in ["s3cret-value", "s3cret-valuf"] {
        let body = http_body_util::Full::new(Bytes::from(guess));
        let request = request(Method::POST, &server.url("a.example", "/"), &[("x-key", &placeholder)], body);
        let response = session.send_streaming(request, RequestTimeouts::default(), None).await.unwrap();
        assert_eq!(read(response).await.unwrap(), guess);
    }
    for guess in ["s3cret-value", "s3cret-valuf"] {
        let error = get(&session, &format!("http://{guess}.example/"), &[]).await.unwrap_err().to_string();
        assert!(error.contains(guess), "{error}");
    }
}

/// A server that begins to respond before it has the whole body could repeat later parts, which could no longer be
/// compared with the secret.
#[tokio::test]
async fn data_written_after_the_response_began_is_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n").await;
                while let Ok(Ok(length)) = tokio::time::timeout(milliseconds(500), socket.read(&mut buffer)).await {
                    if length == 0 || socket.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let fixture = Fixture::new().allow(format!("http://a.example:{port}")).secret("token", "s3cret-value");
    let placeholder = fixture.secrets.placeholder("token").unwrap();
    for (key, late) in [(placeholder.as_str(), ""), ("none", "s3cret-value")] {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
        let parts = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = http_body_util::StreamBody::new(parts);
        let url = format!("http://a.example:{port}/");
        sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
        let response = post(&fixture.session(), &url, &[("x-key", key)], body).await.unwrap();
        // Fails once the body has been abandoned.
        let _ = sender.send(Ok(Frame::data(Bytes::from_static(b"s3cret-value"))));
        drop(sender);
        let text = read(response).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&text).contains("s3cret-value"), !late.is_empty(), "{key}: {text:?}");
        assert!(!String::from_utf8_lossy(&text).contains(&placeholder));
    }
}

#[tokio::test]
async fn a_stalled_server_times_out_in_each_phase() {
    let server = Server::start(|request| match request.target.as_str() {
        "/head" => vec![ResponseStep::Stall],
        _ => vec![
            ResponseStep::Write(b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n12345".to_vec()),
            ResponseStep::Stall,
        ],
    })
    .await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    // Zero and the maximum duration are both clamped to the limits.
    let zero = Some(Duration::ZERO);
    let timeouts = RequestTimeouts { connect: zero, first_byte: zero, between_bytes: zero };
    let started = Instant::now();
    let head = request(Method::GET, &server.url("a.example", "/head"), &[], Empty::<Bytes>::new());
    let error = session.send_streaming(head, timeouts, None).await.unwrap_err();
    assert_eq!(error, HttpError::Timeout(Phase::Headers));
    assert!((1_900..4_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    let body = request(Method::GET, &server.url("a.example", "/body"), &[], Empty::<Bytes>::new());
    let mut body = session.send_streaming(body, timeouts, None).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "12345");
    assert_eq!(body.frame().await.unwrap().unwrap_err(), HttpError::Timeout(Phase::Body));
    drop(body);
    server.wait_for_disconnect().await;

    let fixture = Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.headers = milliseconds(100));
    let longest = Some(Duration::MAX);
    let timeouts = RequestTimeouts { connect: zero, first_byte: longest, between_bytes: longest };
    let head = request(Method::GET, &server.url("a.example", "/head"), &[], Empty::<Bytes>::new());
    let error = fixture.session().send_streaming(head, timeouts, None).await.unwrap_err();
    assert_eq!(error, HttpError::Timeout(Phase::Headers));
}

/// Echoes the request.
struct EchoApi {
    url: Url,
    seen: Mutex<Vec<String>>,
}

#[async_trait]
impl InternalApi for EchoApi {
    fn url(&self) -> &Url {
        &self.url
    }

    fn host(&self) -> HeaderValue {
        HeaderValue::from_static("alice.example:8080")
    }

    fn token(&self) -> &str {
        "token"
    }

    fn may_contain_secrets(&self) -> bool {
        false
    }

    async fn call(&self, request: http::Request<InternalBody>) -> http::Response<InternalBody> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes().len()).map_err(|error| error.to_string());
        assert_eq!(parts.version, Version::HTTP_11);
        let seen = format!("{} {} {:?} {body:?}", parts.method, parts.uri, parts.headers["host"]);
        self.seen.lock().unwrap().push(seen);
        http::Response::new(Full::new(Bytes::from("x".repeat(100))).map_err(|never| match never {}).boxed_unsync())
    }
}

#[tokio::test]
async fn our_own_api_is_reached_without_a_rule_or_a_connection() {
    let api = EchoApi { url: "https://alice.example:8080/".parse().unwrap(), seen: Mutex::default() };
    let session = Fixture::new().secret("token", "s3cret-value").session();
    let send = async |method, url: &str, headers: &[(&str, &str)], body| {
        session.send_streaming(request(method, url, headers, body), RequestTimeouts::default(), Some(&api)).await
    };
    let response =
        send(Method::GET, "https://alice.example:8080/data/a?b=c%20d", &[], FrameBody::of([])).await.unwrap();
    assert_eq!(read(response).await.unwrap().len(), 100);
    send(Method::PUT, "https://Alice.Example:8080", &[("content-length", "7")], FrameBody::of([0, 7])).await.unwrap();
    send(Method::POST, "https://alice.example:8080/x", &[("content-length", "7")], FrameBody::of([6])).await.unwrap();
    for other in ["https://alice.example/", "http://alice.example:8080/", "https://bob.example:8080/"] {
        let result = send(Method::GET, other, &[], FrameBody::of([])).await;
        assert!(matches!(result, Err(HttpError::Denied(_))), "{result:?}");
    }
    let result = send(Method::GET, "https://alice.example:8080/", &[("host", "bob.example")], FrameBody::of([])).await;
    assert!(matches!(result, Err(HttpError::Invalid(_))), "{result:?}");
    insta::assert_snapshot!(api.seen.lock().unwrap().join("\n"), @r#"
        GET /data/a?b=c%20d "alice.example:8080" Ok(0)
        PUT / "alice.example:8080" Ok(7)
        POST /x "alice.example:8080" Err("body: the body is 6 bytes long, but content-length is 7")
        "#);
    let record = record(&session, "https://alice.example:8080");
    assert_eq!((record.internal, record.requests, record.bytes_down), (true, 3, 100));
    assert!(record.bytes_up > 13, "{record:?}");
}

#[tokio::test]
async fn our_own_api_counts_towards_the_budget() {
    let api = EchoApi { url: "https://alice.example/".parse().unwrap(), seen: Mutex::default() };
    let session = Fixture::new().budget(|budget| (budget.requests, budget.bytes_down) = (3, 150)).session();
    let send = async || {
        let request = request(Method::GET, "https://alice.example/", &[], FrameBody::of([]));
        read(session.send_streaming(request, RequestTimeouts::default(), Some(&api)).await?).await
    };
    send().await.unwrap();
    insta::assert_snapshot!(send().await.unwrap_err(), @"the run's budget of 150 bytes to receive is exhausted");
    send().await.unwrap_err();
    insta::assert_snapshot!(send().await.unwrap_err(), @"the run's budget of 3 requests is exhausted");
}
