//! A server that sends scripted responses byte for byte and records the requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A recorded request.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ReceivedRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One step of a response.
#[derive(Debug, Clone)]
pub enum ResponseStep {
    Write(Vec<u8>),
    /// Repeats the bytes until the peer closes the connection.
    Repeat(Vec<u8>),
    Wait(Duration),
    /// Waits until the peer closes the connection; then `hung_up` is incremented.
    Stall,
    Close,
}

pub type ResponseScript = Vec<ResponseStep>;

/// Returns a response with a body and its length.
pub fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> ResponseScript {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    vec![ResponseStep::Write(bytes)]
}

pub fn ok(body: &str) -> ResponseScript {
    response(200, &[], body)
}

pub fn redirect(status: u16, location: &str) -> ResponseScript {
    response(status, &[("Location", location)], "")
}

/// Sends exactly these bytes, then closes the connection.
pub fn raw(bytes: impl AsRef<[u8]>) -> ResponseScript {
    vec![ResponseStep::Write(bytes.as_ref().to_vec()), ResponseStep::Close]
}

type Handler = Arc<dyn Fn(&ReceivedRequest) -> ResponseScript + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    state: Arc<ServerState>,
}

#[derive(Default)]
struct ServerState {
    requests: Mutex<Vec<ReceivedRequest>>,
    connections: AtomicUsize,
    disconnects: AtomicUsize,
    active: AtomicUsize,
    max_active: AtomicUsize,
}

impl Server {
    pub async fn start(handler: impl Fn(&ReceivedRequest) -> ResponseScript + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", handler).await
    }

    pub async fn listen(
        address: &str,
        handler: impl Fn(&ReceivedRequest) -> ResponseScript + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(ServerState::default());
        let (handler, shared): (Handler, _) = (Arc::new(handler), state.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (handler, state) = (handler.clone(), shared.clone());
                tokio::spawn(async move { serve(socket, &handler, &state).await });
            }
        });
        Self { address, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns a URL of this server under a host name.
    pub fn url(&self, host: &str, target: &str) -> String {
        format!("http://{host}:{}{target}", self.port())
    }

    /// Returns a port on which nothing listens.
    pub async fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn last_request(&self) -> ReceivedRequest {
        self.requests().pop().expect("the server received no request")
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Returns the maximum number of concurrent requests.
    pub fn max_concurrent_requests(&self) -> usize {
        self.state.max_active.load(Ordering::SeqCst)
    }

    /// Waits until the peer has abandoned a stalled response.
    pub async fn wait_for_disconnect(&self) {
        tokio::time::timeout(Duration::from_secs(5), async {
            while self.state.disconnects.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the connection stays open");
    }
}

async fn serve(mut socket: TcpStream, handler: &Handler, state: &ServerState) {
    while let Some(request) = read(&mut socket).await {
        state.requests.lock().unwrap().push(request.clone());
        let busy = state.active.fetch_add(1, Ordering::SeqCst) + 1;
        state.max_active.fetch_max(busy, Ordering::SeqCst);
        let open = write(&mut socket, handler(&request), state).await;
        state.active.fetch_sub(1, Ordering::SeqCst);
        if !open {
            return;
        }
    }
}

async fn write(socket: &mut TcpStream, steps: ResponseScript, state: &ServerState) -> bool {
    for step in steps {
        match step {
            ResponseStep::Write(bytes) => {
                if socket.write_all(&bytes).await.is_err() || socket.flush().await.is_err() {
                    return false;
                }
            }
            ResponseStep::Repeat(bytes) => {
                while socket.write_all(&bytes).await.is_ok() {}
                return false;
            }
            ResponseStep::Wait(time) => tokio::time::sleep(time).await,
            ResponseStep::Stall => {
                while !matches!(socket.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
                state.disconnects.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            ResponseStep::Close => {
                let _ = socket.shutdown().await;
                return false;
            }
        }
    }
    true
}

async fn read(socket: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.trim_end().lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = ReceivedRequest { method, target, headers, body: String::new() };
    if request.header("transfer-encoding") == Some("chunked") {
        request.body = String::from_utf8_lossy(&read_chunked_body(socket).await?).into_owned();
        return Some(request);
    }
    let mut body = vec![0; request.header("content-length").map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

/// Reads a chunked body, whose length is not declared.
async fn read_chunked_body(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(socket.read_u8().await.ok()?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        socket.read_exact(&mut chunk).await.ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(&chunk[..size]);
    }
}
