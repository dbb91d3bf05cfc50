//! Git's smart HTTP protocol through the gate. The library writes a request's body after it has requested the response;
//! therefore the request is sent when the first part of the response is read.

use parking_lot::Mutex;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use gix_transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use konnector_egress::{BodyFormat, Request, Session};
use tokio::runtime::Handle;

use super::super::download::into_bytes;
use super::FETCH_TIMEOUT;

/// HTTP transport for the git library. The methods block, and must not be called on a thread of the runtime.
#[derive(Clone)]
pub(super) struct GateHttp {
    session: Session,
    runtime: Handle,
    /// Target of the first request's redirect, without the path and query of that request.
    redirected_base_url: Option<String>,
}

/// A response: its headers, line by line, and its body.
#[derive(Clone)]
struct ResponseParts {
    headers: Bytes,
    body: Bytes,
}

impl GateHttp {
    pub(super) const fn new(session: Session, runtime: Handle) -> Self {
        Self { session, runtime, redirected_base_url: None }
    }

    /// Sends a request; also returns the URL from which the response came.
    fn send(&self, request: Request) -> io::Result<(String, ResponseParts)> {
        let response =
            self.runtime.block_on(self.session.send(request)).map_err(|error| io::Error::other(error.to_string()))?;
        match response.status {
            200 => {}
            401 | 403 => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the server requires a login, or does not have this repository",
                ));
            }
            status => return Err(io::Error::other(format!("the server responded with status {status}"))),
        }
        let headers: String = response.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        Ok((response.url, ResponseParts { headers: headers.into(), body: into_bytes(response.body) }))
    }
}

fn request(method: &str, url: &str, headers: impl IntoIterator<Item = impl AsRef<str>>) -> Request {
    let pair = |line: String| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.into_iter().filter_map(|line| pair(line.as_ref().to_owned())).collect(),
        body: None,
        form_charset: None,
        body_format: BodyFormat::Bytes,
        follow_redirects: true,
        timeout: Some(FETCH_TIMEOUT),
    }
}

impl Http for GateHttp {
    type Headers = LazyResponse;
    type ResponseBody = LazyResponse;
    type PostBody = GitRequestBody;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<LazyResponse, LazyResponse>> {
        let (from, response) = self.send(request("GET", url, headers)).map_err(gix::Error::from_error)?;
        let tail = url.strip_prefix(base_url).unwrap_or_default();
        self.redirected_base_url = from.strip_suffix(tail).map(str::to_owned).filter(|base| base != base_url);
        Ok(GetResponse { headers: LazyResponse::ready(response.headers), body: LazyResponse::ready(response.body) })
    }

    fn post(
        &mut self,
        url: &str,
        _: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _: PostBodyDataKind,
    ) -> gix::Result<PostResponse<LazyResponse, LazyResponse, GitRequestBody>> {
        let body = GitRequestBody::default();
        let exchange = Arc::new(Exchange {
            http: self.clone(),
            request: request("POST", url, headers),
            body: body.clone(),
            response: Mutex::default(),
        });
        Ok(PostResponse {
            headers: LazyResponse::pending(&exchange, |response| response.headers),
            body: LazyResponse::pending(&exchange, |response| response.body),
            post_body: body,
        })
    }

    fn configure(&mut self, _: &dyn std::any::Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected_base_url.clone()
    }
}

/// Body of a request while it is written.
#[derive(Clone, Default)]
pub(super) struct GitRequestBody(Arc<Mutex<Vec<u8>>>);

impl Write for GitRequestBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request that is sent when its response is read.
struct Exchange {
    http: GateHttp,
    request: Request,
    body: GitRequestBody,
    response: Mutex<Option<ResponseParts>>,
}

impl Exchange {
    fn response(&self) -> io::Result<ResponseParts> {
        let mut response = self.response.lock();
        if let Some(response) = &*response {
            return Ok(response.clone());
        }
        let body = std::mem::take(&mut *self.body.0.lock());
        let (_, received) = self.http.send(Request { body: Some(body.into()), ..self.request.clone() })?;
        Ok(response.insert(received).clone())
    }
}

/// An exchange, and the part of its response that is being read.
type PendingPart = (Arc<Exchange>, fn(ResponseParts) -> Bytes);

/// A part of a response.
pub(super) struct LazyResponse {
    pending: Option<PendingPart>,
    received: Cursor<Bytes>,
}

impl LazyResponse {
    fn ready(bytes: Bytes) -> Self {
        Self { pending: None, received: Cursor::new(bytes) }
    }

    fn pending(exchange: &Arc<Exchange>, part: fn(ResponseParts) -> Bytes) -> Self {
        Self { pending: Some((Arc::clone(exchange), part)), received: Cursor::default() }
    }

    fn wait(&mut self) -> io::Result<&mut Cursor<Bytes>> {
        if let Some((exchange, part)) = self.pending.take() {
            self.received = Cursor::new(part(exchange.response()?));
        }
        Ok(&mut self.received)
    }
}

impl Read for LazyResponse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?.read(buffer)
    }
}

impl BufRead for LazyResponse {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.wait()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.received.consume(amount);
    }
}
