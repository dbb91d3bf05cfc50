//! `http.send`, from guests that try forbidden requests: the exact result of each.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use konnector_egress::{GateOptions, Resolver, Timeouts};
use konnector_sandbox::Receipt;
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::run;

/// Resolves names to the server; `inside.example` to a forbidden address, `turncoat.example` to it every second time.
#[derive(Default)]
struct FlippingResolver(AtomicUsize);

#[async_trait]
impl Resolver for FlippingResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let (server, inside) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into());
        match host {
            "inside.example" => Ok(vec![inside]),
            "turncoat.example" if !self.0.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => Ok(vec![inside]),
            "nowhere.example" => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            _ => Ok(vec![server]),
        }
    }
}

/// 16 MiB of zeros in 16 KiB.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 16 << 20]).unwrap();
    encoder.finish().unwrap()
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut request = vec![0; 16 << 10];
    let length = stream.read(&mut request).await.unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    seen.lock().unwrap().push(request.clone());
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (_, body) = request.split_once("\r\n\r\n").unwrap_or_default();
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{more}\r\n").into_bytes();
    let redirect = |to: &str| {
        format!("HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {to}\r\n\r\n").into_bytes()
    };
    let script = match path.as_str() {
        "/to-inside" => redirect("http://inside.example:1/"),
        "/to-metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/to-file" => redirect("file:///etc/passwd"),
        "/loop" => redirect("/loop"),
        "/two-lengths" => [head("content-length: 5\r\ncontent-length: 6\r\n"), b"hello!".to_vec()].concat(),
        "/two-ways" => {
            [head("content-length: 5\r\ntransfer-encoding: chunked\r\n"), b"5\r\nhello\r\n0\r\n\r\n".to_vec()].concat()
        }
        "/short" => [head("content-length: 50\r\n"), b"hello".to_vec()].concat(),
        "/bomb" => [head("content-encoding: gzip\r\n"), gzip_bomb()].concat(),
        "/headers" => [head(&"x: y\r\n".repeat(10_000)), b"".to_vec()].concat(),
        "/echo" => {
            [head(&format!("content-type: text/plain\r\ncontent-length: {}\r\n", body.len())), body.as_bytes().to_vec()]
                .concat()
        }
        "/silent" => Vec::new(),
        "/slow" | "/endless" => head("transfer-encoding: chunked\r\n"),
        _ => [head("content-type: text/plain\r\ncontent-length: 5\r\n"), b"hello".to_vec()].concat(),
    };
    let _ = stream.write_all(&script).await;
    let part = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    match path.as_str() {
        "/silent" => tokio::time::sleep(Duration::from_secs(60)).await,
        "/slow" => {
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        "/endless" => while stream.write_all(part.as_bytes()).await.is_ok() {},
        _ => {}
    }
}

struct RequestResults {
    /// The guest's results, one line for each request, without the port.
    log: String,
    /// Requests that reached the server.
    seen: Vec<String>,
    receipt: Receipt,
}

/// Lets a guest send these requests; `PORT` stands for the server's port.
async fn send_requests(requests: &[Value]) -> RequestResults {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The forbidden address has a listener that counts connections.
    let inside = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let (outside_seen, inside_seen) = (seen.clone(), seen.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = outside_seen.clone();
            tokio::spawn(async move { serve(stream, &seen).await });
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = inside.accept().await {
            inside_seen.lock().unwrap().push("somebody came inside".to_owned());
            serve(stream, &inside_seen).await;
        }
    });
    let named = [
        "vendor.example",
        "inside.example",
        "turncoat.example",
        "nowhere.example",
        "127.0.0.2",
        "169.254.169.254",
        "[::1]",
    ];
    let environment = FakeEnvironment {
        hosts: named
            .iter()
            .flat_map(|host| [format!("http://{host}:{port}"), format!("http://{host}"), format!("http://{host}:1")])
            .collect(),
        gate: Some(GateOptions {
            allowed_private: vec!["127.0.0.1".parse().unwrap()],
            resolver: Arc::new(FlippingResolver::default()),
            timeouts: Timeouts {
                headers: Duration::from_millis(500),
                idle: Duration::from_millis(500),
                ..Timeouts::default()
            },
            ..GateOptions::default()
        }),
        ..FakeEnvironment::default()
    };
    let requests = Value::from(requests).to_string().replace("PORT", &port.to_string());
    let requests: Value = serde_json::from_str(&requests).unwrap();
    let output = run(&guest("requests"), json!({ "requests": requests }), &environment).await;
    let log = environment.log().replace(&format!(":{port}"), "").replace("Info: ", "");
    let seen = seen.lock().unwrap().clone();
    RequestResults { log, seen, receipt: output.receipt }
}

fn get(url: &str) -> Value {
    json!({ "url": url })
}

