//! The network of one run.

use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::legacy::{self, ResponseFuture};
use konnector_manifest::{HttpRules, PermissionDenied, SecretScope};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::{Origin, Url};

use super::address::is_public;
use super::body::WireBody;
use super::budget::{HttpBudget, Meter};
use super::client_error::to_http_error;
use super::cookies::{CookieJar, MatchingCookie};
use super::echo_budget::{EchoBudget, EchoCharge};
use super::error::{HttpError, Phase};
use super::gate::GateState;
use super::guess::{GuessDetector, GuestText};
use super::network_usage::{DenialReason, HostRecord, NetworkUsage, SentSecrets};
use super::origin_pool::{MAX_RESPONSE_HEADERS, OriginPool, OutboundBody, check_ip_literal};
use super::redirect::{self, MAX_REDIRECTS, RedirectRequest};
use super::request::{DecodedBody, Request, RequestTemplate, Response};
use super::response_stream::{Deadline, MinRate, ResponseStream};
use super::secret::SecretTable;
use super::substitute::{FilledRequest, SecretPolicy, check_large_body, fill};

/// Minimum timeout of a whole exchange; a request with a shorter one, including zero, gets this.
const MIN_TOTAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of origins with open connections.
const MAX_ORIGIN_POOLS: usize = 32;

/// Settings of the session of one run.
pub struct SessionOptions {
    /// The manifest's rules of type `http`, for this account.
    pub rules: HttpRules,
    /// The account's cookie jar, as returned by [`Session::cookies`] at the end of the last run.
    pub cookies: Option<Vec<u8>>,
    /// Network budget of the run.
    pub budget: HttpBudget,
    /// The account's secrets.
    pub secrets: Arc<SecretTable>,
    /// Identifies the account within the process; `None` for a run without an account. Sessions of one account share
    /// the limit [`MAX_ECHOED_REQUEST_BYTES`](super::MAX_ECHOED_REQUEST_BYTES).
    pub account: Option<String>,
}

/// The network of one run. Cheap to clone; its methods may be called concurrently.
#[derive(Clone)]
pub struct Session {
    pub(super) state: Arc<SessionState>,
}

/// Permits of an exchange, for the host, the run and the process, held until it ends.
pub(super) type ConnectionPermits = [OwnedSemaphorePermit; 3];

/// Context of a request that is about to be sent.
pub(super) struct SendContext<'a> {
    pub(super) origin: &'a str,
    pub(super) bytes: u64,
    /// The secrets in it.
    pub(super) secrets: &'a SentSecrets,
}

/// Secrets that the responses to a request and its redirects may repeat.
#[derive(Default)]
struct EchoableSecrets {
    /// Names of the secrets in these requests.
    sent: Vec<String>,
    /// Names of the secrets that the guest itself wrote into one of the requests.
    written_by_guest: Vec<String>,
    /// Names of the other secrets, which are redacted.
    redacted: Vec<String>,
    /// Charge for the first response that repeats one.
    charge: Option<EchoCharge>,
}

/// A request in progress.
pub(super) type PendingResponse = ResponseFuture;

pub(super) struct SessionState {
    pub(super) gate: Arc<GateState>,
    pub(super) meter: Meter,
    rules: HttpRules,
    pub(super) secrets: Arc<SecretTable>,
    /// Created at the first request over TLS, because a waiting run should hold little memory.
    tls: OnceLock<Arc<ClientConfig>>,
    jar: Mutex<CookieJar>,
    usage: Mutex<NetworkUsage>,
    exchange_permits: Arc<Semaphore>,
    pub(super) echo_budget: EchoBudget,
    origin_pools: Mutex<HashMap<Origin, Arc<OriginPool>>>,
    /// Limits the concurrent requests of this run to our own API.
    pub(super) internal_permits: Arc<Semaphore>,
}

