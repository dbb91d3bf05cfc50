//! Who watches a run: progress, a successful login, and questions to the user.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use konnector_sandbox::capability::{CapabilityError, CodeChannel, Object, Progress, Question};
use serde_json::{Value, json};

use super::throttle::Publisher;
use super::{Scope, told};
use crate::account::Grant;
use crate::doctype::{ACCOUNTS, JOBS};

/// The interface `progress`.
pub struct RunProgress(pub Arc<Scope>, Arc<Publisher>);

impl RunProgress {
    pub fn new(scope: Arc<Scope>) -> Self {
        let job = scope.instance.doc(&JOBS, scope.job.id.as_str());
        let publisher = Publisher::new(scope.platform.clone(), job);
        Self(scope, publisher)
    }

    /// What a watcher must not miss; it is rare, because the user is asked.
    fn publish(&self, event: Value) {
        if let Value::Object(doc) = event {
            self.1.important(doc);
        }
    }

    fn say(&self, kind: &str, message: Option<&str>) {
        let mut doc = Object::new();
        doc.insert("type".to_owned(), json!(kind));
        doc.extend(message.map(|message| ("message".to_owned(), json!(message))));
        self.1.message(doc);
    }

    /// The account whose user can answer: only a run that a person started is watched.
    fn attended(&self) -> Result<&Grant, CapabilityError> {
        self.0.account.as_ref().filter(|_| self.0.job.manual_execution).ok_or(CapabilityError::Unattended)
    }

    async fn set_state(&self, account: &Grant, state: Option<String>) -> Result<(), CapabilityError> {
        let scope = &self.0;
        let change = |body: &mut Object| {
            body.insert("state".to_owned(), json!(state));
            body.insert("twoFACode".to_owned(), Value::Null);
            Ok(())
        };
        scope.platform.change_granted(&scope.instance, account, change).await.map_err(told)
    }

    /// Waits until the account holds a code.
    async fn code(&self, account: &Grant) -> Result<String, CapabilityError> {
        let scope = &self.0;
        let mut events = scope.platform.bus.subscribe(&scope.instance.id);
        loop {
            let found = scope.platform.granted_now(&scope.instance, account).map_err(told)?;
            if let Some(code) = found.body.get("twoFACode").and_then(Value::as_str).filter(|code| !code.is_empty()) {
                return Ok(code.to_owned());
            }
            loop {
                match events.recv().await {
                    Ok(event) if event.doctype != *ACCOUNTS || event.id != account.id => {}
                    // An event of this account, or some were missed: look again.
                    _ => break,
                }
            }
        }
    }
}

impl Drop for RunProgress {
    fn drop(&mut self) {
        self.1.flush();
    }
}

#[async_trait]
impl Progress for RunProgress {
    fn report(&self, done: u64, total: Option<u64>, label: &str) {
        let event = json!({ "type": "progress", "done": done, "total": total, "label": label });
        if let Value::Object(doc) = event {
            self.1.progress(doc);
        }
    }

    fn login_succeeded(&self) {
        self.say("login_success", None);
    }

    fn message(&self, kind: &str, message: &str) {
        self.say(kind, Some(message));
    }

    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, CapabilityError> {
        let account = self.attended()?;
        let medium = match question.channel {
            CodeChannel::Sms => Some("SMS"),
            CodeChannel::Email => Some("EMAIL"),
            CodeChannel::App => Some("APP_CODE"),
            // Cozy has no word for these, and clients ask for a code all the same.
            CodeChannel::PhoneCall | CodeChannel::Unspecified => None,
        };
        // The end of the run takes back what a run that is cancelled meanwhile cannot.
        self.0.awaits_user.store(true, Ordering::Relaxed);
        self.set_state(account, Some(needed(question.is_retry, medium))).await?;
        self.publish(
            json!({ "type": "code_needed", "medium": medium, "hint": question.hint, "again": question.is_retry }),
        );
        let answer = tokio::time::timeout(within, self.code(account)).await;
        self.set_state(account, None).await?;
        self.0.awaits_user.store(false, Ordering::Relaxed);
        answer.unwrap_or(Err(CapabilityError::Unattended))
    }

    async fn request_approval(&self, hint: &str) -> Result<(), CapabilityError> {
        let account = self.attended()?;
        self.0.awaits_user.store(true, Ordering::Relaxed);
        self.set_state(account, Some(needed(false, Some("APP")))).await?;
        self.publish(json!({ "type": "approval_needed", "hint": hint }));
        Ok(())
    }
}

/// The account's state while a second factor is waited for (Cozy API, konnector run-time contract).
fn needed(again: bool, medium: Option<&str>) -> String {
    let state = if again { "TWOFA_NEEDED_RETRY" } else { "TWOFA_NEEDED" };
    medium.map_or_else(|| state.to_owned(), |medium| format!("{state}.{medium}"))
}