#[tokio::test]
async fn addresses_inside_in_every_spelling() {
    let results = send_requests(&[
        get("http://127.0.0.1:PORT/"),
        get("http://127.0.0.2:PORT/"),
        get("http://2130706434:PORT/"),
        get("http://0x7f.2:PORT/"),
        get("http://0177.0.0.2:PORT/"),
        get("http://127.0.0.2.:PORT/"),
        get("http://[::1]:PORT/"),
        get("http://[::ffff:127.0.0.2]:PORT/"),
        get("http://169.254.169.254/latest/meta-data/"),
        get("http://2852039166/latest/meta-data/"),
        get("http://inside.example:PORT/"),
        get("http://vendor.example@127.0.0.2:PORT/"),
        get("http://127.0.0.2:PORT\\@vendor.example/"),
        get("http://nowhere.example:PORT/"),
        get("file:///etc/passwd"),
        get(&format!("http://vendor.example:PORT/{}", "x".repeat(100_000))),
    ])
    .await;
    assert!(results.seen.is_empty(), "{:?}", results.seen);
    insta::assert_snapshot!(results.log, @r#"
    HttpError::Denied("the manifest has no rule for GET on http://127.0.0.1; add to \"permissions\": \"vendor2\": { \"type\": \"http\", \"verbs\": [\"GET\"], \"values\": [\"http://127.0.0.1\"] }")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("::1 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::Denied("the manifest has no rule for GET on http://[::ffff:7f00:2]; add to \"permissions\": \"vendor2\": { \"type\": \"http\", \"verbs\": [\"GET\"], \"values\": [\"http://[::ffff:7f00:2]\"] }")
    HttpError::AddressProhibited("169.254.169.254 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("169.254.169.254 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("inside.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::Invalid("url: the URL contains a user name or a password; send an Authorization header instead")
    HttpError::AddressProhibited("127.0.0.2 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::Unreachable("the name nowhere.example cannot be resolved: no such name")
    HttpError::Invalid("url: the scheme is file; expected http or https")
    HttpError::Invalid("url: the URL is 100028 bytes long, but the limit is 8192 bytes")
    "#);
}

#[tokio::test]
async fn a_name_that_changes_between_look_ups() {
    let results = send_requests(&vec![get("http://turncoat.example:PORT/"); 4]).await;
    assert_eq!(results.seen.len(), 2);
    insta::assert_snapshot!(results.log, @r#"
    200 Body::Text("hello")
    HttpError::AddressProhibited("turncoat.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    200 Body::Text("hello")
    HttpError::AddressProhibited("turncoat.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    "#);
    let host = &results.receipt.hosts[0];
    assert_eq!((host.requests, host.denied, host.refusals["address_prohibited"], host.private), (2, 2, 2, 2));
}

#[tokio::test]
async fn other_hosts_by_header_and_by_target() {
    let with = |name: &str, value: &str| json!({ "url": "http://vendor.example:PORT/", "headers": { name: value } });
    let results = send_requests(&[
        with("Host", "inside.example"),
        with("host", "vendor.example:PORT"),
        with("X-Forwarded-Host\r\nHost", "inside.example"),
        with("X-Kept", "a\r\nHost: inside.example"),
        with("Transfer-Encoding", "chunked"),
        with("Content-Length", "7"),
        with("Connection", "upgrade"),
        with("Proxy-Connection", "keep-alive"),
        json!({ "method": "CONNECT", "url": "http://vendor.example:PORT/" }),
        json!({ "method": "GET http://inside.example/ HTTP/1.1\r\nX:", "url": "http://vendor.example:PORT/" }),
        get("http://vendor.example:PORT/http://inside.example/"),
        get("http://vendor.example:PORT//inside.example/"),
    ])
    .await;
    insta::assert_snapshot!(results.log, @r#"
    HttpError::Invalid("headers: host is set by the host; leave it out")
    200 Body::Text("hello")
    HttpError::Invalid("headers: \"X-Forwarded-Host\\r\\nHost\" is not a valid header name (RFC 9110 §5.1)")
    HttpError::Invalid("headers: the value of x-kept contains a line break or another control character")
    HttpError::Invalid("headers: transfer-encoding is set by the host; leave it out")
    HttpError::Invalid("headers: content-length is set by the host; leave it out")
    HttpError::Invalid("headers: connection is set by the host; leave it out")
    HttpError::Invalid("headers: proxy-connection is set by the host; leave it out")
    HttpError::Invalid("method: CONNECT is not available to konnectors")
    HttpError::Invalid("method: the value is not a valid HTTP method; use for example GET or POST")
    200 Body::Text("hello")
    200 Body::Text("hello")
    "#);
    let lines: Vec<_> = results.seen.iter().filter_map(|request| request.lines().next()).collect();
    assert_eq!(lines, ["GET / HTTP/1.1", "GET /http://inside.example/ HTTP/1.1", "GET //inside.example/ HTTP/1.1"]);
    assert!(results.seen.iter().all(|request| request.to_lowercase().contains("\r\nhost: vendor.example:")));
}

#[tokio::test]
async fn redirects_to_where_it_may_not_go() {
    let results = send_requests(
        &["/to-inside", "/to-metadata", "/to-file", "/loop"]
            .map(|path| get(&format!("http://vendor.example:PORT{path}"))),
    )
    .await;
    assert_eq!(results.seen.len(), 3 + 11);
    insta::assert_snapshot!(results.log, @r#"
    HttpError::AddressProhibited("inside.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::AddressProhibited("169.254.169.254 does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    HttpError::Protocol("a redirect from http://vendor.example cannot be followed: its target is a file: URL and not a web page; to read the target, send the request with follow-redirects off")
    HttpError::TooManyRedirects
    "#);
}

#[tokio::test]
async fn hostile_responses() {
    let paths = ["/two-lengths", "/two-ways", "/short", "/bomb", "/headers", "/silent", "/slow", "/endless"];
    let mut requests = paths.map(|path| get(&format!("http://vendor.example:PORT{path}"))).to_vec();
    requests.push(json!({ "url": "http://vendor.example:PORT/silent", "timeout": 0 }));
    requests.push(json!({ "url": "http://vendor.example:PORT/", "timeout": 0 }));
    let results = send_requests(&requests).await;
    insta::assert_snapshot!(results.log, @r#"
    HttpError::Protocol("the exchange with http://vendor.example failed: invalid content-length parsed")
    HttpError::Protocol("the response from http://vendor.example has both a Content-Length and a Transfer-Encoding")
    HttpError::Protocol("the exchange with http://vendor.example failed: end of file before message length reached")
    HttpError::Protocol("the compressed body from http://vendor.example decompresses to more than 100 times its size")
    HttpError::Protocol("the exchange with http://vendor.example failed: message head is too large")
    HttpError::Timeout(Phase::Headers)
    HttpError::Timeout(Phase::Body)
    HttpError::TooLarge(8388608)
    HttpError::Timeout(Phase::Headers)
    200 Body::Text("hello")
    "#);
}

#[tokio::test]
async fn a_password_is_used_and_never_seen() {
    let form = |host: &str, path: &str| {
        json!({
            "method": "POST", "url": format!("http://{host}:PORT{path}"), "body": "login=ada&password={password}",
            "headers": { "Content-Type": "application/x-www-form-urlencoded" },
        })
    };
    let results = send_requests(&[
        form("vendor.example", "/"),
        form("vendor.example", "/echo"),
        form("elsewhere.example", "/"),
        form("inside.example", "/"),
        json!({ "url": "http://vendor.example:PORT/", "headers": { "Authorization": "Bearer {password}" } }),
        json!({ "method": "POST", "url": "http://vendor.example:PORT/", "body": "{password}" }),
    ])
    .await;
    assert!(results.seen.iter().all(|request| request.contains("hunter22")) && results.seen.len() == 3);
    assert!(!results.log.contains("hunter22"));
    insta::assert_snapshot!(results.log, @r#"
    200 Body::Text("hello")
    200 Body::Text("login=ada&password={password}")
    HttpError::Denied("the manifest has no rule for POST on http://elsewhere.example; add to \"permissions\": \"vendor2\": { \"type\": \"http\", \"verbs\": [\"POST\"], \"values\": [\"http://elsewhere.example\"] }")
    HttpError::AddressProhibited("inside.example does not resolve to a public address, and private addresses are blocked; the operator can allow individual ones with --allow-address")
    200 Body::Text("hello")
    HttpError::Invalid("body: the body contains the placeholder of the secret password, but its Content-Type is not given; secrets can be sent in application/x-www-form-urlencoded, multipart/form-data, JSON, XML and text/plain")
    "#);
    let vendor = results.receipt.hosts.iter().find(|host| host.host.starts_with("http://vendor.example")).unwrap();
    assert_eq!(vendor.secrets["password"], 3);
}

#[tokio::test]
async fn tokens_are_kept_within_limits() {
    let environment = FakeEnvironment::default();
    run(&guest("rotates"), json!({}), &environment).await;
    insta::assert_snapshot!(environment.log(), @r#"
    Info: Ok(())
    Info: Err(Error::Invalid("value: the new value contains the placeholder of the secret password"))
    Info: long: Some((3, Error::LimitReached("the limit on secrets has been reached")))
    Info: short: Some((15, Error::LimitReached("the limit on secrets has been reached")))
    "#);
    let secrets = environment.secrets.0.lock().unwrap();
    assert!(!secrets.is_empty());
    assert!(secrets.iter().all(|(name, value)| name != "password" && !value.contains("ksecret")));
}
