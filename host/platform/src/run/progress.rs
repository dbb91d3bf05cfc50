//! Who watches a run: progress, a successful login, and questions to the user.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use konnector_sandbox::capability::{Error, Medium, Object, Progress, Question};
use serde_json::{Value, json};

use super::{Scope, told};
use crate::doctype::{ACCOUNTS, JOB_EVENTS};
use crate::realtime::{Event, Happened};

/// The interface `progress`.
pub struct RunProgress(pub Arc<Scope>);

impl RunProgress {
    fn publish(&self, event: Value) {
        if let Value::Object(doc) = event {
            self.0.platform.bus.publish(Event {
                instance: self.0.instance.id.clone(),
                happened: Happened::Created,
                doctype: JOB_EVENTS.clone(),
                id: self.0.job.id.clone(),
                doc,
            });
        }
    }

    /// The account whose user can answer: only a run that a person started is watched.
    fn attended(&self) -> Result<&str, Error> {
        let account = self.0.account.as_ref().filter(|_| self.0.job.manual_execution);
        account.map(|account| account.id.as_str()).ok_or(Error::Unattended)
    }

    async fn set_state(&self, account: &str, state: Option<String>) -> Result<(), Error> {
        let scope = &self.0;
        let change = |body: &mut Object| {
            body.insert("state".to_owned(), json!(state));
            body.insert("twoFACode".to_owned(), Value::Null);
            Ok(())
        };
        scope.platform.change_account(&scope.instance, account, change).await.map_err(told)
    }

    /// Waits until the account holds a code.
    async fn code(&self, account: &str) -> Result<String, Error> {
        let scope = &self.0;
        let mut events = scope.platform.bus.subscribe();
        loop {
            let found = scope.platform.account(&scope.instance, account).map_err(told)?;
            if let Some(code) = found.body.get("twoFACode").and_then(Value::as_str).filter(|code| !code.is_empty()) {
                return Ok(code.to_owned());
            }
            loop {
                match events.recv().await {
                    Ok(event) if event.doctype != *ACCOUNTS || event.id != account => {}
                    // An event of this account, or some were missed: look again.
                    _ => break,
                }
            }
        }
    }
}

#[async_trait]
impl Progress for RunProgress {
    fn report(&self, done: u64, total: Option<u64>, label: &str) {
        self.publish(json!({ "type": "progress", "done": done, "total": total, "label": label }));
    }

    fn login_succeeded(&self) {
        self.publish(json!({ "type": "login_success" }));
    }

    fn message(&self, kind: &str, message: &str) {
        self.publish(json!({ "type": kind, "message": message }));
    }

    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, Error> {
        let account = self.attended()?;
        let medium = match question.medium {
            Medium::Sms => Some("SMS"),
            Medium::Email => Some("EMAIL"),
            Medium::App => Some("APP_CODE"),
            // Cozy has no word for these, and clients ask for a code all the same.
            Medium::PhoneCall | Medium::Unspecified => None,
        };
        // The end of the run takes back what a run that is cancelled meanwhile cannot.
        self.0.awaits_user.store(true, Ordering::Relaxed);
        self.set_state(account, Some(needed(question.again, medium))).await?;
        self.publish(
            json!({ "type": "code_needed", "medium": medium, "hint": question.hint, "again": question.again }),
        );
        let answer = tokio::time::timeout(within, self.code(account)).await;
        self.set_state(account, None).await?;
        self.0.awaits_user.store(false, Ordering::Relaxed);
        answer.unwrap_or(Err(Error::Unattended))
    }

    async fn request_approval(&self, hint: &str) -> Result<(), Error> {
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