impl Session {
    pub(super) fn new(gate: Arc<GateState>, options: SessionOptions) -> Self {
        let run = SessionState {
            tls: OnceLock::new(),
            exchange_permits: Arc::new(Semaphore::new(gate.max_exchanges_per_run)),
            internal_permits: Arc::new(Semaphore::new(gate.max_exchanges_per_origin)),
            echo_budget: gate.echo_budgets.for_account(options.account.as_deref()),
            gate,
            meter: Meter::new(options.budget),
            rules: options.rules,
            secrets: options.secrets,
            jar: Mutex::new(options.cookies.as_deref().map(CookieJar::load).unwrap_or_default()),
            usage: Mutex::default(),
            origin_pools: Mutex::default(),
        };
        Self { state: Arc::new(run) }
    }

    /// Sends a request and reads the whole response.
    ///
    /// Cancel-safe: dropping the future closes the connection in use. The server may nevertheless have received the
    /// request.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; [`HttpError::TooLarge`] if the body is larger than [`HttpBudget::body_limit`].
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.send_buffered(request).await
    }

    /// Sends a request and returns the response with its body unread, to be read in parts within the run's budget.
    ///
    /// Cancel-safe, like [`Session::send`].
    ///
    /// # Errors
    ///
    /// See [`HttpError`].
    pub async fn open(&self, request: Request) -> Result<ResponseStream, HttpError> {
        let ceiling = self.state.gate.timeouts.stream;
        let time = request.timeout.unwrap_or(ceiling).min(ceiling).max(MIN_TOTAL_TIMEOUT);
        self.send_following_redirects(request, Deadline::after(time)).await
    }

    /// Returns names and values of the cookies that a request to this URL would carry. A secret that the vendor put
    /// into a cookie appears as its placeholder; the guest's own cookies are never changed.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] for a malformed URL, [`HttpError::Denied`] for a URL that no rule allows.
    pub fn cookies_for(&self, url: &str) -> Result<Vec<(String, String)>, HttpError> {
        let (cookies, secrets) =
            (lock(&self.state.jar).matching(&self.parse_allowed_url(url)?), self.state.secrets.snapshot());
        let redact_cookie = |cookie: MatchingCookie| {
            let layers = secrets.redaction_layers(&cookie.secrets)?;
            Ok((layers.redact(&cookie.name), layers.redact(&cookie.value)))
        };
        cookies.into_iter().map(redact_cookie).collect()
    }

    /// Stores a cookie as if a response from this URL had the header `Set-Cookie: <line>`.
    ///
    /// # Errors
    ///
    /// As [`Session::cookies_for`], and [`HttpError::Invalid`] for a cookie that this URL may not set.
    pub fn set_cookie(&self, url: &str, line: &str) -> Result<(), HttpError> {
        let url = self.parse_allowed_url(url)?;
        let refused = || {
            HttpError::Invalid(format!("{} may not set this cookie; see RFC 6265", url.host_str().unwrap_or_default()))
        };
        let line = HeaderValue::from_str(line).map_err(|_| refused())?;
        if lock(&self.state.jar).set(line, &url) { Ok(()) } else { Err(refused()) }
    }

    /// Parses a URL to which some rule allows GET or POST.
    fn parse_allowed_url(&self, url: &str) -> Result<Url, HttpError> {
        let url = Url::parse(url).map_err(|error| HttpError::Invalid(format!("url: {error}")))?;
        let rules = &self.state.rules;
        match rules.check("GET", &url) {
            Err(denied) if rules.check("POST", &url).is_err() => Err(HttpError::Denied(denied.to_string())),
            _ => Ok(url),
        }
    }

    /// Deletes the account's cookies.
    pub fn clear_cookies(&self) {
        lock(&self.state.jar).clear();
    }

    /// Returns the cookies to save for the next run, including session cookies, or `None` if there are none. These
    /// bytes are login credentials: store them sealed.
    pub fn cookies(&self) -> Option<Vec<u8>> {
        lock(&self.state.jar).save()
    }

    /// Returns the network usage so far.
    pub fn network_usage(&self) -> Vec<HostRecord> {
        let mask = |text: &str| self.state.secrets.mask(text).into_owned();
        lock(&self.state.usage).records().into_iter().map(|record| record.masked(mask)).collect()
    }

    /// Returns the secrets that requests may use.
    pub fn secrets(&self) -> &Arc<SecretTable> {
        &self.state.secrets
    }

    async fn send_buffered(&self, request: Request) -> Result<Response, HttpError> {
        let times = &self.state.gate.timeouts;
        let time = request.timeout.unwrap_or(times.total).min(times.max_total).max(MIN_TOTAL_TIMEOUT);
        let expect = request.body_format;
        let mut answer = self.send_following_redirects(request, Deadline::after(time)).await?;
        let body = answer.read_all(self.state.meter.budget().body_limit).await?;
        let (body, charset) = DecodedBody::decode(body, expect, answer.raw_headers());
        let body = match body {
            // After decoding, the text may contain secrets that were not visible in its bytes.
            DecodedBody::Text(text) => DecodedBody::Text(answer.redact(text).await),
            bytes @ DecodedBody::Bytes(_) => bytes,
        };
        Ok(Response {
            status: answer.status(),
            url: answer.url().into_owned(),
            headers: answer.headers(),
            body,
            charset,
        })
    }

    async fn send_following_redirects(
        &self,
        request: Request,
        deadline: Deadline,
    ) -> Result<ResponseStream, HttpError> {
        let follows = request.follow_redirects;
        // Charge the budget first, because a request that is rejected for its form is an attempt, too.
        self.state.meter.count_request()?;
        let mut draft = RequestTemplate::new(request)?;
        let mut redirects = 0;
        // A page after a redirect may repeat secrets that were sent before it.
        let (own, mut carried) = (draft.clone(), EchoableSecrets::default());
        loop {
            let answer = self.state.exchange(&draft, &own, deadline, &mut carried).await;
            let answer = answer.map_err(|error| self.state.redact_error(error, &carried.redacted))?;
            let next = if follows { self.state.next_redirect(&draft, &answer) } else { Ok(None) };
            let Some(next) = next.map_err(|error| self.state.redact_error(error, &carried.redacted))? else {
                answer.check_content_encoding()?;
                return Ok(answer);
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(HttpError::TooManyRedirects);
            }
            answer.drain().await;
            self.state.meter.count_request()?;
            draft = next;
        }
    }
}

