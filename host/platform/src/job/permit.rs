//! What a job needs besides a worker: its account for itself, and a place among those that talk to the same vendor.

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_store::{DocRef, Document, Permit, Turn};
use serde_json::Value;

use super::Job;
use crate::Platform;
use crate::account::Account;
use crate::instance::Instance;

/// A text member of a job's message.
fn argument<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    message.get(name).and_then(Value::as_str)
}

/// What only one job of an instance may hold at a time: one run per account, or per konnector where there is none.
fn lock(job: &Job) -> Option<String> {
    match (job.argument("account"), job.argument("konnector")) {
        (Some(account), _) => Some(format!("account/{account}")),
        (None, Some(slug)) => Some(format!("konnector/{slug}")),
        (None, None) => None,
    }
}

impl Platform {
    /// How a job waits. Jobs of one class contact the same hosts: where the account says which, these are part of it.
    pub(super) fn turn(&self, instance: &Instance, job: &Job, run_at: DateTime<Utc>) -> Turn {
        let slug = job.argument("konnector").unwrap_or_default();
        let class = match self.hosts(instance, &job.message) {
            Some(hosts) if hosts.of_account => format!("{slug} {}", hosts.names.join(" ")),
            _ => slug.to_owned(),
        };
        Turn::new(run_at, self.clock.now()).lock(lock(job)).class(class)
    }

    /// The permits of a job: one for each host of its vendor, and one for its konnector where the operator limits them.
    pub(super) fn permits(&self, at: &DocRef, document: &Document) -> Vec<Permit> {
        let mut permits = Vec::new();
        let Some(message) = document.body.get("message") else { return permits };
        let limit = self.config.konnector_concurrency;
        if let Some(slug) = argument(message, "konnector").filter(|_| limit > 0) {
            permits.push(Permit { name: format!("konnector/{slug}"), limit });
        }
        let limit = self.config.vendor_concurrency;
        if limit > 0
            && let Ok(instance) = self.instance_of(at)
            && let Some(hosts) = self.hosts(&instance, message)
        {
            permits.extend(hosts.names.into_iter().map(|host| Permit { name: format!("host/{host}"), limit }));
        }
        permits
    }

    /// The hosts that a konnector may contact for an account; `None` when it cannot run at all, which its run will tell.
    fn hosts(&self, instance: &Instance, message: &Value) -> Option<Hosts> {
        let slug: Slug = argument(message, "konnector")?.parse().ok()?;
        let permissions = self.konnector_permissions(instance, &slug).ok()?;
        let of_account = permissions.follows_account();
        let fields = match argument(message, "account").filter(|_| of_account) {
            Some(account) => self.account(instance, account).ok().as_ref().map(Account::fields)?,
            None => serde_json::Map::new(),
        };
        let rules = permissions.http(&fields).ok()?;
        let mut names: Vec<String> = rules.hosts().map(|pattern| pattern.host().to_owned()).collect();
        names.sort();
        names.dedup();
        Some(Hosts { of_account, names })
    }
}

/// The hosts of a vendor.
struct Hosts {
    /// Whether the account names some of them.
    of_account: bool,
    names: Vec<String>,
}
