//! A small HTTP server that records its requests. It runs on threads, so that it responds even while a test waits for
//! a command.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The server; it runs until the process ends.
pub struct RecordingServer {
    /// Its address.
    pub url: String,
    sent: Arc<Mutex<Vec<String>>>,
}

impl RecordingServer {
    /// Starts it; `answer` maps a body to a status and JSON.
    pub fn start(respond: impl Fn(&str) -> (u16, &'static str) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&sent);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.expect("a connection");
                let body = body(&connection);
                let (status, json) = respond(&body);
                recorded.lock().expect("the list").push(body);
                let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
                write!(&connection, "{head}Content-Length: {}\r\n\r\n{json}", json.len()).expect("written");
            }
        });
        Self { url, sent }
    }

    /// Returns the bodies received since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.sent.lock().expect("the list"))
    }
}

fn body(connection: &TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).expect("a line") > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    String::from_utf8(body).expect("text")
}