impl SessionState {
    /// Exchanges one request for the headers of its response; `own` is the guest's request before any redirect. Adds to
    /// `carried` the secrets that the response may repeat.
    async fn exchange(
        self: &Arc<Self>,
        draft: &RequestTemplate,
        own: &RequestTemplate,
        deadline: Deadline,
        carried: &mut EchoableSecrets,
    ) -> Result<ResponseStream, HttpError> {
        let origin = draft.url.origin().ascii_serialization();
        let sent = self.try_exchange(draft, own, deadline, &origin, carried).await;
        self.record_prohibited_address(&origin, &sent);
        sent
    }

    /// Returns the request for the next redirect, if any.
    fn next_redirect(
        &self,
        draft: &RequestTemplate,
        answer: &ResponseStream,
    ) -> Result<Option<RequestTemplate>, HttpError> {
        let origin = draft.url.origin().ascii_serialization();
        let status = StatusCode::from_u16(answer.status()).unwrap_or_default();
        let next = redirect::redirect_request(
            draft,
            status,
            answer.raw_headers(),
            &self.secrets.snapshot(),
            answer.redactor.as_ref(),
        );
        self.record_usage(|ledger| match &next {
            Ok(Some(RedirectRequest { dropped_credentials: dropped, .. })) => {
                ledger.host(&origin).credentials_dropped += dropped
            }
            Err(HttpError::Denied(_)) => ledger.host(&origin).record_denied(DenialReason::Downgrade),
            Ok(None) | Err(_) => {}
        });
        Ok(next?.map(|next| next.template))
    }

    /// Records a denial by the manifest and returns its error.
    fn deny(&self, origin: &str, reason: DenialReason, denied: PermissionDenied) -> HttpError {
        self.record_usage(|ledger| ledger.host(origin).record_denied(reason));
        HttpError::Denied(denied.to_string())
    }

