//! HTTP over `wasi:http`, the only network interface of a component.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

use super::{Request, Response};

/// Maximum number of bytes of one write, and of one read.
const CHUNK_SIZE: usize = 4_096;

/// Sends a request and reads the whole response.
pub fn send(request: Request) -> Result<Response, String> {
    let url = &request.url;
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields.append(name, value.as_bytes()).map_err(|error| format!("{name}: {error:?}"))?;
    }
    fields.append("content-length", request.body.len().to_string().as_bytes()).map_err(|error| error.to_string())?;
    let outgoing = OutgoingRequest::new(fields);
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let invalid = |()| format!("{url} is not a valid URL");
    let method = Method::Other(request.method.to_owned());
    outgoing.set_method(&method).map_err(invalid)?;
    outgoing.set_scheme(Some(if url.scheme() == "https" { &Scheme::Https } else { &Scheme::Http })).map_err(invalid)?;
    outgoing.set_authority(Some(url.authority())).map_err(invalid)?;
    outgoing.set_path_with_query(Some(&format!("{}{query}", url.path()))).map_err(invalid)?;
    let body = outgoing.body().map_err(|()| "the request has no body".to_owned())?;
    let pending = handle(outgoing, None).map_err(|error| error.to_string())?;
    write(body, &request.body)?;
    pending.subscribe().block();
    let incoming = match pending.get() {
        Some(Ok(Ok(incoming))) => incoming,
        Some(Ok(Err(error))) => return Err(error.to_string()),
        Some(Err(())) | None => return Err("the response was already taken".to_owned()),
    };
    let headers = incoming.headers().entries();
    let headers =
        headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let status = incoming.status();
    let body = incoming.consume().map_err(|()| "the response has no body".to_owned())?;
    Ok(Response { status, headers, body: read(&body)? })
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), String> {
    let stream = body.write().map_err(|()| "the body cannot be written".to_owned())?;
    for part in bytes.chunks(CHUNK_SIZE) {
        match stream.blocking_write_and_flush(part) {
            Ok(()) => {}
            // The request ended early; the response says why.
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| error.to_string())
}

fn read(body: &IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "the body cannot be read".to_owned())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_SIZE as u64) {
            Ok(part) => bytes.extend(part),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(error) => return Err(error.to_string()),
        }
    }
}
