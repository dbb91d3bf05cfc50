//! The network of one run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::legacy::{self, ResponseFuture};
use konnector_manifest::{Denied, HttpRules, SecretScope};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::{Origin, Url};

use super::address::is_public;
use super::body::Body as WireBody;
use super::budget::{HttpBudget, Meter};
use super::cookies::{Jar, Matching};
use super::echo_budget::{EchoBudget, EchoCharge};
use super::error::{HttpError, Phase};
use super::failure::translate;
use super::gate::Shared;
use super::guess::{Guesses, GuestText};
use super::ledger::{Carried, HostRecord, Ledger, Refusal};
use super::redirect::{self, MAX_REDIRECTS, Next};
use super::request::{Body, Draft, Request, Response};
use super::secret::SecretTable;
use super::site::{MAX_HEADERS, Sent, Site, check_literal};
use super::stream::{Deadline, Pace, Stream};
use super::substitute::{Binding, Filled, check_large, fill};

/// Shortest time for a whole exchange; a request that names less, zero among it, gets this.
const SHORTEST_TOTAL: Duration = Duration::from_secs(1);

/// Origins whose connections are kept at one time.
const MAX_SITES: usize = 32;

/// What one run may contact, and with what.
pub struct SessionOptions {
    /// The manifest's rules of type `http`, for this account.
    pub rules: HttpRules,
    /// The account's cookie jar, as [`Session::cookies`] gave it at the end of the last run.
    pub cookies: Option<Vec<u8>>,
    /// What the run may use up.
    pub budget: HttpBudget,
    /// The account's secrets.
    pub secrets: Arc<SecretTable>,
    /// What tells the account from all others of the process; `None` for a run without one. Sessions of one account share the limit
    /// [`MAX_TEXT_BESIDE_ECHO`](super::MAX_TEXT_BESIDE_ECHO).
    pub account: Option<String>,
}

/// The network of one run. Cheap to clone; its methods may be called at the same time.
#[derive(Clone)]
pub struct Session {
    pub(super) run: Arc<Run>,
}

/// The places of an exchange with the host, in the run and in the process, held until it ends.
pub(super) type Places = [OwnedSemaphorePermit; 3];

/// What is known of a request that is about to be sent.
pub(super) struct Sending<'a> {
    pub(super) origin: &'a str,
    pub(super) bytes: u64,
    /// The secrets in it.
    pub(super) secrets: &'a Carried,
}

/// What the answers to a request and its redirects may repeat.
#[derive(Default)]
struct Repeatable {
    /// Names of the secrets in these requests.
    sent: Vec<String>,
    /// Those that the guest wrote into one of the requests itself.
    written: Vec<String>,
    /// The others, which are hidden.
    secrets: Vec<String>,
    /// For the first answer that does.
    charge: Option<EchoCharge>,
}

/// A request on its way.
pub(super) type Execute = ResponseFuture;

pub(super) struct Run {
    pub(super) gate: Arc<Shared>,
    pub(super) meter: Meter,
    rules: HttpRules,
    pub(super) secrets: Arc<SecretTable>,
    /// Made at the first request over TLS: a run that waits should hold little.
    tls: OnceLock<Arc<ClientConfig>>,
    jar: Mutex<Jar>,
    ledger: Mutex<Ledger>,
    exchanges: Arc<Semaphore>,
    pub(super) echoes: EchoBudget,
    sites: Mutex<HashMap<Origin, Arc<Site>>>,
    /// Requests of this run to our own API at one time.
    pub(super) own: Arc<Semaphore>,
}

impl Session {
    pub(super) fn new(gate: Arc<Shared>, options: SessionOptions) -> Self {
        let run = Run {
            tls: OnceLock::new(),
            exchanges: Arc::new(Semaphore::new(gate.per_run)),
            own: Arc::new(Semaphore::new(gate.per_host)),
            echoes: gate.echo_budgets.of(options.account.as_deref()),
            gate,
            meter: Meter::new(options.budget),
            rules: options.rules,
            secrets: options.secrets,
            jar: Mutex::new(options.cookies.as_deref().map(Jar::load).unwrap_or_default()),
            ledger: Mutex::default(),
            sites: Mutex::default(),
        };
        Self { run: Arc::new(run) }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// Cancel-safe: dropping the future closes the connection that is in use. The request may have reached the server nevertheless.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; [`HttpError::TooLarge`] when the body is larger than [`HttpBudget::body_limit`].
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.read(request).await
    }

