//! Sends the requested requests, well-formed or not, and prints the result of each.

#[cfg(not(target_os = "wasi"))]
fn main() {}

#[cfg(target_os = "wasi")]
fn main() {
    for request in test_commands::parameters()["requests"].as_array().into_iter().flatten() {
        let message = match wasi::send(request) {
            Ok(message) | Err(message) => message,
        };
        test_commands::print_message(format!("{}: {message}", request["name"].as_str().unwrap_or("request")));
    }
}

#[cfg(target_os = "wasi")]
mod wasi {
    use serde_json::Value;
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme};
    use wasip2::io::streams::StreamError;

    /// Sends a request: `method`, `scheme`, `authority`, `path`, `headers`, `body` (a text and its number of
    /// repetitions), `empty_writes`, `timeouts` (nanoseconds for connecting, the first byte, and between bytes),
    /// `read` (`false` leaves the response body unread), `whole` (shows more of it).
    pub fn send(request: &Value) -> Result<String, String> {
        let text = |name: &str| request[name].as_str();
        let outgoing = OutgoingRequest::new(fields(&request["headers"])?);
        let refused = |setting: &'static str| move |()| format!("{setting} refused");
        outgoing.set_method(&Method::Other(text("method").unwrap_or("GET").to_owned())).map_err(refused("method"))?;
        let scheme = match text("scheme") {
            Some("https") => Scheme::Https,
            None | Some("http") => Scheme::Http,
            Some(other) => Scheme::Other(other.to_owned()),
        };
        outgoing.set_scheme(Some(&scheme)).map_err(refused("scheme"))?;
        outgoing.set_authority(text("authority")).map_err(refused("authority"))?;
        outgoing.set_path_with_query(Some(text("path").unwrap_or("/"))).map_err(refused("path"))?;
        let options = options(&request["timeouts"])?;
        let has_body = request["body"].is_object();
        let body = has_body.then(|| outgoing.body()).transpose().map_err(refused("body"))?;
        let future = handle(outgoing, options).map_err(|error| format!("refused at once: {error:?}"))?;
        let written = body.map(|body| write(body, request)).transpose();
        future.subscribe().block();
        let incoming = match future.get() {
            Some(Ok(Ok(incoming))) => incoming,
            Some(Ok(Err(error))) => return Err(format!("{error:?}")),
            Some(Err(())) | None => return Err("the answer is gone".to_owned()),
        };
        written?;
        let mut headers = incoming.headers().entries();
        headers.retain(|(name, _)| name != "date");
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
        let status = incoming.status();
        let body = incoming.consume().map_err(|()| "no body".to_owned())?;
        if request["read"] == Value::Bool(false) {
            return Ok(format!("{status} [{}]", headers.join(" ")));
        }
        let (length, beginning) = read(&body, if request["whole"] == Value::Bool(true) { 4_000 } else { 40 })?;
        Ok(format!("{status} [{}] {length} bytes: {beginning}", headers.join(" ")))
    }

    fn fields(headers: &Value) -> Result<Fields, String> {
        let fields = Fields::new();
        for header in headers.as_array().into_iter().flatten() {
            let [name, value] = [&header[0], &header[1]].map(|text| text.as_str().unwrap_or_default());
            fields.append(name, value.as_bytes()).map_err(|error| format!("header {name}: {error:?}"))?;
        }
        Ok(fields)
    }

    fn options(timeouts: &Value) -> Result<Option<RequestOptions>, String> {
        if !timeouts.is_array() {
            return Ok(None);
        }
        let options = RequestOptions::new();
        let refused = |()| "timeout refused".to_owned();
        options.set_connect_timeout(timeouts[0].as_u64()).map_err(refused)?;
        options.set_first_byte_timeout(timeouts[1].as_u64()).map_err(refused)?;
        options.set_between_bytes_timeout(timeouts[2].as_u64()).map_err(refused)?;
        Ok(Some(options))
    }

    fn write(body: OutgoingBody, request: &Value) -> Result<(), String> {
        let stream = body.write().map_err(|()| "no stream".to_owned())?;
        let text = request["body"]["text"].as_str().unwrap_or_default().as_bytes();
        let writes = request["body"]["times"].as_u64().unwrap_or(1);
        for _ in 0..request["empty_writes"].as_u64().unwrap_or(0) {
            // As often as the host permits it; nothing is ever sent.
            if stream.check_write().map_err(|error| format!("{error:?}"))? == 0 {
                stream.subscribe().block();
            }
            stream.write(&[]).map_err(|error| format!("an empty write: {error:?}"))?;
        }
        for _ in 0..writes {
            match stream.blocking_write_and_flush(text) {
                Ok(()) => {}
                // The request ended early; its response says why.
                Err(StreamError::Closed) => break,
                Err(error) => return Err(format!("a write: {error:?}")),
            }
        }
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|error| format!("the end of the body: {error:?}"))
    }

    fn read(body: &IncomingBody, max_length: usize) -> Result<(usize, String), String> {
        let stream = body.stream().map_err(|()| "no stream".to_owned())?;
        let (mut length, mut beginning) = (0, Vec::new());
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(part) => {
                    length += part.len();
                    beginning.extend(part.iter().take(max_length.saturating_sub(beginning.len())));
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = wasip2::http::types::http_error_code(&error);
                    return Err(format!("after {length} bytes: {code:?}"));
                }
            }
        }
        Ok((length, String::from_utf8_lossy(&beginning).into_owned()))
    }
}
