//! An in-memory host for testing a konnector with `cargo test`, without a server and without a component.
//!
//! ```
//! use konnector_sdk::prelude::*;
//! use konnector_sdk::testing::MockHost;
//!
//! fn run(context: Context) -> Result<Report> {
//!     let client = Client::new("https://shop.example")?;
//!     let name = client.get("/hello").query("login", context.account()?.field("login")?).text()?;
//!     save_documents("io.cozy.contacts", [Item::new("me", json!({ "fullname": name }))?]).map(Report::from)
//! }
//!
//! let host = MockHost::new().field("login", "claude").respond("https://shop.example/hello?login=claude", "Claude");
//! host.run(run)?;
//! assert_eq!(host.documents("io.cozy.contacts"), [json!({ "fullname": "Claude" })]);
//! # Ok::<(), konnector_sdk::Error>(())
//! ```
//!
//! The host belongs to the thread that created it, because every test runs in its own thread.

pub(crate) mod imports;
mod response;
mod state;

pub use response::MockResponse;
pub use state::{SentRequest, StoredFile};

use std::time::Duration;

use serde_json::Value;

use crate::bindings::exports::konnector::host::run::{Cause, Job};
use crate::{Context, Report, Result};

/// The host of one test. Creating one discards the state of an earlier host of the thread.
#[derive(Debug)]
#[must_use]
pub struct MockHost {
    parameters: Value,
}

impl Default for MockHost {
    fn default() -> Self {
        Self::new()
    }
}

impl MockHost {
    /// Creates a host whose account has no fields. It has no responses, and ten minutes of time remain.
    pub fn new() -> Self {
        state::with_state(|state| *state = state::MockState::default());
        Self { parameters: Value::Object(serde_json::Map::new()) }
    }

    /// Adds a field to the account.
    pub fn field(self, name: &str, value: impl Into<Value>) -> Self {
        state::with_state(|state| state.fields.insert(name.to_owned(), value.into()));
        self
    }

    /// Adds a secret field to the account; the konnector sees [`placeholder`] in its place.
    pub fn secret(self, name: &str) -> Self {
        state::with_state(|state| state.secrets.push(name.to_owned()));
        self
    }

    /// Sets the manifest's `parameters`.
    pub fn parameters(mut self, parameters: Value) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets the account state that an earlier run saved.
    pub fn account_state(self, value: &Value) -> Self {
        state::with_state(|state| state.account_state = Some(value.to_string()));
        self
    }

    /// Sets the vendor's response to a request for this URL, with any method. Several responses for one URL are
    /// returned in this order, then the last one repeatedly. A URL without responses returns 404.
    pub fn respond(self, url: &str, response: impl Into<MockResponse>) -> Self {
        let address = url::Url::parse(url).map_or_else(|_| url.to_owned(), String::from);
        state::with_state(|state| state.responses.entry(address).or_default().push_back(response.into()));
        self
    }

    /// Sets a cookie of the vendor's site.
    pub fn cookie(self, name: &str, value: &str) -> Self {
        state::with_state(|state| state.cookies.insert(name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the remaining time of the run.
    pub fn remaining_time(self, time: Duration) -> Self {
        state::with_state(|state| state.remaining_time = time);
        self
    }

    /// Sets the one-time code that the user enters; without it the request for a code fails.
    pub fn one_time_code(self, code: &str) -> Self {
        state::with_state(|state| state.code = Some(code.to_owned()));
        self
    }

    /// Runs a konnector once, as the host would.
    ///
    /// # Errors
    ///
    /// If the konnector fails.
    pub fn run<T: Into<Report>>(&self, konnector: impl FnOnce(Context) -> Result<T>) -> Result<Report> {
        let job = Job {
            id: "0192f7a0c0de7000800000000000cafe".to_owned(),
            attempt: 1,
            cause: Cause::Manual,
            last_success: None,
            parameters: self.parameters.to_string(),
            payload: None,
            locale: "en".to_owned(),
            time_zone: "Europe/Paris".to_owned(),
        };
        konnector(Context::new(job)).map(Into::into)
    }

    /// Returns the requests sent so far.
    #[must_use]
    pub fn requests(&self) -> Vec<SentRequest> {
        state::with_state(|state| state.requests.clone())
    }

    /// Returns the saved documents of a doctype, sorted by their keys.
    #[must_use]
    pub fn documents(&self, doctype: &str) -> Vec<Value> {
        let is_wanted = |kind: &str| kind == doctype;
        state::with_state(|state| {
            let selected = state.documents.iter().filter(|((kind, _), _)| is_wanted(kind));
            selected.map(|(_, body)| Value::Object(body.clone())).collect()
        })
    }

    /// Returns the stored files, in the order of their creation.
    #[must_use]
    pub fn files(&self) -> Vec<StoredFile> {
        state::with_state(|state| state.files.clone())
    }

    /// Returns the state that the konnector saved last.
    #[must_use]
    pub fn state(&self) -> Option<Value> {
        state::with_state(|state| state.account_state.as_deref().and_then(|text| serde_json::from_str(text).ok()))
    }

    /// Returns the log lines, level first: `info: 3 bills found count=3`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        state::with_state(|state| state.log.clone())
    }
}

/// Returns the placeholder of a secret in requests under test.
#[must_use]
pub fn placeholder(secret: &str) -> String {
    format!("secret-{secret}-placeholder")
}
