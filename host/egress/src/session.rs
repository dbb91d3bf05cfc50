//! The network of one run.
mod accounting;
mod echoable_secrets;
mod exchange;

pub(super) use accounting::{head_size, headers_size, line_size, request_size};
pub(super) use exchange::{SendContext, empty_body};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use konnector_manifest::HttpRules;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::{Origin, Url};

use self::echoable_secrets::EchoableSecrets;
use super::budget::{HttpBudget, Meter};
use super::cookies::{CookieJar, MatchingCookie};
use super::echo_budget::EchoBudget;
use super::error::HttpError;
use super::gate::GateState;
use super::network_usage::{HostRecord, NetworkUsage};
use super::origin_pool::OriginPool;
use super::redirect::MAX_REDIRECTS;
use super::request::{DecodedBody, Request, RequestTemplate, Response};
use super::response_stream::{Deadline, ResponseStream};
use super::secret::SecretTable;

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

/// State that the clones of a session share.
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
        let state = SessionState {
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
        Self { state: Arc::new(state) }
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
            (self.state.jar.lock().matching(&self.parse_allowed_url(url)?), self.state.secrets.snapshot());
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
        let rejected = || {
            HttpError::Invalid(format!("{} may not set this cookie; see RFC 6265", url.host_str().unwrap_or_default()))
        };
        let line = HeaderValue::from_str(line).map_err(|_| rejected())?;
        if self.state.jar.lock().set(line, &url) { Ok(()) } else { Err(rejected()) }
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
        self.state.jar.lock().clear();
    }

    /// Returns the cookies to save for the next run, including session cookies, or `None` if there are none. These
    /// bytes are login credentials: store them sealed.
    pub fn cookies(&self) -> Option<Vec<u8>> {
        self.state.jar.lock().save()
    }

    /// Returns the network usage so far.
    pub fn network_usage(&self) -> Vec<HostRecord> {
        let mask = |text: &str| self.state.secrets.mask(text).into_owned();
        self.state.usage.lock().records().into_iter().map(|record| record.masked(mask)).collect()
    }

    /// Returns the secrets that requests may use.
    pub fn secrets(&self) -> &Arc<SecretTable> {
        &self.state.secrets
    }

    async fn send_buffered(&self, request: Request) -> Result<Response, HttpError> {
        let timeouts = &self.state.gate.timeouts;
        let time = request.timeout.unwrap_or(timeouts.total).min(timeouts.max_total).max(MIN_TOTAL_TIMEOUT);
        let body_format = request.body_format;
        let mut response = self.send_following_redirects(request, Deadline::after(time)).await?;
        let body = response.read_all(self.state.meter.budget().body_limit).await?;
        let (body, charset) = DecodedBody::decode(body, body_format, response.raw_headers());
        let body = match body {
            // After decoding, the text may contain secrets that were not visible in its bytes.
            DecodedBody::Text(text) => DecodedBody::Text(response.redact(text).await),
            bytes @ DecodedBody::Bytes(_) => bytes,
        };
        Ok(Response {
            status: response.status(),
            url: response.url().into_owned(),
            headers: response.headers(),
            body,
            charset,
        })
    }

    async fn send_following_redirects(
        &self,
        request: Request,
        deadline: Deadline,
    ) -> Result<ResponseStream, HttpError> {
        let follow_redirects = request.follow_redirects;
        // Charge the budget first, because a request that is rejected for its form is an attempt, too.
        self.state.meter.count_request()?;
        let mut template = RequestTemplate::new(request)?;
        let mut redirects = 0;
        // A page after a redirect may repeat secrets that were sent before it.
        let (original, mut echoable) = (template.clone(), EchoableSecrets::default());
        loop {
            let response = self.state.exchange(&template, &original, deadline, &mut echoable).await;
            let response = response.map_err(|error| self.state.redact_error(error, &echoable.redacted))?;
            let next = if follow_redirects { self.state.next_redirect(&template, &response) } else { Ok(None) };
            let Some(next) = next.map_err(|error| self.state.redact_error(error, &echoable.redacted))? else {
                response.check_content_encoding()?;
                return Ok(response);
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(HttpError::TooManyRedirects);
            }
            response.drain().await;
            self.state.meter.count_request()?;
            template = next;
        }
    }
}

impl SessionState {
    /// Waits for the permits of an exchange. The run's own permits come before the shared one, so a run that waits for
    /// itself blocks no other.
    pub(super) async fn acquire_permits(
        &self,
        origin_permits: &Arc<Semaphore>,
        deadline: Deadline,
    ) -> Result<ConnectionPermits, HttpError> {
        let acquire = async |permits: &Arc<Semaphore>| {
            deadline.timeout(permits.clone().acquire_owned()).await?.map_err(gate_closed_error)
        };
        Ok([
            acquire(origin_permits).await?,
            acquire(&self.exchange_permits).await?,
            acquire(&self.gate.exchange_permits).await?,
        ])
    }

    pub(super) fn origin_pool(&self, url: &Url) -> Result<Arc<OriginPool>, HttpError> {
        let mut pools = self.origin_pools.lock();
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
        change(&mut self.usage.lock());
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

pub(super) fn gate_closed_error(_: tokio::sync::AcquireError) -> HttpError {
    HttpError::Other("the gate is closed".to_owned())
}