    /// Sends a request and leaves the answer's body to be read in parts, up to what the run may receive.
    ///
    /// Cancel-safe, as [`Session::send`] is.
    ///
    /// # Errors
    ///
    /// See [`HttpError`].
    pub async fn open(&self, request: Request) -> Result<Stream, HttpError> {
        let ceiling = self.run.gate.timeouts.stream;
        let time = request.timeout.unwrap_or(ceiling).min(ceiling).max(SHORTEST_TOTAL);
        self.follow(request, Deadline::after(time)).await
    }

    /// Names and values of the cookies that a request to this address would carry. A secret that the vendor put into one is its placeholder;
    /// what the guest put into one itself is never changed.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] for a malformed address, [`HttpError::Denied`] for an address that no rule allows.
    pub fn cookies_for(&self, url: &str) -> Result<Vec<(String, String)>, HttpError> {
        let (cookies, secrets) = (lock(&self.run.jar).matching(&self.named(url)?), self.run.secrets.snapshot());
        let shown = |cookie: Matching| {
            let hidden = secrets.hidden(&cookie.secrets)?;
            Ok((hidden.hide(&cookie.name), hidden.hide(&cookie.value)))
        };
        cookies.into_iter().map(shown).collect()
    }

    /// Keeps a cookie as if this address had answered with the header `Set-Cookie: <line>`.
    ///
    /// # Errors
    ///
    /// As [`Session::cookies_for`], and [`HttpError::Invalid`] for what no address may set.
    pub fn set_cookie(&self, url: &str, line: &str) -> Result<(), HttpError> {
        let url = self.named(url)?;
        let refused = || {
            HttpError::Invalid(format!("{} may not set this cookie; see RFC 6265", url.host_str().unwrap_or_default()))
        };
        let line = HeaderValue::from_str(line).map_err(|_| refused())?;
        if lock(&self.run.jar).set(line, &url) { Ok(()) } else { Err(refused()) }
    }

    /// Parses an address that some rule allows to read or to post to.
    fn named(&self, url: &str) -> Result<Url, HttpError> {
        let url = Url::parse(url).map_err(|error| HttpError::Invalid(format!("url: {error}")))?;
        let rules = &self.run.rules;
        match rules.check("GET", &url) {
            Err(denied) if rules.check("POST", &url).is_err() => Err(HttpError::Denied(denied.to_string())),
            _ => Ok(url),
        }
    }

    /// Forgets the account's cookies.
    pub fn forget_cookies(&self) {
        lock(&self.run.jar).clear();
    }

    /// The cookies to keep for the next run, those for the vendor's session included; `None` when there are none. Whoever has these bytes
    /// is logged in: keep them sealed.
    pub fn cookies(&self) -> Option<Vec<u8>> {
        lock(&self.run.jar).save()
    }

    /// What was contacted so far.
    pub fn ledger(&self) -> Vec<HostRecord> {
        let mask = |text: &str| self.run.secrets.mask(text).into_owned();
        lock(&self.run.ledger).records().into_iter().map(|record| record.masked(mask)).collect()
    }

    /// The secrets that requests may use.
    pub fn secrets(&self) -> &Arc<SecretTable> {
        &self.run.secrets
    }

    async fn read(&self, request: Request) -> Result<Response, HttpError> {
        let times = &self.run.gate.timeouts;
        let time = request.timeout.unwrap_or(times.total).min(times.total_ceiling).max(SHORTEST_TOTAL);
        let expect = request.expect;
        let mut answer = self.follow(request, Deadline::after(time)).await?;
        let body = answer.read_all(self.run.meter.budget().body_limit).await?;
        let (body, charset) = Body::new(body, expect, answer.raw_headers());
        let body = match body {
            // Decoded from a charset, it may hold what its bytes do not show.
            Body::Text(text) => Body::Text(answer.hide(text).await),
            bytes @ Body::Bytes(_) => bytes,
        };
        Ok(Response {
            status: answer.status(),
            url: answer.url().into_owned(),
            headers: answer.headers(),
            body,
            charset,
        })
    }

    async fn follow(&self, request: Request, deadline: Deadline) -> Result<Stream, HttpError> {
        let follows = request.follow_redirects;
        // The budget comes first: a request that is refused for its form is an attempt, too.
        self.run.meter.request()?;
        let mut draft = Draft::new(request)?;
        let mut redirects = 0;
        // A page behind a redirect may repeat what was sent before it.
        let (own, mut carried) = (draft.clone(), Repeatable::default());
        loop {
            let answer = self.run.exchange(&draft, &own, deadline, &mut carried).await;
            let answer = answer.map_err(|error| self.run.hidden(error, &carried.secrets))?;
            let next = if follows { self.run.redirected(&draft, &answer) } else { Ok(None) };
            let Some(next) = next.map_err(|error| self.run.hidden(error, &carried.secrets))? else {
                answer.refuse_unreadable()?;
                return Ok(answer);
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(HttpError::TooManyRedirects);
            }
            answer.drain().await;
            self.run.meter.request()?;
            draft = next;
        }
    }
}

