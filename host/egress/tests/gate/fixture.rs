//! Sessions for tests: a test configures the resolution of names, and loopback is allowed by default.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use konnector_egress::{
    Gate, GateOptions, HostRecord, HttpBudget, HttpError, Request, Resolver, Response, SecretTable, Session,
    SessionOptions, Timeouts,
};
use konnector_manifest::{HttpRules, Permissions};
use serde_json::{Map, Value, json};

/// Names that end in `.example` resolve to 127.0.0.1 by default; no other name exists.
#[derive(Default)]
pub struct FakeResolver {
    overrides: Mutex<HashMap<String, Vec<IpAddr>>>,
}

#[async_trait]
impl Resolver for FakeResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(addresses) = self.overrides.lock().unwrap().get(host) {
            return Ok(addresses.clone());
        }
        if host.ends_with(".example") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }
}

pub struct Fixture {
    pub options: GateOptions,
    pub budget: HttpBudget,
    pub cookies: Option<Vec<u8>>,
    pub secrets: Arc<SecretTable>,
    account: Vec<(String, String)>,
    resolver: Arc<FakeResolver>,
    rules: Vec<Value>,
}

impl Fixture {
    pub fn new() -> Self {
        let names = Arc::new(FakeResolver::default());
        let options = GateOptions {
            allowed_private: vec!["127.0.0.0/8".parse().unwrap()],
            resolver: names.clone(),
            ..GateOptions::default()
        };
        Self {
            options,
            budget: HttpBudget::default(),
            cookies: None,
            secrets: Arc::default(),
            account: Vec::new(),
            resolver: names,
            rules: Vec::new(),
        }
    }

    /// Adds a rule for all methods.
    pub fn allow(self, host: impl Into<String>) -> Self {
        self.allow_methods(&[], host)
    }

    pub fn allow_methods(mut self, methods: &[&str], host: impl Into<String>) -> Self {
        self.rules.push(json!({ "type": "http", "verbs": methods, "values": [host.into()] }));
        self
    }

    /// Adds a rule that names secrets.
    pub fn allow_secrets(self, secrets: &[&str], host: impl Into<String>) -> Self {
        self.allow_secret_bindings(json!(secrets), host)
    }

    /// Adds a rule that binds secrets.
    pub fn allow_secret_bindings(mut self, secrets: Value, host: impl Into<String>) -> Self {
        self.rules.push(json!({ "type": "http", "values": [host.into()], "secrets": secrets }));
        self
    }

    pub fn resolve_to(self, host: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.resolver.overrides.lock().unwrap().insert(host.to_owned(), addresses);
        self
    }

    /// Adds a secret of the account, which a guest does not know. The placeholders of earlier secrets change.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.account.push((name.to_owned(), value.to_owned()));
        self.secrets = Arc::new(SecretTable::new(self.account.clone()).unwrap());
        self
    }

    pub fn budget(mut self, change: impl FnOnce(&mut HttpBudget)) -> Self {
        change(&mut self.budget);
        self
    }

    pub fn timeouts(mut self, change: impl FnOnce(&mut Timeouts)) -> Self {
        change(&mut self.options.timeouts);
        self
    }

    pub fn gate(&self) -> Gate {
        Gate::new(self.options.clone()).unwrap()
    }

    pub fn session_of(&self, gate: &Gate) -> Session {
        gate.session(SessionOptions {
            rules: self.http_rules(),
            cookies: self.cookies.clone(),
            budget: self.budget,
            secrets: self.secrets.clone(),
            account: Some("me.example/1".to_owned()),
        })
    }

    pub fn session(&self) -> Session {
        self.session_of(&self.gate())
    }

    fn http_rules(&self) -> HttpRules {
        let mut manifest = Map::new();
        for (number, rule) in self.rules.iter().enumerate() {
            manifest.insert(format!("rule{number}"), rule.clone());
        }
        Permissions::from_manifest(&manifest).unwrap().http_rules(&Map::new()).unwrap()
    }
}

pub async fn get(session: &Session, url: String) -> Result<Response, HttpError> {
    session.send(Request::get(url)).await
}

pub fn text(response: &Response) -> &str {
    match &response.body {
        konnector_egress::DecodedBody::Text(text) => text,
        konnector_egress::DecodedBody::Bytes(bytes) => std::str::from_utf8(bytes).unwrap(),
    }
}

pub fn record(session: &Session, url: &str) -> HostRecord {
    let origin = url::Url::parse(url).unwrap().origin().ascii_serialization();
    session.network_usage().into_iter().find(|record| record.host == origin).unwrap_or_default()
}

pub fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
