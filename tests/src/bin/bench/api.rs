//! The HTTP API of the real program: requests per second compared with a bare hyper server, queries, large contents,
//! and many idle websockets.

use std::convert::Infallible;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt as _;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::{Row, print, runtime};

/// The argument that turns this program into a bare server, which returns the bytes of a file for every request.
pub const BARE: &str = "bare-http";

/// Number of sequential connections, their duration, and the number of rounds for each server.
const CLIENTS: usize = 64;
const ROUND_DURATION: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Number of searched documents, and of searches.
const DOCUMENTS: usize = 100_000;
const QUERIES: usize = 500;
/// Bytes of the large file.
const LARGE_FILE_SIZE: usize = 1 << 30;
/// Number of idle websockets.
const SOCKETS: usize = 1_000;

pub fn measure() {
    runtime().block_on(async {
        bench_show().await;
        bench_find().await;
        bench_content().await;
        bench_sockets().await;
    });
}

/// Serves one response on its own port, which it prints.
pub async fn bare(body: &str) {
    let body = Bytes::from(std::fs::read(body).expect("the bytes"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let body = body.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let response = Response::builder().header("content-type", "application/vnd.api+json");
            let response = response.body(Full::new(body.clone())).expect("an answer");
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

struct BareServer(Child);

impl Drop for BareServer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a process of this program as a bare server; also returns its address.
async fn bare_process(body: &[u8]) -> (BareServer, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), body).expect("written");
    let this = std::env::current_exe().expect("this program");
    let mut child = tokio::process::Command::new(this);
    child.arg(BARE).arg(file.path()).stdout(Stdio::piped());
    let mut child = child.into_std().spawn().expect("a process");
    let output = tokio::process::ChildStdout::from_std(child.stdout.take().expect("its output")).expect("a pipe");
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address).await.expect("an address");
    (BareServer(child), address.trim().to_owned())
}

fn address(server: &TestServer) -> String {
    server.url.trim_start_matches("http://").to_owned()
}

/// The head of a request of this client.
fn head(client: &TestClient, method: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{more}\r\n",
        client.domain, client.token
    )
    .into_bytes()
}

/// Sends a request, reads its response into `buffer`, which is cleared first, and returns its length.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> usize {
    stream.write_all(request).await.expect("sent");
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.expect("read") > 0, "the server closed the connection");
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|index| index + 4) else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("a head").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 20"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect("a length");
        let whole = end + length.parse::<usize>().expect("a number");
        while buffer.len() < whole {
            assert!(stream.read_buf(buffer).await.expect("read") > 0, "the server closed the connection");
        }
        return whole;
    }
}

/// All clients send requests as fast as they receive responses. Returns the latency of each response.
async fn load(address: &str, request: &[u8]) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    let end = Instant::now() + ROUND_DURATION;
    for _ in 0..CLIENTS {
        let (address, request) = (address.to_owned(), request.to_vec());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            let (mut buffer, mut times) = (Vec::new(), Vec::new());
            let whole = exchange(&mut stream, &request, &mut buffer).await;
            while Instant::now() < end {
                let started = Instant::now();
                stream.write_all(&request).await.expect("sent");
                // The same request has the same response, so this side need not parse it.
                stream.read_exact(&mut buffer[..whole]).await.expect("the answer");
                times.push(started.elapsed());
            }
            times
        });
    }
    clients.join_all().await.concat()
}

async fn bench_show() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let client = server.client().await;
    let source = bundle::write(&folder.path().join("bank101"), "bank101", |_| {});
    assert_eq!(client.install("bank101", &source).await.0, 202);
    let path = "/konnectors/bank101";
    let (bare, bare_address) = bare_process(&client.bytes(path).await).await;
    let request = head(&client, "GET", path, "");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.extend(load(&bare_address, &request).await);
        ours.extend(load(&address(&server), &request).await);
    }
    drop(bare);
    let (bare, own) = (theirs.len(), ours.len());
    let rows = [Row::new("a bare hyper server, same body", theirs), Row::new("GET /konnectors/:slug", ours)];
    print("64 clients ask for a konnector", Some(0), &rows);
    let rate = |requests: usize| requests as f64 / (ROUND_DURATION * ROUNDS as u32).as_secs_f64();
    println!("  {:.0} requests a second, {:.2}× of the bare {:.0}", rate(own), own as f64 / bare as f64, rate(bare));
}

