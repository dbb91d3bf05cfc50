//! `wasi:http`, for programs that bring their own HTTP client. It is a second entry to the same gate. A guest receives
//! only the error codes of `wasi:http`; the run's log explains them and names the rule to add.

use std::future::Future;
use std::sync::Arc;

use http::HeaderName;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::{Context, Host};
use crate::capability::Level;
use konnector_egress::{HttpError, InternalApi, MayContainSecrets, Phase, RequestTimeouts};

/// Maximum size of all headers of one request or response in bytes, as `wasi:http` counts them.
const MAX_HEADERS_SIZE: usize = 64 << 10;
/// Maximum size of one write to a body in bytes; at most two writes are buffered.
const BODY_CHUNK_SIZE: usize = 16 << 10;
/// Maximum number of concurrent requests of a run.
const MAX_IN_FLIGHT_REQUESTS: usize = 64;
/// Connection headers that the default list lacks.
const EXTRA_FORBIDDEN_HEADERS: [&str; 5] = ["cookie2", "expect", "te", "trailer", "proxy-authentication-info"];

/// The state of `wasi:http` in a run.
pub(crate) struct WasiHttpState {
    hooks: GateHooks,
    limits: WasiHttpCtx,
}

struct GateHooks {
    context: Arc<Context>,
    in_flight: Arc<Semaphore>,
}

impl WasiHttpState {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let mut limits = WasiHttpCtx::new();
        limits.set_field_size_limit(MAX_HEADERS_SIZE);
        Self { hooks: GateHooks { context, in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT_REQUESTS)) }, limits }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let WasiHttpState { hooks, limits } = &mut self.wasi_http;
        WasiHttpCtxView { hooks, table: self.handles.table(&mut self.table), ctx: limits }
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || EXTRA_FORBIDDEN_HEADERS.contains(&name.as_str())
}

type WasiHttpResponse = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for GateHooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_SIZE
    }

    /// Immediate rejections are returned through the future too, because programs handle errors there.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _consumed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<WasiHttpResponse>> + Send> {
        let context = Arc::clone(&self.context);
        let permit = Arc::clone(&self.in_flight).try_acquire_owned();
        let exchange = async move {
            let _permit = permit.map_err(|_| {
                let text = format!(
                    "{MAX_IN_FLIGHT_REQUESTS} requests are already in progress; wait for one of them to finish"
                );
                context.log_http_error(HttpError::QuotaExceeded(text))
            })?;
            let response = context
                .send_streaming(request, request_timeouts(options))
                .await
                .map_err(|error| context.log_http_error(error))?;
            if response.extensions().get::<MayContainSecrets>().is_some() {
                context.meter.secrets_revealed.add(1);
            }
            let logged = Arc::clone(&context);
            let response = response.map(|body| body.map_err(move |error| logged.log_http_error(error)).boxed_unsync());
            let nothing_more: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing_more))
        };
        // Not in the task that `wasmtime-wasi-http` starts for this, because work for the guest, above all requests to
        // the internal API, happens in the guest's turn and is billed to the run.
        let response = self.context.side_tasks.spawn(Box::pin(exchange));
        Box::new(async move {
            let ending = || Error::InternalError(Some("the run is ending".to_owned()));
            response.await.unwrap_or_else(|_| Err(ending()))
        })
    }
}

impl Context {
    async fn send_streaming(
        &self,
        request: http::Request<WasiBody>,
        timeouts: RequestTimeouts,
    ) -> std::result::Result<http::Response<konnector_egress::StreamingBody>, HttpError> {
        let own = self.internal_api();
        let own = own.as_ref().map(|api| api as &dyn InternalApi);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(HttpError::Other("the run is being cancelled".to_owned())),
            response = self.capabilities.http.send_streaming(request, timeouts, own) => response,
        }
    }

    /// Writes the error's text to the log, because the codes contain none.
    fn log_http_error(&self, error: HttpError) -> Error {
        self.logs.write_line(Level::Warn, &format!("wasi:http: {error}"));
        wasi_error(error)
    }
}

fn request_timeouts(options: Option<RequestOptions>) -> RequestTimeouts {
    let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = options.unwrap_or_default();
    RequestTimeouts { connect: connect_timeout, first_byte: first_byte_timeout, between_bytes: between_bytes_timeout }
}

fn wasi_error(error: HttpError) -> Error {
    match error {
        HttpError::Denied(_) => Error::HttpRequestDenied,
        HttpError::AddressProhibited(_) => Error::DestinationIpProhibited,
        HttpError::Unreachable(_) => Error::DestinationUnavailable,
        HttpError::Tls(_) => Error::TlsProtocolError,
        HttpError::Timeout(Phase::Connect) => Error::ConnectionTimeout,
        HttpError::Timeout(Phase::Headers | Phase::Total) => Error::HttpResponseTimeout,
        HttpError::Timeout(Phase::Body) => Error::ConnectionReadTimeout,
        HttpError::TooManyRedirects => Error::LoopDetected,
        HttpError::TooLarge(limit) => Error::HttpResponseBodySize(Some(limit)),
        HttpError::QuotaExceeded(_) => Error::ConnectionLimitReached,
        HttpError::Protocol(_) => Error::HttpProtocolError,
        HttpError::Invalid(text) | HttpError::Other(text) => Error::InternalError(Some(text)),
    }
}
