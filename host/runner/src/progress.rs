//! Communication with a run's watchers: progress, a successful login, and questions to the user.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use konnector_sandbox::capability::{CapabilityError, CodeChannel, Object, Progress, Question};
use serde_json::{Value, json};

use super::throttle::ThrottledPublisher;
use super::{RunContext, to_capability_error};
use konnector_accounts::AccountAccess;
use konnector_documents::doctype::{ACCOUNTS, JOBS};

/// Implementation of the interface `progress`.
pub struct RunProgress(pub Arc<RunContext>, Arc<ThrottledPublisher>);

impl RunProgress {
    pub fn new(scope: Arc<RunContext>) -> Self {
        let job = scope.instance.doc(&JOBS, scope.job.id.as_str());
        let publisher = ThrottledPublisher::new(scope.domain.clone(), job);
        Self(scope, publisher)
    }

    /// Publishes an event that watchers must not miss; such events are rare, because they ask the user.
    fn publish(&self, event: Value) {
        if let Value::Object(doc) = event {
            self.1.publish_now(doc);
        }
    }

    fn publish_message(&self, kind: &str, message: Option<&str>) {
        let mut doc = Object::new();
        doc.insert("type".to_owned(), json!(kind));
        doc.extend(message.map(|message| ("message".to_owned(), json!(message))));
        self.1.publish_message(doc);
    }

    /// Returns the account whose user can respond. Only runs started by a person are watched.
    fn attending_account(&self) -> Result<&AccountAccess, CapabilityError> {
        self.0.account.as_ref().filter(|_| self.0.job.manual_execution).ok_or(CapabilityError::Unattended)
    }

    async fn set_state(&self, account: &AccountAccess, state: Option<String>) -> Result<(), CapabilityError> {
        let scope = &self.0;
        let change = |body: &mut Object| {
            body.insert("state".to_owned(), json!(state));
            body.insert("twoFACode".to_owned(), Value::Null);
            Ok(())
        };
        scope.domain.accounts().update_authorized(&scope.instance, account, change).await.map_err(to_capability_error)
    }

    /// Waits until the account holds a code.
    async fn wait_for_code(&self, account: &AccountAccess) -> Result<String, CapabilityError> {
        let scope = &self.0;
        let mut events = scope.domain.core().bus().subscribe(&scope.instance.id);
        loop {
            let found = scope.domain.accounts().reload_access(&scope.instance, account).map_err(to_capability_error)?;
            if let Some(code) = found.body.get("twoFACode").and_then(Value::as_str).filter(|code| !code.is_empty()) {
                return Ok(code.to_owned());
            }
            loop {
                match events.recv().await {
                    Ok(event) if event.doctype != *ACCOUNTS || event.id != account.id => {}
                    // The account changed, or events were missed, so the account is read again.
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
            self.1.publish_progress(doc);
        }
    }

    fn login_succeeded(&self) {
        self.publish_message("login_success", None);
    }

    fn message(&self, kind: &str, message: &str) {
        self.publish_message(kind, Some(message));
    }

    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, CapabilityError> {
        let account = self.attending_account()?;
        let medium = match question.channel {
            CodeChannel::Sms => Some("SMS"),
            CodeChannel::Email => Some("EMAIL"),
            CodeChannel::App => Some("APP_CODE"),
            // Cozy has no name for these channels; clients ask for a code anyway.
            CodeChannel::PhoneCall | CodeChannel::Unspecified => None,
        };
        // A cancelled run cannot reset the state itself; the end of the run does it.
        self.0.awaits_user.store(true, Ordering::Relaxed);
        self.set_state(account, Some(two_factor_state(question.is_retry, medium))).await?;
        self.publish(
            json!({ "type": "code_needed", "medium": medium, "hint": question.hint, "again": question.is_retry }),
        );
        let answer = tokio::time::timeout(within, self.wait_for_code(account)).await;
        self.set_state(account, None).await?;
        self.0.awaits_user.store(false, Ordering::Relaxed);
        answer.unwrap_or(Err(CapabilityError::Unattended))
    }

    async fn request_approval(&self, hint: &str) -> Result<(), CapabilityError> {
        let account = self.attending_account()?;
        self.0.awaits_user.store(true, Ordering::Relaxed);
        self.set_state(account, Some(two_factor_state(false, Some("APP")))).await?;
        self.publish(json!({ "type": "approval_needed", "hint": hint }));
        Ok(())
    }
}

/// Returns the account's state while it waits for a second factor (Cozy API, konnector run-time contract).
fn two_factor_state(again: bool, medium: Option<&str>) -> String {
    let state = if again { "TWOFA_NEEDED_RETRY" } else { "TWOFA_NEEDED" };
    medium.map_or_else(|| state.to_owned(), |medium| format!("{state}.{medium}"))
}