async fn bench_find() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let client = server.client().await;
    let started = Instant::now();
    for batch in 0..DOCUMENTS / 500 {
        let number = |place: usize| (batch * 500 + place) * 7_919 % DOCUMENTS;
        let docs = (0..500).map(|place| json!({ "number": number(place), "vendor": format!("vendor {}", place % 50), "label": "x".repeat(200) }));
        let body = json!({ "docs": docs.collect::<Vec<Value>>() });
        assert_eq!(client.post("/data/io.cozy.bills/_bulk_docs", body).await.0, 201);
    }
    println!("\n{DOCUMENTS} documents, made in {:.1} s", started.elapsed().as_secs_f64());
    let index = json!({ "index": { "fields": ["number"] } });
    assert_eq!(client.post("/data/io.cozy.bills/_index", index).await.0, 200);
    let mut rows = Vec::new();
    for (name, wanted) in
        [("_find: one document", 1), ("_find: a range of 20, sorted", 20), ("_find: a range of 100, sorted", 100)]
    {
        let mut times = Vec::new();
        let (mut stream, mut buffer) = (TcpStream::connect(address(&server)).await.expect("a connection"), Vec::new());
        for query in 0..QUERIES + 20 {
            let from = query * 6_007 % (DOCUMENTS - wanted);
            let selector = json!({ "number": { "$gte": from, "$lt": from + wanted } });
            let body = json!({ "selector": selector, "sort": [{ "number": "asc" }], "limit": wanted }).to_string();
            let mut request =
                head(&client, "POST", "/data/io.cozy.bills/_find", &format!("Content-Length: {}\r\n", body.len()));
            request.extend(body.as_bytes());
            let started = Instant::now();
            exchange(&mut stream, &request, &mut buffer).await;
            // The first ones meet an index that is still being built, and cold caches.
            if query >= 20 {
                times.push(started.elapsed());
            }
            let body = buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|index| index + 4).expect("a body");
            let body: Value = serde_json::from_slice(&buffer[body..]).expect("JSON");
            assert_eq!(body["docs"].as_array().map(Vec::len), Some(wanted), "{body}");
        }
        rows.push(Row::new(name, times));
    }
    print("A query by an index over 100,000 documents", None, &rows);
}

/// The peak memory of a process since the counter was last reset, in KiB.
fn peak_kib(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn reset_peak(server: &TestServer) {
    std::fs::write(format!("/proc/{}/clear_refs", server.id()), "5").expect("counted anew");
}

async fn bench_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let client = server.client().await;
    let idle = server.resident_kib();
    reset_peak(&server);
    let block: Vec<u8> = (0..1_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();

    let started = Instant::now();
    let mut stream = TcpStream::connect(address(&server)).await.expect("a connection");
    let lengths = format!("Content-Length: {LARGE_FILE_SIZE}\r\nContent-Type: application/octet-stream\r\n");
    stream.write_all(&head(&client, "POST", "/files/?Type=file&Name=large.bin", &lengths)).await.expect("sent");
    for _ in 0..LARGE_FILE_SIZE / block.len() {
        stream.write_all(&block).await.expect("sent");
    }
    let mut buffer = Vec::new();
    exchange(&mut stream, b"", &mut buffer).await;
    let up = started.elapsed();
    let grown_up = peak_kib(&server).saturating_sub(idle);

    reset_peak(&server);
    let started = Instant::now();
    let mut stream = TcpStream::connect(address(&server)).await.expect("a connection");
    let request = head(&client, "GET", "/files/download?Path=/large.bin", "Connection: close\r\n");
    stream.write_all(&request).await.expect("sent");
    let (mut all, mut part) = (0, vec![0; 1 << 20]);
    loop {
        match stream.read(&mut part).await.expect("read") {
            0 => break,
            length => all += length,
        }
    }
    assert!(all > LARGE_FILE_SIZE, "{all}");
    let down = started.elapsed();
    let grown_down = peak_kib(&server).saturating_sub(idle);
    println!("\nA file of 1 GiB through the API");
    let rate = |time: Duration| LARGE_FILE_SIZE as f64 / (1 << 20) as f64 / time.as_secs_f64();
    for (name, time, grown) in [("upload, durable", up, grown_up), ("download", down, grown_down)] {
        println!(
            "  {name:20} {:6.1} s {:8.0} MiB/s, the server grew by {:.1} MiB at most",
            time.as_secs_f64(),
            rate(time),
            grown as f64 / 1024.0
        );
    }
}

async fn bench_sockets() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let client = server.client().await;
    let idle = server.resident_kib();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let mut request = format!("ws://{}/realtime/", address(&server)).into_client_request().expect("a request");
        request.headers_mut().insert("Host", client.domain.parse().expect("a host"));
        request.headers_mut().insert("Sec-WebSocket-Protocol", "io.cozy.websocket".parse().expect("a protocol"));
        let stream = TcpStream::connect(address(&server)).await.expect("a connection");
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a websocket");
        for frame in [
            json!({ "method": "AUTH", "payload": client.token }),
            json!({ "method": "SUBSCRIBE", "payload": { "type": "io.cozy.bills" } }),
        ] {
            socket.send(Message::text(frame.to_string())).await.expect("sent");
        }
        sockets.push(socket);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = server.resident_kib().saturating_sub(idle);
    println!("\n{SOCKETS} idle websockets, each subscribed to a type");
    println!(
        "  the server grew by {:.1} MiB, {:.1} KiB for each",
        grown as f64 / 1024.0,
        grown as f64 / SOCKETS as f64
    );
}
