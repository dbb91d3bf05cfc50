//! What a run contacted: the part of its receipt that is about the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Origins with an entry of their own; what comes after is counted under [`OTHERS`], so that a guest cannot make a receipt grow without end.
const MAX_HOSTS: usize = 200;

/// The entry of all origins beyond the limit.
const OTHERS: &str = "(others)";

/// What was exchanged with one origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Scheme, host and, unless it is the scheme's own, port: `https://www.bank101.example`.
    pub host: String,
    /// It is our own API: what was exchanged did not leave the process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Requests that were sent, by method.
    pub methods: BTreeMap<String, u64>,
    /// Answers, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that were sent.
    pub requests: u64,
    /// Attempts that were refused: no rule of the manifest, or an address that may not be contacted.
    pub denied: u64,
    /// Bytes sent.
    pub bytes_up: u64,
    /// Bytes received, bodies after decompression.
    pub bytes_down: u64,
}

impl HostRecord {
    /// Enters a request that is about to be sent: one that is cancelled on its way is in the receipt, too.
    pub(super) fn sent(&mut self, method: &str, bytes: u64) {
        self.requests += 1;
        self.bytes_up += bytes;
        *self.methods.entry(method.to_owned()).or_default() += 1;
    }

    /// Takes back what [`Self::sent`] entered: the name led to no address that may be dialled.
    pub(super) fn not_sent(&mut self, method: &str, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes_up = self.bytes_up.saturating_sub(bytes);
        if let Some(count) = self.methods.get_mut(method) {
            *count = count.saturating_sub(1);
        }
        self.methods.retain(|_, count| *count > 0);
    }

    /// Enters the head of an answer.
    pub(super) fn answered(&mut self, status: u16, bytes: u64) {
        self.bytes_down += bytes;
        *self.statuses.entry(status).or_default() += 1;
    }
}

/// Collects the records of one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    hosts: BTreeMap<String, HostRecord>,
}

impl Ledger {
    /// The record of an origin.
    pub(super) fn host(&mut self, origin: &str) -> &mut HostRecord {
        let known = self.hosts.contains_key(origin) || self.hosts.len() < MAX_HOSTS;
        let key = if known { origin } else { OTHERS };
        self.hosts.entry(key.to_owned()).or_insert_with(|| HostRecord { host: key.to_owned(), ..HostRecord::default() })
    }

    /// All records, by name.
    pub(super) fn records(&self) -> Vec<HostRecord> {
        self.hosts.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_make_it_grow_without_end() {
        let mut ledger = Ledger::default();
        for number in 0..1_000 {
            ledger.host(&format!("https://{number}.example")).denied += 1;
        }
        let records = ledger.records();
        assert_eq!(records.len(), MAX_HOSTS + 1);
        assert_eq!(records.iter().map(|record| record.denied).sum::<u64>(), 1_000);
    }

    #[test]
    fn it_is_written_in_snake_case() {
        let mut ledger = Ledger::default();
        let record = ledger.host("https://a.example");
        *record.methods.entry("GET".to_owned()).or_default() += 1;
        *record.statuses.entry(200).or_default() += 1;
        insta::assert_json_snapshot!(ledger.records(), @r#"
        [
          {
            "host": "https://a.example",
            "methods": {
              "GET": 1
            },
            "statuses": {
              "200": 1
            },
            "requests": 0,
            "denied": 0,
            "bytes_up": 0,
            "bytes_down": 0
          }
        ]
        "#);
    }
}