impl Run {
    /// One request and the headers of its answer; `own` is what the guest asked for, before any redirect. Adds to `carried` the secrets that
    /// the answer may repeat.
    async fn exchange(
        self: &Arc<Self>,
        draft: &Draft,
        own: &Draft,
        deadline: Deadline,
        carried: &mut Repeatable,
    ) -> Result<Stream, HttpError> {
        let origin = draft.url.origin().ascii_serialization();
        let sent = self.try_exchange(draft, own, deadline, &origin, carried).await;
        self.note_refusal(&origin, &sent);
        sent
    }

    /// Where an answer sends the request on to.
    fn redirected(&self, draft: &Draft, answer: &Stream) -> Result<Option<Draft>, HttpError> {
        let origin = draft.url.origin().ascii_serialization();
        let status = StatusCode::from_u16(answer.status()).unwrap_or_default();
        let next = redirect::next(draft, status, answer.raw_headers(), &self.secrets.snapshot(), answer.echo.as_ref());
        self.ledger(|ledger| match &next {
            Ok(Some(Next { dropped, .. })) => ledger.host(&origin).credentials_dropped += dropped,
            Err(HttpError::Denied(_)) => ledger.host(&origin).refused(Refusal::Downgrade),
            Ok(None) | Err(_) => {}
        });
        Ok(next?.map(|next| next.draft))
    }

    /// Refuses what the manifest does not allow.
    fn denied(&self, origin: &str, reason: Refusal, denied: Denied) -> HttpError {
        self.ledger(|ledger| ledger.host(origin).refused(reason));
        HttpError::Denied(denied.to_string())
    }

