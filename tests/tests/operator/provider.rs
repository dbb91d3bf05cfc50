//! A service that gives a token to whoever brings the code.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The provider; it ends with the process.
pub struct Provider {
    /// Where it listens.
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let form = answer(connection.expect("a connection"));
                book.lock().expect("the book").push(form);
            }
        });
        Self { url, asked }
    }

    /// The forms that it was sent.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the book").clone()
    }
}

fn answer(connection: TcpStream) -> String {
    let mut reader = BufReader::new(&connection);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).expect("a line") > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form).expect("a form");
    let form = String::from_utf8(form).expect("text");
    let (status, body) = if form.contains("code=the-code") {
        ("200 OK", r#"{"access_token":"access-1","refresh_token":"refresh-1","token_type":"Bearer","expires_in":3600}"#)
    } else {
        ("400 Bad Request", r#"{"error":"invalid_grant"}"#)
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(&connection, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("written");
    form
}
