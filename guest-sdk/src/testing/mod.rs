//! A host in memory, so that a konnector is tested with `cargo test`, without a server and without a component.
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
//! The host belongs to the thread that made it, as every test has a thread of its own.

pub(crate) mod imports;
mod response;
mod state;

pub use response::MockResponse;
pub use state::{SentRequest, StoredFile};

use std::time::Duration;

use serde_json::Value;

use crate::bindings::exports::konnector::host::run::{Cause, Job};
use crate::{Context, Report, Result};

/// The host of one test. Making one forgets what an earlier one of the thread held.
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
    /// A host with an account that has no fields yet, no answers, and ten minutes left.
    pub fn new() -> Self {
        state::with_state(|state| *state = state::MockState::default());
        Self { parameters: Value::Object(serde_json::Map::new()) }
    }

    /// Gives the account a field.
    pub fn field(self, name: &str, value: impl Into<Value>) -> Self {
        state::with_state(|state| state.fields.insert(name.to_owned(), value.into()));
        self
    }

    /// Gives the account a secret field; the konnector sees [`placeholder`] in its place.
    pub fn secret(self, name: &str) -> Self {
        state::with_state(|state| state.secrets.push(name.to_owned()));
        self
    }

    /// The manifest's `parameters`.
    pub fn parameters(mut self, parameters: Value) -> Self {
        self.parameters = parameters;
        self
    }

    /// What an earlier run saved as the account's state.
    pub fn account_state(self, value: &Value) -> Self {
        state::with_state(|state| state.account_state = Some(value.to_string()));
        self
    }

    /// How the vendor answers a request for this address, whatever its method. Several answers for one address come in this order, and the
    /// last one again and again. An address without any answers 404.
    pub fn respond(self, url: &str, answer: impl Into<MockResponse>) -> Self {
        let address = url::Url::parse(url).map_or_else(|_| url.to_owned(), String::from);
        state::with_state(|state| state.responses.entry(address).or_default().push_back(answer.into()));
        self
    }

    /// Gives the vendor's site a cookie.
    pub fn cookie(self, name: &str, value: &str) -> Self {
        state::with_state(|state| state.cookies.insert(name.to_owned(), value.to_owned()));
        self
    }

    /// How long the run may still take.
    pub fn remaining_time(self, time: Duration) -> Self {
        state::with_state(|state| state.remaining_time = time);
        self
    }

    /// What the user answers when the konnector asks for a one-time code; without it nobody is there.
    pub fn one_time_code(self, code: &str) -> Self {
        state::with_state(|state| state.code = Some(code.to_owned()));
        self
    }

    /// Runs a konnector once, as the host would.
    ///
    /// # Errors
    /// The konnector's own.
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

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<SentRequest> {
        state::with_state(|state| state.requests.clone())
    }

    /// The saved documents of a type, in the order of their keys.
    #[must_use]
    pub fn documents(&self, doctype: &str) -> Vec<Value> {
        let is_wanted = |kind: &str| kind == doctype;
        state::with_state(|state| {
            let wanted = state.documents.iter().filter(|((kind, _), _)| is_wanted(kind));
            wanted.map(|(_, body)| Value::Object(body.clone())).collect()
        })
    }

    /// The stored files, in the order of their creation.
    #[must_use]
    pub fn files(&self) -> Vec<StoredFile> {
        state::with_state(|state| state.files.clone())
    }

    /// The state that the konnector saved last.
    #[must_use]
    pub fn state(&self) -> Option<Value> {
        state::with_state(|state| state.account_state.as_deref().and_then(|text| serde_json::from_str(text).ok()))
    }

    /// The log lines, level first: `info: 3 bills found count=3`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        state::with_state(|state| state.log.clone())
    }
}

/// What stands for a secret in requests under test.
#[must_use]
pub fn placeholder(secret: &str) -> String {
    format!("secret-{secret}-placeholder")
}