    async fn try_exchange(
        self: &Arc<Self>,
        draft: &Draft,
        own: &Draft,
        deadline: Deadline,
        origin: &str,
        carried: &mut Repeatable,
    ) -> Result<Stream, HttpError> {
        check_large(draft.body.as_ref(), &self.secrets.snapshot()).await?;
        let Filled { mut headers, body, secrets } = self.permit(draft, origin)?;
        // With placeholders: how long a value is, is no business of the guest, which can read the receipt or use the budget up.
        let bytes = draft_size(draft);
        let written = headers.remove(header::COOKIE);
        if let Some(cookies) = lock(&self.jar).header(&draft.url, written.as_ref()) {
            headers.insert(header::COOKIE, cookies);
        }
        self.note_carried(draft, own, &secrets.names, carried).await?;
        if body.as_ref().is_none_or(Bytes::is_empty)
            && matches!(draft.method, Method::POST | Method::PUT | Method::PATCH)
        {
            // Methods that carry a body say so even when it is empty (RFC 9110 §8.6); some servers answer 411 otherwise.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let site = self.site(&draft.url)?;
        let places = self.places(&site.exchanges, deadline).await?;
        let body = body.map_or_else(no_body, |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        let request = self.request(draft, headers, body)?;
        let limit = self.gate.timeouts.headers;
        let answered = |execute| deadline.within(limit, Phase::Headers, execute);
        let response = self.dispatch(&site, request, Sending { origin, bytes, secrets: &secrets }, answered).await?;
        let echo = self.secrets.snapshot().hidden(&carried.secrets)?.echo(&carried.charge);
        let bytes = match &echo {
            // This charges for what they show, too. A guest need not read a header to learn what it says: a cookie can be asked for later, a
            // redirect leads to the next page.
            Some(echo) => echo.shown_size(response.headers()).await,
            None => sizes(response.headers()),
        };
        self.received_head(origin, response.headers(), bytes)?;
        lock(&self.jar).store(response.headers(), &draft.url, &carried.secrets);
        let (Parts { status, mut headers, .. }, body) = response.into_parts();
        Ok(Stream {
            status,
            body: WireBody::new(body, &mut headers),
            headers,
            pace: Pace::default(),
            echo,
            waiting: Bytes::new(),
            url: draft.url.to_string(),
            origin: origin.to_owned(),
            deadline,
            run: self.clone(),
            _places: places,
        })
    }

    /// Adds the secrets that an answer may repeat: those in the request, and those in cookies of earlier answers; not what the guest wrote
    /// into the request itself.
    async fn note_carried(
        &self,
        draft: &Draft,
        own: &Draft,
        sent: &[String],
        carried: &mut Repeatable,
    ) -> Result<(), HttpError> {
        let secrets = self.secrets.snapshot();
        let (mut names, mut cookies) = (sent.to_vec(), Vec::new());
        for cookie in lock(&self.jar).matching(&draft.url) {
            let hidden = secrets.hidden(&cookie.secrets)?;
            if hidden.hide(&cookie.value) != cookie.value || hidden.hide(&cookie.name) != cookie.name {
                names.extend(cookie.secrets);
            } else {
                cookies.push(cookie);
            }
        }
        names.sort();
        names.dedup();
        if secrets.hidden(&names)?.is_guarded() {
            self.echoes.check(&names)?;
        }
        // Also what went with an earlier request: this request may hold a guess that the one before it did not, in a cookie of its path.
        names.append(&mut carried.sent);
        names.sort();
        names.dedup();
        let guest = GuestText { draft: own, carried: sent, cookies: &cookies };
        let size = guest.size(&secrets);
        carried.charge.get_or_insert_with(|| self.echoes.charge(size)).grow(size);
        let unknown = Guesses::of(guest, &secrets, &names).await?.unknown(&names);
        let was_written = |name: &String| carried.written.contains(name) || !unknown.contains(name);
        carried.written = names.iter().filter(|name| was_written(name)).cloned().collect();
        carried.secrets = unknown.into_iter().filter(|name| !carried.written.contains(name)).collect();
        carried.sent = names;
        Ok(())
    }

    /// What the manifest's rules and the vetting of addresses say, and the request with its secrets.
    pub(super) fn permit(&self, draft: &Draft, origin: &str) -> Result<Filled, HttpError> {
        let method = draft.method.as_str();
        self.rules.check(method, &draft.url).map_err(|denied| self.denied(origin, Refusal::NoRule, denied))?;
        check_literal(&draft.url, &self.gate)?;
        let filled = fill(draft, &self.secrets.snapshot(), &Permit { run: self, draft, origin })?;
        self.meter.substitutions(filled.secrets.substitutions)?;
        Ok(filled)
    }

    /// The request as it is written to the connection.
    pub(super) fn request(
        &self,
        draft: &Draft,
        mut headers: HeaderMap,
        body: Sent,
    ) -> Result<http::Request<Sent>, HttpError> {
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(header::USER_AGENT).or_insert_with(|| self.gate.user_agent.clone());
        let uri: Uri = draft.url.as_str().parse().map_err(|error| HttpError::Invalid(format!("url: {error}")))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Waits for a place among the exchanges. The own quota before the shared one: a run that waits for itself takes nobody's place.
    pub(super) async fn places(&self, own: &Arc<Semaphore>, deadline: Deadline) -> Result<Places, HttpError> {
        let take =
            async |places: &Arc<Semaphore>| deadline.total(places.clone().acquire_owned()).await?.map_err(closed);
        Ok([take(own).await?, take(&self.exchanges).await?, take(&self.gate.exchanges).await?])
    }

    /// Sends a request that was permitted, and enters it and the status of its answer. `answered` bounds the wait.
    pub(super) async fn dispatch<W>(
        &self,
        site: &Site,
        request: http::Request<Sent>,
        Sending { origin, bytes, secrets }: Sending<'_>,
        answered: impl FnOnce(Execute) -> W,
    ) -> Result<http::Response<Incoming>, HttpError>
    where
        W: Future<Output = Result<Result<http::Response<Incoming>, legacy::Error>, HttpError>>,
    {
        self.meter.up(bytes)?;
        let method = request.method().clone();
        self.ledger(|ledger| ledger.host(origin).sent(method.as_str(), bytes, secrets));
        let sent = answered(site.client.request(request)).await?;
        let response = sent.map_err(|error| translate(&error, origin)).inspect_err(|error| {
            if matches!(error, HttpError::AddressProhibited(_)) {
                self.ledger(|ledger| ledger.host(origin).not_sent(method.as_str(), bytes, secrets));
            }
        })?;
        let dialled = response.extensions().get::<HttpInfo>();
        if dialled.is_some_and(|dialled| !is_public(dialled.remote_addr().ip())) {
            self.ledger(|ledger| ledger.host(origin).private += 1);
        }
        self.answered(origin, response.status(), response.headers())?;
        Ok(response)
    }

    /// Enters the status of an answer, and refuses one that two readers could take for different answers.
    pub(super) fn answered(&self, origin: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), HttpError> {
        self.ledger(|ledger| ledger.host(origin).answered(status.as_u16()));
        check_framing(headers, origin)
    }

    /// Enters the headers of an answer, and refuses those that are too large. `bytes` is their size as the guest sees them: the difference would
    /// be the length of a secret, which the budget or the error would tell.
    pub(super) fn received_head(&self, origin: &str, headers: &HeaderMap, bytes: u64) -> Result<(), HttpError> {
        self.ledger(|ledger| ledger.host(origin).bytes_down += bytes);
        self.meter.down(bytes)?;
        let (most_bytes, most) = MAX_HEADERS;
        if bytes > u64::from(most_bytes) || headers.len() > most {
            return Err(HttpError::Protocol(format!(
                "the answer of {origin} has {} headers with {bytes} bytes, the limits are {most} and {most_bytes}",
                headers.len()
            )));
        }
        Ok(())
    }

    /// Enters that a name, or an address, led to nobody who may be contacted.
    pub(super) fn note_refusal<T>(&self, origin: &str, result: &Result<T, HttpError>) {
        if matches!(result, Err(HttpError::AddressProhibited(_))) {
            self.ledger(|ledger| ledger.host(origin).refused(Refusal::AddressProhibited));
        }
    }

    pub(super) fn site(&self, url: &Url) -> Result<Arc<Site>, HttpError> {
        let mut sites = lock(&self.sites);
        if let Some(site) = sites.get(&url.origin()) {
            return Ok(site.clone());
        }
        if sites.len() >= MAX_SITES {
            // Those in use have a second owner.
            sites.retain(|_, site| Arc::strong_count(site) > 1);
        }
        let tls = match url.scheme() {
            "https" => self.tls.get_or_init(|| self.gate.tls_for_one_run().into()),
            _ => self.gate.tls(),
        };
        let site = Arc::new(Site::new(url, &self.gate, Arc::clone(tls))?);
        sites.insert(url.origin(), site.clone());
        Ok(site)
    }

    pub(super) fn ledger(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut lock(&self.ledger));
    }

    /// The error of a hop that an answer led to: its text may repeat what the vendor was sent. What the guest itself supplied is never masked
    /// in an error, which would tell it what it guessed right.
    fn hidden(&self, error: HttpError, carried: &[String]) -> HttpError {
        match self.secrets.snapshot().hidden(carried) {
            Ok(hidden) => error.map_text(|text| Cow::Owned(hidden.hide(text))),
            Err(error) => error,
        }
    }
}

/// What the manifest says of the secrets in one request.
struct Permit<'a> {
    run: &'a Run,
    draft: &'a Draft,
    origin: &'a str,
}

impl Binding for Permit<'_> {
    fn scope(&self, secret: &str) -> Result<SecretScope, HttpError> {
        let scope = self.run.rules.check_secret(secret, self.draft.method.as_str(), &self.draft.url);
        scope.map_err(|denied| self.run.denied(self.origin, Refusal::SecretNotBound, denied))
    }

