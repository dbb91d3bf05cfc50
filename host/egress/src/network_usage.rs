//! Network usage of a run, which is the network part of its receipt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Maximum number of origins with their own entry. Later ones are counted under [`OTHERS`], so a guest cannot make a
/// receipt grow without bound.
const MAX_HOSTS: usize = 200;

/// Maximum number of methods, and of names of secrets, with their own count in one entry.
const MAX_COUNTED_NAMES: usize = 20;

/// Name of the entry for everything beyond a limit.
const OTHERS: &str = "(others)";

/// The secrets in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SentSecrets {
    /// Names of the secrets, each once.
    pub(super) names: Vec<String>,
    /// Number of values inserted.
    pub(super) substitutions: u64,
}

/// Why an attempt was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DenialReason {
    /// No rule of the manifest allows it.
    NoRule,
    /// The manifest binds the secret to other hosts or requests.
    SecretNotBound,
    /// The host resolves to no address that may be contacted.
    AddressProhibited,
    /// A redirect led from https to http.
    Downgrade,
}

impl DenialReason {
    const fn name(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::SecretNotBound => "secret_not_bound",
            Self::AddressProhibited => "address_prohibited",
            Self::Downgrade => "https_to_http",
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Record of the exchanges with one origin.
///
/// Older receipts lack some of the fields, so each has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// Scheme, host and, unless it is the scheme's default, port: `https://www.bank101.example`.
    pub host: String,
    /// Whether this is our own API, so that no traffic left the process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "own")]
    pub internal: bool,
    /// Number of requests sent, for each method.
    pub methods: BTreeMap<String, u64>,
    /// Number of responses, for each status.
    pub statuses: BTreeMap<u16, u64>,
    /// Number of requests sent.
    pub requests: u64,
    /// Number of denied attempts.
    pub denied: u64,
    /// Reasons for the denials, with counts: `no_rule`, `secret_not_bound`, `address_prohibited`, `https_to_http` (a
    /// redirect of this host).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refusals: BTreeMap<String, u64>,
    /// Names of the account's secrets that requests carried, with counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, u64>,
    /// Number of secret values inserted into requests, see [`MAX_SUBSTITUTIONS`](super::MAX_SUBSTITUTIONS).
    #[serde(skip_serializing_if = "is_zero")]
    pub substitutions: u64,
    /// Number of headers with credentials that did not follow a redirect of this host to another origin.
    pub credentials_dropped: u64,
    /// Number of responses from non-public addresses that the operator allows.
    pub private: u64,
    /// Number of bytes sent: request lines, headers and bodies.
    pub bytes_up: u64,
    /// Number of bytes received, as the guest sees them: bodies are counted after decompression.
    pub bytes_down: u64,
}

impl HostRecord {
    /// Records a request that is about to be sent, so that a request cancelled in transit is in the receipt, too.
    pub(super) fn record_sent(&mut self, method: &str, bytes: u64, secrets: &SentSecrets) {
        self.requests += 1;
        self.bytes_up += bytes;
        self.substitutions += secrets.substitutions;
        increment(&mut self.methods, method);
        secrets.names.iter().for_each(|secret| increment(&mut self.secrets, secret));
    }

    /// Undoes [`Self::record_sent`] if the name resolved to no address that may be dialled.
    pub(super) fn undo_sent(&mut self, method: &str, bytes: u64, secrets: &SentSecrets) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes_up = self.bytes_up.saturating_sub(bytes);
        self.substitutions = self.substitutions.saturating_sub(secrets.substitutions);
        decrement(&mut self.methods, method);
        secrets.names.iter().for_each(|secret| decrement(&mut self.secrets, secret));
    }

    /// Records an attempt that the gate denied.
    pub(super) fn record_denied(&mut self, reason: DenialReason) {
        self.denied += 1;
        increment(&mut self.refusals, reason.name());
    }

    /// Returns the record with its strings changed by `mask`, because a guest chooses host names and may have read a
    /// secret.
    pub(super) fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        self.host = mask(&self.host);
        self.secrets = self.secrets.into_iter().map(|(name, number)| (mask(&name), number)).collect();
        self
    }

    /// Records the status of a response.
    pub(super) fn record_response(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }
}

