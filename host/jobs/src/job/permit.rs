//! Permits that a job needs in addition to a worker: exclusive use of its account, and a slot among the jobs that
//! contact the same vendor.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_store::{DocRef, Document, InstanceId, JobPermit, QueueEntry};
use serde_json::Value;

use super::Job;
use crate::Jobs;
use konnector_accounts::Account;
use konnector_documents::instance::Instance;

/// Returns a string field of a job's message.
fn argument<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    message.get(name).and_then(Value::as_str)
}

/// Returns the lock that only one job of an instance may hold at a time: one run per account, or per konnector if there
/// is no account.
fn lock_name(job: &Job) -> Option<String> {
    match (job.argument("account"), job.argument("konnector")) {
        (Some(account), _) => Some(format!("account/{account}")),
        (None, Some(slug)) => Some(format!("konnector/{slug}")),
        (None, None) => None,
    }
}

impl Jobs {
    /// Returns the queue entry of a job. Jobs of one class contact the same hosts: if the account determines the hosts,
    /// they are part of the class.
    pub(super) fn queue_entry(&self, instance: &Instance, job: &Job, run_at: DateTime<Utc>) -> QueueEntry {
        let slug = job.argument("konnector").unwrap_or_default();
        let class = match self.vendor_hosts(instance, &job.message) {
            Some(hosts) if hosts.is_account_specific => format!("{slug} {}", hosts.names.join(" ")),
            _ => slug.to_owned(),
        };
        QueueEntry::new(run_at, self.context.core.clock().now()).lock(lock_name(job)).class(class)
    }

    /// Returns the permits of a job: one for each host of its vendor, and one for its konnector if the operator limits
    /// them.
    pub(super) fn permits(&self, at: &DocRef, document: &Document) -> Vec<JobPermit> {
        let mut permits = Vec::new();
        let Some(message) = document.body.get("message") else { return permits };
        let limit = self.context.state.settings.konnector_concurrency;
        if let Some(slug) = argument(message, "konnector").filter(|_| limit > 0) {
            permits.push(JobPermit { name: format!("konnector/{slug}"), limit });
        }
        let limit = self.context.state.settings.vendor_concurrency;
        if limit > 0
            && let Some(hosts) = self.cached_vendor_hosts(at, message)
        {
            permits.extend(hosts.iter().map(|host| JobPermit { name: format!("host/{host}"), limit }));
        }
        permits
    }

    /// Returns the recently cached hosts of a job, because claims repeat the query while jobs wait for a permit.
    fn cached_vendor_hosts(&self, at: &DocRef, message: &Value) -> Option<Arc<[String]>> {
        let text = |name| argument(message, name).unwrap_or_default().to_owned();
        let key = (at.instance.clone(), text("konnector"), text("account"));
        let now = self.context.core.clock().elapsed();
        let known = self.context.state.vendor_host_cache.0.lock().get(&key).cloned();
        if let Some((names, since)) = known
            && now.saturating_sub(since) < HOST_CACHE_TTL
        {
            return Some(names);
        }
        let names: Arc<[String]> =
            self.vendor_hosts(&self.context.triggers().instance_of(at).ok()?, message)?.names.into();
        let mut lately = self.context.state.vendor_host_cache.0.lock();
        if lately.len() >= MAX_CACHED_HOSTS {
            lately.clear();
        }
        lately.insert(key, (Arc::clone(&names), now));
        Some(names)
    }

    /// Returns the hosts that a konnector may contact for an account; `None` if it cannot run at all, which its run
    /// will report.
    fn vendor_hosts(&self, instance: &Instance, message: &Value) -> Option<VendorHosts> {
        let slug: Slug = argument(message, "konnector")?.parse().ok()?;
        let permissions = self.context.permissions().of_konnector(instance, &slug).ok()?;
        let of_account = permissions.has_account_hosts();
        let fields = match argument(message, "account").filter(|_| of_account) {
            Some(account) => {
                let account =
                    self.context.accounts().get(instance, account).ok().filter(|account| account.is_usable_by(&slug));
                account.as_ref().map(Account::fields)?
            }
            None => serde_json::Map::new(),
        };
        let rules = permissions.http_rules(&fields).ok()?;
        let mut names: Vec<String> = rules.hosts().map(|pattern| pattern.host().to_owned()).collect();
        names.sort();
        names.dedup();
        Some(VendorHosts { is_account_specific: of_account, names })
    }
}

/// Cache of the hosts that jobs contact, by instance, konnector and account, with the time of caching.
#[derive(Default)]
pub struct VendorHostCache(Mutex<HashMap<HostCacheKey, CachedHosts>>);

type HostCacheKey = (InstanceId, String, String);
type CachedHosts = (Arc<[String]>, Duration);

/// Lifetime of a cache entry. Permits are a courtesy to vendors, so a konnector that was just updated may contact a
/// host concurrently with another one.
const HOST_CACHE_TTL: Duration = Duration::from_secs(10);
/// Maximum number of cache entries.
const MAX_CACHED_HOSTS: usize = 10_000;

/// The hosts of a vendor.
struct VendorHosts {
    /// Whether some of the hosts come from the account.
    is_account_specific: bool,
    names: Vec<String>,
}