    fn misplaced(&self, message: String) -> HttpError {
        self.run.denied(self.origin, Refusal::SecretNotBound, Denied { message })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("budget", self.run.meter.budget())
            .field("secrets", &self.run.secrets)
            .finish_non_exhaustive()
    }
}

/// What these locks guard is whole between any two calls, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is sent with a request that has no body.
pub(super) fn no_body() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn closed(_: tokio::sync::AcquireError) -> HttpError {
    HttpError::Other("the gate is closed".to_owned())
}

/// Refuses an answer that two readers could take for different answers (RFC 9112 §6.3).
fn check_framing(headers: &HeaderMap, origin: &str) -> Result<(), HttpError> {
    let encoding = headers.get(header::TRANSFER_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(HttpError::Protocol(format!(
            "the answer of {origin} has a Transfer-Encoding that was not asked for"
        )));
    }
    if encoding.is_some() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(HttpError::Protocol(format!(
            "the answer of {origin} gives its length in two ways, Content-Length and Transfer-Encoding"
        )));
    }
    Ok(())
}

/// Bytes of headers as HTTP/1.1 writes them.
pub(super) fn sizes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| line_size(name.as_str().len(), value.len())).sum()
}

/// Bytes of one header with a name and a value of these sizes.
pub(super) const fn line_size(name: usize, value: usize) -> u64 {
    (name + value + 4) as u64
}

/// Bytes of a request as the guest wrote it.
pub(super) fn draft_size(draft: &Draft) -> u64 {
    draft.body.as_ref().map_or(0, |body| body.len() as u64) + head_size(draft, &draft.headers)
}

pub(super) fn head_size(draft: &Draft, headers: &HeaderMap) -> u64 {
    (draft.method.as_str().len() + draft.url.as_str().len() + 12) as u64 + sizes(headers)
}
