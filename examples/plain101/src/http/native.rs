//! HTTP/1.1 (RFC 9112) over a socket of the standard library, with one connection per request. No TLS, because this
//! is an example.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{Request, Response};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends a request and reads the whole response.
pub fn send(request: Request) -> Result<Response, String> {
    let text = |error: std::io::Error| error.to_string();
    let url = &request.url;
    if url.scheme() != "http" {
        return Err(format!("{url}: only http is supported"));
    }
    let address = url.socket_addrs(|| None).map_err(text)?;
    let mut stream = TcpStream::connect(address.as_slice()).map_err(text)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(text)?;
    let host = url.port().map_or_else(
        || url.host_str().unwrap_or_default().to_owned(),
        |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
    );
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut head =
        format!("{} {}{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method, url.path());
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&request.body)).map_err(text)?;
    let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let length = stream.read(&mut part).map_err(text)?;
        bytes.extend_from_slice(part.get(..length).unwrap_or_default());
        match parse(&bytes) {
            Some(response) => return Ok(response),
            None if length == 0 => return Err("the response is not HTTP, or is truncated".to_owned()),
            None => {}
        }
    }
}

/// Parses a response; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(end + 4)?;
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    response.body = if response.header("transfer-encoding") == Some("chunked") {
        chunks(body)?
    } else {
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        body.get(..length)?.to_vec()
    };
    Some(response)
}

fn chunks(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let (size, rest) = body.split_at_checked(end)?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(joined);
        }
        let (chunk, rest) = rest.get(2..)?.split_at_checked(size)?;
        joined.extend_from_slice(chunk);
        body = rest.get(2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_with_a_length_and_in_chunks() {
        let response = parse(b"HTTP/1.1 201 Created\r\nA: b \r\nContent-Length: 2\r\n\r\nok").expect("a response");
        assert_eq!((response.status, response.header("a"), &*response.body), (201, Some("b"), &b"ok"[..]));
        let response =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(response.expect("a response").body, b"abc0123456789");
        for unfinished in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"] {
            assert!(parse(unfinished.as_bytes()).is_none(), "{unfinished}");
        }
    }
}
