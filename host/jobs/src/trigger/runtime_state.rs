//! Runtime state of a trigger, as opposed to its specification.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::job::TriggerPayload;

/// Maximum total size in bytes of the bodies collected during a debounce.
const MAX_DEBOUNCE_BYTES: usize = 1 << 20;

/// Why a schedule is paused, so that a rejected password is tried once, not every night.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Error code of the run that paused the schedule.
    pub code: String,
    /// Start of the pause.
    pub since: DateTime<Utc>,
}

impl Pause {
    /// Code of a trigger that cannot push jobs because its document is invalid, until the document is changed.
    pub const UNUSABLE: &str = "UNKNOWN_ERROR.UNUSABLE_TRIGGER";
}

/// Numbers of a trigger's ticks, including events and webhook calls. Each tick is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerCounters {
    /// Number of ticks that got their own job.
    pub fired: u64,
    /// Number of ticks covered by the job of another tick.
    pub coalesced: u64,
    /// Number of ticks that were missed while the server was down, or because the schedule was replaced.
    pub missed: u64,
    /// Number of ticks skipped because earlier jobs of the trigger had not ended.
    pub overlapped: u64,
    /// Number of ticks skipped because the schedule waited for the user.
    pub paused: u64,
}

/// Events and webhook calls that become one job at the end of the debounce.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DebounceBuffer {
    /// Number of events and calls.
    pub count: u64,
    /// Bodies of the webhook calls, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    payloads: Vec<Value>,
    /// Total size of the bodies, in bytes.
    #[serde(default)]
    size: usize,
}

impl DebounceBuffer {
    /// Adds an event or a call; returns false, and changes nothing, if the size limit is reached.
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

    /// Returns the payload of the single job for the collected calls, which has the bodies of webhooks and nothing
    /// for events (Cozy API, trigger types, §4.4).
    pub fn into_payload(self) -> TriggerPayload {
        let merged = if self.payloads.is_empty() {
            TriggerPayload::default()
        } else {
            TriggerPayload::from_webhook_body(json!({ "payloads": self.payloads }).to_string().as_bytes())
        };
        merged.into_debounced()
    }
}

/// Runtime state of a trigger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerRuntimeState {
    /// Set while the trigger waits for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Set if the vendor locked the account; until then nothing runs, not even manually.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime<Utc>>,
    /// Revision of the account, counted from 1, with which its owner last changed the login, as far as the trigger
    /// knows.
    #[serde(default)]
    #[serde(rename = "login")]
    pub login_generation: u64,
    /// Events and webhook calls collected by the debounce.
    #[serde(rename = "waiting", default, skip_serializing_if = "Option::is_none")]
    pub debounce_buffer: Option<DebounceBuffer>,
    /// Numbers of the trigger's ticks, including events and webhook calls.
    #[serde(default)]
    #[serde(rename = "occasions")]
    pub counters: TriggerCounters,
}

impl TriggerRuntimeState {
    /// Returns when the account is unlocked, if it is locked.
    #[must_use]
    pub fn active_lock(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.locked_until.filter(|until| *until > now)
    }

    /// Returns whether the trigger is paused because its document is invalid.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.code == Pause::UNUSABLE)
    }

    /// Returns whether only a person may start a job.
    #[must_use]
    pub fn is_blocked(&self, now: DateTime<Utc>) -> bool {
        self.paused.is_some() || self.active_lock(now).is_some()
    }
}