fn increment(counts: &mut BTreeMap<String, u64>, kind: &str) {
    let kind = if counts.len() < MAX_COUNTED_NAMES || counts.contains_key(kind) { kind } else { OTHERS };
    *counts.entry(kind.to_owned()).or_default() += 1;
}

fn decrement(counts: &mut BTreeMap<String, u64>, kind: &str) {
    let kind = if counts.contains_key(kind) { kind } else { OTHERS };
    if let Some(count) = counts.get_mut(kind) {
        *count = count.saturating_sub(1);
    }
    counts.retain(|_, count| *count > 0);
}

/// Collects the records of one run.
#[derive(Debug, Default)]
pub(super) struct NetworkUsage {
    /// Boxed because a map allocates room for more entries than most runs have.
    hosts: BTreeMap<String, Box<HostRecord>>,
}

impl NetworkUsage {
    /// Returns the record of an origin.
    pub(super) fn host(&mut self, origin: &str) -> &mut HostRecord {
        let known = self.hosts.contains_key(origin) || self.hosts.len() < MAX_HOSTS;
        let key = if known { origin } else { OTHERS };
        self.hosts
            .entry(key.to_owned())
            .or_insert_with(|| Box::new(HostRecord { host: key.to_owned(), ..HostRecord::default() }))
    }

    /// Returns all records, sorted by name.
    pub(super) fn records(&self) -> Vec<HostRecord> {
        self.hosts.values().map(|record| HostRecord::clone(record)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_make_it_grow_without_end() {
        let mut usage = NetworkUsage::default();
        for number in 0..1_000 {
            usage.host(&format!("https://{number}.example")).denied += 1;
        }
        let records = usage.records();
        assert_eq!(records.len(), MAX_HOSTS + 1);
        assert_eq!(records.iter().map(|record| record.denied).sum::<u64>(), 1_000);
    }

    #[test]
    fn it_is_written_in_snake_case() {
        let mut usage = NetworkUsage::default();
        let record = usage.host("https://a.example");
        record.record_sent("GET", 100, &SentSecrets { names: vec!["password".to_owned()], substitutions: 2 });
        record.record_response(200);
        record.bytes_down += 50;
        record.record_denied(DenialReason::SecretNotBound);
        insta::assert_json_snapshot!(usage.records(), @r#"
        [
          {
            "host": "https://a.example",
            "methods": {
              "GET": 1
            },
            "statuses": {
              "200": 1
            },
            "requests": 1,
            "denied": 1,
            "refusals": {
              "secret_not_bound": 1
            },
            "secrets": {
              "password": 1
            },
            "substitutions": 2,
            "credentials_dropped": 0,
            "private": 0,
            "bytes_up": 100,
            "bytes_down": 50
          }
        ]
        "#);
    }

    #[test]
    fn older_receipts_are_read() {
        let older = r#"{"host":"https://a.example","methods":{"GET":1},"statuses":{"200":1},"requests":1,"denied":0,"bytes_up":1,"bytes_down":2}"#;
        let record: HostRecord = serde_json::from_str(older).unwrap();
        assert_eq!((record.requests, record.bytes_down, record.refusals.len()), (1, 2, 0));
        let newer = r#"{"host":"https://a.example","refusals":{"a_reason_of_tomorrow":1},"member_of_tomorrow":{}}"#;
        assert_eq!(serde_json::from_str::<HostRecord>(newer).unwrap().refusals["a_reason_of_tomorrow"], 1);
    }

    #[test]
    fn invented_methods_share_a_count() {
        let mut usage = NetworkUsage::default();
        let record = usage.host("https://a.example");
        for number in 0..1_000 {
            record.record_sent(&format!("M{number}"), 1, &SentSecrets::default());
        }
        record.undo_sent("M999", 1, &SentSecrets::default());
        assert_eq!(record.methods.len(), MAX_COUNTED_NAMES + 1);
        assert_eq!(record.methods.values().sum::<u64>(), 999);
    }
}
