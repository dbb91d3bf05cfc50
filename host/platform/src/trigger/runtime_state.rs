//! What a trigger remembers besides what its maker asked for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::job::TriggerPayload;

/// Bytes of the bodies that may wait together for the end of a debounce.
const MAX_DEBOUNCE_BYTES: usize = 1 << 20;

/// Why a schedule waits: a refused password is tried once, not every night.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Error code of the run.
    pub code: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl Pause {
    /// Code of a trigger whose document makes no sense, so that it can make no job: until somebody changes it.
    pub const UNUSABLE: &str = "UNKNOWN_ERROR.UNUSABLE_TRIGGER";
}

/// What became of the occasions of a trigger: its due instants, the events and calls that were for it. Each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerCounters {
    /// It got a job.
    pub fired: u64,
    /// A job that another one got stood for it too.
    pub coalesced: u64,
    /// It passed while the server was down, or its schedule was replaced before it could fire.
    pub missed: u64,
    /// Earlier jobs of the trigger had not ended.
    pub overlapped: u64,
    /// The schedule waited for the user.
    pub paused: u64,
}

/// Occasions that become one job when the debounce is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DebounceBuffer {
    /// How many.
    pub count: u64,
    /// The bodies that webhooks were called with, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    payloads: Vec<Value>,
    /// Their size together, in bytes.
    #[serde(default)]
    size: usize,
}

impl DebounceBuffer {
    /// Adds an occasion; answers false, and changes nothing, where there is no more room.
    pub fn push(&mut self, occasion: &TriggerPayload) -> bool {
        if let Some(body) = occasion.webhook_body() {
            if self.count > 0 && self.size + body.len() > MAX_DEBOUNCE_BYTES {
                return false;
            }
            self.size += body.len();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            self.payloads.push(serde_json::from_slice(&body).unwrap_or_else(|_| text()));
        }
        self.count += 1;
        true
    }

    /// What their one job is given: the bodies of webhooks, and nothing of events (Cozy API, trigger types, §4.4).
    pub fn into_payload(self) -> TriggerPayload {
        let merged = if self.payloads.is_empty() {
            TriggerPayload::default()
        } else {
            TriggerPayload::from_webhook_body(json!({ "payloads": self.payloads }).to_string().as_bytes())
        };
        merged.into_debounced()
    }
}

/// What a trigger remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerRuntimeState {
    /// Set while it waits for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// The vendor locked the account: until then nothing runs, not even by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime<Utc>>,
    /// Revision of the account, counted from 1, with which its owner last changed the login, as far as the trigger knows.
    #[serde(default)]
    #[serde(rename = "login")]
    pub login_generation: u64,
    /// What the debounce holds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce_buffer: Option<DebounceBuffer>,
    /// What became of its occasions.
    #[serde(default)]
    #[serde(rename = "occasions")]
    pub counters: TriggerCounters,
}

impl TriggerRuntimeState {
    /// Until when the account is locked, if it is.
    #[must_use]
    pub fn active_lock(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.locked_until.filter(|until| *until > now)
    }

    /// Whether it waits because its document makes no sense.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.code == Pause::UNUSABLE)
    }

    /// Whether only a person may start a job.
    #[must_use]
    pub fn is_blocked(&self, now: DateTime<Utc>) -> bool {
        self.paused.is_some() || self.active_lock(now).is_some()
    }
}
