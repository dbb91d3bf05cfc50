//! Payload of a job: the document event or webhook body that caused it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Data for a job in addition to its message. It is erased when the job ends (Cozy API, job document, §5.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerPayload {
    /// The document event, in base64; null for other jobs, because Cozy's clients expect the field.
    #[serde(default)]
    event: Option<String>,
    /// The body of the webhook call, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "payload")]
    webhook_body: Option<String>,
    /// Whether several events were merged into this job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    debounced: bool,
}

impl TriggerPayload {
    /// Creates the payload of a document event.
    #[must_use]
    pub fn from_event(event: &Value) -> Self {
        Self { event: Some(STANDARD.encode(event.to_string())), ..Self::default() }
    }

    /// Creates the payload of a webhook call with this body.
    #[must_use]
    pub fn from_webhook_body(body: &[u8]) -> Self {
        Self { webhook_body: Some(STANDARD.encode(body)), ..Self::default() }
    }

    /// Marks it as the result of several merged events.
    #[must_use]
    pub fn into_debounced(self) -> Self {
        Self { debounced: true, ..self }
    }

    /// Returns whether it carries data that no other job has.
    pub(super) const fn has_content(&self) -> bool {
        self.event.is_some() || self.webhook_body.is_some()
    }

    /// Returns the body of the webhook call.
    #[must_use]
    pub fn webhook_body(&self) -> Option<Vec<u8>> {
        self.webhook_body.as_ref().and_then(|payload| STANDARD.decode(payload).ok())
    }

    /// Returns the body of the webhook call, if it is JSON.
    #[must_use]
    pub fn webhook_json(&self) -> Option<Value> {
        self.webhook_body().and_then(|body| serde_json::from_slice(&body).ok())
    }

    /// Erases the event and the body; the debounce mark stays.
    pub(super) fn clear(&mut self) {
        (self.event, self.webhook_body) = (None, None);
    }
}