    async fn try_exchange(
        self: &Arc<Self>,
        draft: &RequestTemplate,
        own: &RequestTemplate,
        deadline: Deadline,
        origin: &str,
        carried: &mut EchoableSecrets,
    ) -> Result<ResponseStream, HttpError> {
        check_large_body(draft.body.as_ref(), &self.secrets.snapshot()).await?;
        let FilledRequest { mut headers, body, secrets } = self.authorize(draft, origin)?;
        // Count placeholders, not values, because the guest must not learn the length of a value from the receipt or
        // the budget.
        let bytes = request_size(draft);
        let written = headers.remove(header::COOKIE);
        if let Some(cookies) = lock(&self.jar).cookie_header(&draft.url, written.as_ref()) {
            headers.insert(header::COOKIE, cookies);
        }
        self.track_echoable_secrets(draft, own, &secrets.names, carried).await?;
        if body.as_ref().is_none_or(Bytes::is_empty)
            && matches!(draft.method, Method::POST | Method::PUT | Method::PATCH)
        {
            // Methods with a body need a `Content-Length` even if it is empty (RFC 9110 §8.6); some servers return 411
            // otherwise.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let pool = self.origin_pool(&draft.url)?;
        let places = self.acquire_permits(&pool.exchange_permits, deadline).await?;
        let body =
            body.map_or_else(empty_body, |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        let request = self.build_request(draft, headers, body)?;
        let limit = self.gate.timeouts.headers;
        let with_timeout = |execute| deadline.timeout_within(limit, Phase::Headers, execute);
        let response =
            self.dispatch(&pool, request, SendContext { origin, bytes, secrets: &secrets }, with_timeout).await?;
        let redactor = self.secrets.snapshot().redaction_layers(&carried.redacted)?.redactor(&carried.charge);
        let bytes = match &redactor {
            // This also charges for secrets in the headers. A guest can learn from a header without reading it, because
            // it can query a cookie later, and a redirect leads to the next page.
            Some(redactor) => redactor.shown_size(response.headers()).await,
            None => headers_size(response.headers()),
        };
        self.received_head(origin, response.headers(), bytes)?;
        lock(&self.jar).store(response.headers(), &draft.url, &carried.redacted);
        let (Parts { status, mut headers, .. }, body) = response.into_parts();
        Ok(ResponseStream {
            status,
            body: WireBody::new(body, &mut headers),
            headers,
            rate: MinRate::default(),
            redactor,
            unprocessed: Bytes::new(),
            url: draft.url.to_string(),
            origin: origin.to_owned(),
            deadline,
            run: self.clone(),
            _permits: places,
        })
    }

    /// Adds the secrets that a response may repeat: those in the request, and those in cookies of earlier responses,
    /// but not those that the guest wrote into the request itself.
    async fn track_echoable_secrets(
        &self,
        draft: &RequestTemplate,
        own: &RequestTemplate,
        sent: &[String],
        carried: &mut EchoableSecrets,
    ) -> Result<(), HttpError> {
        let secrets = self.secrets.snapshot();
        let (mut names, mut cookies) = (sent.to_vec(), Vec::new());
        for cookie in lock(&self.jar).matching(&draft.url) {
            let layers = secrets.redaction_layers(&cookie.secrets)?;
            if layers.redact(&cookie.value) != cookie.value || layers.redact(&cookie.name) != cookie.name {
                names.extend(cookie.secrets);
            } else {
                cookies.push(cookie);
            }
        }
        names.sort();
        names.dedup();
        if secrets.redaction_layers(&names)?.has_unknown_secrets() {
            self.echo_budget.check(&names)?;
        }
        // Include the secrets of earlier requests, because this request may contain a guess that the previous one did
        // not, in a cookie of its path.
        names.append(&mut carried.sent);
        names.sort();
        names.dedup();
        let guest = GuestText { template: own, carried: sent, cookies: &cookies };
        let size = guest.size(&secrets);
        carried.charge.get_or_insert_with(|| self.echo_budget.charge(size)).raise_to(size);
        let unknown = GuessDetector::scan_request(guest, &secrets, &names).await?.secrets_not_guessed(&names);
        let was_written = |name: &String| carried.written_by_guest.contains(name) || !unknown.contains(name);
        carried.written_by_guest = names.iter().filter(|name| was_written(name)).cloned().collect();
        carried.redacted = unknown.into_iter().filter(|name| !carried.written_by_guest.contains(name)).collect();
        carried.sent = names;
        Ok(())
    }

    /// Checks the manifest's rules and the address, and returns the request with its secrets filled in.
    pub(super) fn authorize(&self, draft: &RequestTemplate, origin: &str) -> Result<FilledRequest, HttpError> {
        let method = draft.method.as_str();
        self.rules.check(method, &draft.url).map_err(|denied| self.deny(origin, DenialReason::NoRule, denied))?;
        check_ip_literal(&draft.url, &self.gate)?;
        let filled = fill(draft, &self.secrets.snapshot(), &ManifestSecretPolicy { run: self, draft, origin })?;
        self.meter.count_substitutions(filled.secrets.substitutions)?;
        Ok(filled)
    }

    /// Builds the request that is written to the connection.
    pub(super) fn build_request(
        &self,
        draft: &RequestTemplate,
        mut headers: HeaderMap,
        body: OutboundBody,
    ) -> Result<http::Request<OutboundBody>, HttpError> {
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(header::USER_AGENT).or_insert_with(|| self.gate.user_agent.clone());
        let uri: Uri = draft.url.as_str().parse().map_err(|error| HttpError::Invalid(format!("url: {error}")))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Waits for the permits of an exchange. The run's own permits come before the shared one, so a run that waits for
    /// itself blocks no other.
    pub(super) async fn acquire_permits(
        &self,
        own: &Arc<Semaphore>,
        deadline: Deadline,
    ) -> Result<ConnectionPermits, HttpError> {
        let take = async |places: &Arc<Semaphore>| {
            deadline.timeout(places.clone().acquire_owned()).await?.map_err(gate_closed_error)
        };
        Ok([take(own).await?, take(&self.exchange_permits).await?, take(&self.gate.exchange_permits).await?])
    }

    /// Sends an authorised request, and records it and the status of its response. `with_timeout` bounds the wait.
    pub(super) async fn dispatch<W>(
        &self,
        pool: &OriginPool,
        request: http::Request<OutboundBody>,
        SendContext { origin, bytes, secrets }: SendContext<'_>,
        with_timeout: impl FnOnce(PendingResponse) -> W,
    ) -> Result<http::Response<Incoming>, HttpError>
    where
        W: Future<Output = Result<Result<http::Response<Incoming>, legacy::Error>, HttpError>>,
    {
        self.meter.count_sent(bytes)?;
        let method = request.method().clone();
        self.record_usage(|ledger| ledger.host(origin).record_sent(method.as_str(), bytes, secrets));
        let sent = with_timeout(pool.client.request(request)).await?;
        let response = sent.map_err(|error| to_http_error(&error, origin)).inspect_err(|error| {
            if matches!(error, HttpError::AddressProhibited(_)) {
                self.record_usage(|ledger| ledger.host(origin).undo_sent(method.as_str(), bytes, secrets));
            }
        })?;
        let dialled = response.extensions().get::<HttpInfo>();
        if dialled.is_some_and(|dialled| !is_public(dialled.remote_addr().ip())) {
            self.record_usage(|ledger| ledger.host(origin).private += 1);
        }
        self.record_response(origin, response.status(), response.headers())?;
        Ok(response)
    }

    /// Records the status of a response, and rejects a response that two parsers could interpret differently.
    pub(super) fn record_response(
        &self,
        origin: &str,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), HttpError> {
        self.record_usage(|ledger| ledger.host(origin).record_response(status.as_u16()));
        check_framing(headers, origin)
    }

    /// Records the headers of a response, and rejects those that are too large. `bytes` is their size as the guest sees
    /// them. With any other size, the budget or the error would reveal the length of a secret.
    pub(super) fn received_head(&self, origin: &str, headers: &HeaderMap, bytes: u64) -> Result<(), HttpError> {
        self.record_usage(|ledger| ledger.host(origin).bytes_down += bytes);
        self.meter.count_received(bytes)?;
        let (max_bytes, max_headers) = MAX_RESPONSE_HEADERS;
        if bytes > u64::from(max_bytes) || headers.len() > max_headers {
            return Err(HttpError::Protocol(format!(
                "the response from {origin} has {} headers with {bytes} bytes, the limits are {max_headers} headers \
                 and {max_bytes} bytes",
                headers.len()
            )));
        }
        Ok(())
    }

    /// Records that a name or an address may not be contacted.
    pub(super) fn record_prohibited_address<T>(&self, origin: &str, result: &Result<T, HttpError>) {
        if matches!(result, Err(HttpError::AddressProhibited(_))) {
            self.record_usage(|ledger| ledger.host(origin).record_denied(DenialReason::AddressProhibited));
        }
    }

    pub(super) fn origin_pool(&self, url: &Url) -> Result<Arc<OriginPool>, HttpError> {
        let mut pools = lock(&self.origin_pools);
        if let Some(pool) = pools.get(&url.origin()) {
            return Ok(pool.clone());
        }
        if pools.len() >= MAX_ORIGIN_POOLS {
            // Pools in use have a second owner.
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        let tls = match url.scheme() {
            "https" => self.tls.get_or_init(|| self.gate.run_tls_config().into()),
            _ => self.gate.tls_config(),
        };
        let pool = Arc::new(OriginPool::new(url, &self.gate, Arc::clone(tls))?);
        pools.insert(url.origin(), pool.clone());
        Ok(pool)
    }

    pub(super) fn record_usage(&self, change: impl FnOnce(&mut NetworkUsage)) {
        change(&mut lock(&self.usage));
    }

    /// Redacts the error of a redirect, whose message may repeat secrets that were sent to the vendor. The guest's own
    /// input is never masked in an error, which would reveal its right guesses.
    fn redact_error(&self, error: HttpError, carried: &[String]) -> HttpError {
        match self.secrets.snapshot().redaction_layers(carried) {
            Ok(layers) => error.map_text(|text| Cow::Owned(layers.redact(text))),
            Err(error) => error,
        }
    }
}

/// The manifest's policy for the secrets in one request.
struct ManifestSecretPolicy<'a> {
    run: &'a SessionState,
    draft: &'a RequestTemplate,
    origin: &'a str,
}

impl SecretPolicy for ManifestSecretPolicy<'_> {
    fn scope(&self, secret: &str) -> Result<SecretScope, HttpError> {
        let scope = self.run.rules.check_secret(secret, self.draft.method.as_str(), &self.draft.url);
        scope.map_err(|denied| self.run.deny(self.origin, DenialReason::SecretNotBound, denied))
    }

    fn deny_placement(&self, message: String) -> HttpError {
        self.run.deny(self.origin, DenialReason::SecretNotBound, PermissionDenied { message })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("budget", self.state.meter.budget())
            .field("secrets", &self.state.secrets)
            .finish_non_exhaustive()
    }
}

/// Locks a mutex and ignores poisoning, because the guarded data is consistent between any two calls, so a panic cannot
/// corrupt it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Returns the body of a request without a body.
pub(super) fn empty_body() -> OutboundBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn gate_closed_error(_: tokio::sync::AcquireError) -> HttpError {
    HttpError::Other("the gate is closed".to_owned())
}

/// Rejects a response that two parsers could interpret differently (RFC 9112 §6.3).
fn check_framing(headers: &HeaderMap, origin: &str) -> Result<(), HttpError> {
    let encoding = headers.get(header::TRANSFER_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(HttpError::Protocol(format!("the response from {origin} has an unsupported Transfer-Encoding")));
    }
    if encoding.is_some() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(HttpError::Protocol(format!(
            "the response from {origin} has both a Content-Length and a Transfer-Encoding"
        )));
    }
    Ok(())
}

/// Returns the size in bytes of headers as HTTP/1.1 writes them.
pub(super) fn headers_size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| line_size(name.as_str().len(), value.len())).sum()
}

/// Returns the size in bytes of one header with a name and a value of these sizes.
pub(super) const fn line_size(name: usize, value: usize) -> u64 {
    (name + value + 4) as u64
}

/// Returns the size in bytes of a request as the guest wrote it.
pub(super) fn request_size(draft: &RequestTemplate) -> u64 {
    draft.body.as_ref().map_or(0, |body| body.len() as u64) + head_size(draft, &draft.headers)
}

pub(super) fn head_size(draft: &RequestTemplate, headers: &HeaderMap) -> u64 {
    (draft.method.as_str().len() + draft.url.as_str().len() + 12) as u64 + headers_size(headers)
}
