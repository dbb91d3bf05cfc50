//! In-memory capabilities, for tests of the sandbox alone. Some doctypes misbehave on purpose; see [`documents`].

pub mod account;
pub mod documents;
pub mod files;
pub mod tree;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use konnector_egress::{Gate, GateOptions, SecretTable, SessionOptions};
use konnector_manifest::Permissions;
use konnector_sandbox::capability::{
    Capabilities, CapabilityError, InternalApi, Log, LogLine, Progress, Question, Secrets,
};
use konnector_sandbox::{Limits, RunCause, RunInput};
use serde_json::{Map, Value, json};

/// A person's data for one run, and the run's changes to it.
#[derive(Default)]
pub struct FakeEnvironment {
    /// The account.
    pub account: Arc<account::FakeAccount>,
    /// The documents.
    pub documents: Arc<documents::FakeDocuments>,
    /// The files.
    pub files: Arc<files::FakeFiles>,
    /// The same files as a directory; a konnector without a rule on files has none.
    pub tree: Option<Arc<tree::FakeTree>>,
    /// The watchers of the run.
    pub progress: Arc<FakeProgress>,
    /// Secrets that the run stored.
    pub secrets: Arc<FakeSecrets>,
    /// The limits of the run.
    pub limits: Limits,
    /// Origins that the manifest names, such as `http://127.0.0.1:8081`.
    pub hosts: Vec<String>,
    /// The operator's network settings for a separate gate; without them, loopback is allowed.
    pub gate: Option<GateOptions>,
    /// Our own API.
    pub api: Option<Arc<dyn InternalApi>>,
}

impl FakeEnvironment {
    /// An environment with other limits.
    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut environment = Self::default();
        change(&mut environment.limits);
        environment
    }

    /// The capabilities of a run, with a separate gate.
    pub fn capabilities(&self) -> Capabilities {
        let options = self.gate.clone().unwrap_or_else(|| GateOptions {
            allowed_private: ["127.0.0.1".parse().expect("an address rule")].into(),
            ..GateOptions::default()
        });
        self.capabilities_through(&Gate::new(options).expect("a gate"))
    }

    /// The capabilities of a run, with a gate that it shares with others.
    pub fn capabilities_through(&self, gate: &Gate) -> Capabilities {
        let secrets = Arc::new(SecretTable::new(self.secrets.values()).expect("random numbers"));
        let rules: Map<String, Value> = match json!({ "vendor": { "type": "http", "values": self.hosts } }) {
            Value::Object(rules) if !self.hosts.is_empty() => rules,
            _ => Map::new(),
        };
        let rules =
            Permissions::from_manifest(&rules).and_then(|rules| rules.http_rules(&Map::new())).expect("correct rules");
        let session =
            gate.session(SessionOptions { rules, cookies: None, budget: self.limits.http, secrets, account: None });
        Capabilities {
            account: self.account.clone(),
            secrets: self.secrets.clone(),
            documents: self.documents.clone(),
            files: self.files.clone(),
            tree: self.tree.clone().map(|tree| tree as _),
            progress: self.progress.clone(),
            log: self.progress.clone(),
            http: Arc::new(session),
            api: self.api.clone(),
            limits: self.limits.clone(),
        }
    }

    /// The log so far, one line per entry.
    pub fn log(&self) -> String {
        let line = |line: &LogLine| {
            let fields: String = line.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{:?}: {}{fields}", line.level, line.message)
        };
        self.progress.lines.lock().unwrap().iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A job with these parameters.
pub fn job(parameters: Value) -> RunInput {
    let Value::Object(parameters) = parameters else { panic!("parameters are an object") };
    RunInput {
        id: "job-1".to_owned(),
        attempt: 1,
        cause: RunCause::Manual,
        last_success: Some(1_700_000_000_000),
        parameters,
        payload: None,
        locale: "fr".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
        message: json!({ "konnector": "tests" }),
        trigger: None,
        language: "rust".to_owned(),
    }
}

/// Collects log lines and progress, and responds to questions.
#[derive(Default)]
pub struct FakeProgress {
    /// Lines of the log.
    pub lines: Mutex<Vec<LogLine>>,
    /// Everything else that a watcher sees.
    pub events: Mutex<Vec<String>>,
    /// The response to a question, and its delay; without it nobody responds.
    pub code: Mutex<Option<(Duration, String)>>,
}

impl Log for FakeProgress {
    fn write_line(&self, line: LogLine) {
        self.lines.lock().unwrap().push(line);
    }
}

#[async_trait]
impl Progress for FakeProgress {
    fn report(&self, done: u64, total: Option<u64>, label: &str) {
        self.events.lock().unwrap().push(format!("{done} of {total:?}: {label}"));
    }

    fn login_succeeded(&self) {
        self.events.lock().unwrap().push("login succeeded".to_owned());
    }

    fn message(&self, kind: &str, message: &str) {
        self.events.lock().unwrap().push(format!("{kind}: {message}"));
    }

    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, CapabilityError> {
        self.events.lock().unwrap().push(format!("{question:?}"));
        let code = self.code.lock().unwrap().clone();
        let (delay, code) = code.ok_or(CapabilityError::Unattended)?;
        tokio::time::timeout(within, tokio::time::sleep(delay)).await.map_err(|_| CapabilityError::Unattended)?;
        Ok(code)
    }

    async fn request_approval(&self, hint: &str) -> Result<(), CapabilityError> {
        self.events.lock().unwrap().push(format!("approval: {hint}"));
        Ok(())
    }
}

/// Secrets: the password is `hunter22`.
#[derive(Default)]
pub struct FakeSecrets(pub Mutex<Vec<(String, String)>>);

#[async_trait]
impl Secrets for FakeSecrets {
    fn values(&self) -> Vec<(String, String)> {
        let mut all = vec![("password".to_owned(), "hunter22".to_owned())];
        all.extend(self.0.lock().unwrap().clone());
        all
    }

    fn check_put(&self, name: &str) -> Result<(), CapabilityError> {
        // Simulates a form field that does not rotate.
        if name == "typed" { Err(CapabilityError::Denied("the user types it".to_owned())) } else { Ok(()) }
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), CapabilityError> {
        self.0.lock().unwrap().push((name.to_owned(), value.to_owned()));
        Ok(())
    }
}
