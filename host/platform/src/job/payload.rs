//! What happened that a job is for: an event of a document, or the body that a webhook was called with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a job is given besides its message. It is erased when the job ends (Cozy API, job document, §5.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerPayload {
    /// The event of a document, in base64; null for other jobs, because Cozy's clients expect the member.
    #[serde(default)]
    event: Option<String>,
    /// What a webhook was called with, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "payload")]
    webhook_body: Option<String>,
    /// Whether several occasions were made into this one job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    debounced: bool,
}

impl TriggerPayload {
    /// An event of a document.
    #[must_use]
    pub fn from_event(event: &Value) -> Self {
        Self { event: Some(STANDARD.encode(event.to_string())), ..Self::default() }
    }

    /// A webhook that was called with this body.
    #[must_use]
    pub fn from_webhook_body(body: &[u8]) -> Self {
        Self { webhook_body: Some(STANDARD.encode(body)), ..Self::default() }
    }

    /// The same, as what became of several.
    #[must_use]
    pub fn into_debounced(self) -> Self {
        Self { debounced: true, ..self }
    }

    /// Whether it brings something that no other job has.
    pub(super) const fn has_content(&self) -> bool {
        self.event.is_some() || self.webhook_body.is_some()
    }

    /// The body of the webhook.
    #[must_use]
    pub fn webhook_body(&self) -> Option<Vec<u8>> {
        self.webhook_body.as_ref().and_then(|payload| STANDARD.decode(payload).ok())
    }

    /// The body of the webhook, where it is JSON.
    #[must_use]
    pub fn webhook_json(&self) -> Option<Value> {
        self.webhook_body().and_then(|body| serde_json::from_slice(&body).ok())
    }

    /// Forgets what happened; that several occasions were one stays known.
    pub(super) fn clear(&mut self) {
        (self.event, self.webhook_body) = (None, None);
    }
}
