//! Hourly limits per instance for operations that cost the server work and may be requested by faulty programs or by
//! strangers (Cozy API, push a job, §5.2). Requests above a limit wait or are rejected; they are not dropped silently.
//!
//! Counts are in memory, one for each instance that was active in this hour; a restart resets them.

use parking_lot::Mutex;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_store::InstanceId;

use crate::handles::RateLimits;
use crate::instance::Instance;
use crate::{Error, Result};

const HOUR_SECONDS: i64 = 3_600;

/// Kind of operation that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateKind {
    /// A webhook was called.
    Webhook,
    /// A document changed and started a job.
    Event,
    /// A client pushed a job or launched a trigger.
    Job,
    /// A client requested tokens or a session code.
    Token,
    /// An OAuth client registered itself.
    OAuthClient,
    /// An account was connected by OAuth, or its token was refreshed.
    AccountOAuth,
    /// A konnector pushed a job, or created or changed a trigger; counted for each konnector.
    KonnectorRequest,
}

/// Number of runs that one konnector may request per hour. A konnector that fetches from a vendor in several steps
/// needs a few; one that starts itself repeatedly is limited to one run in three minutes, which leaves the workers to
/// others.
const MAX_KONNECTOR_REQUESTS: u32 = 20;

/// Limits of each kind per hour, set by the operator; 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourlyLimits {
    /// Calls of webhooks.
    pub webhooks: u32,
    /// Number of jobs that events start.
    pub events: u32,
    /// Number of jobs that clients push and of triggers that they launch.
    pub jobs: u32,
    /// Number of requests for tokens.
    pub tokens: u32,
    /// Registrations of OAuth clients.
    pub oauth_clients: u32,
    /// Accounts that are connected by OAuth, and refreshes of their tokens.
    pub account_oauth: u32,
}

impl Default for HourlyLimits {
    fn default() -> Self {
        Self { webhooks: 30, events: 100, jobs: 3_600, tokens: 600, oauth_clients: 60, account_oauth: 600 }
    }
}

impl HourlyLimits {
    /// Names of the limits in the operator's configuration.
    pub const NAMES: [&str; 6] = ["webhooks", "events", "jobs", "tokens", "oauth_clients", "account_oauth"];

    /// Returns the limit with a name.
    pub fn limit_mut(&mut self, name: &str) -> Option<&mut u32> {
        match name {
            "webhooks" => Some(&mut self.webhooks),
            "events" => Some(&mut self.events),
            "jobs" => Some(&mut self.jobs),
            "tokens" => Some(&mut self.tokens),
            "oauth_clients" => Some(&mut self.oauth_clients),
            "account_oauth" => Some(&mut self.account_oauth),
            _ => None,
        }
    }

    const fn limit(&self, kind: RateKind) -> u32 {
        match kind {
            RateKind::Webhook => self.webhooks,
            RateKind::Event => self.events,
            RateKind::Job => self.jobs,
            RateKind::Token => self.tokens,
            RateKind::OAuthClient => self.oauth_clients,
            RateKind::AccountOAuth => self.account_oauth,
            RateKind::KonnectorRequest => MAX_KONNECTOR_REQUESTS,
        }
    }
}

/// Counts of the current hour.
#[derive(Debug, Default)]
pub struct RateCounters(Mutex<HourCounts>);

/// Key of a counter: a kind of an instance, and for some kinds the konnector.
type RateKey = (InstanceId, RateKind, Option<Slug>);

/// Counts of one hour, numbered from 1970.
#[derive(Debug, Default)]
struct HourCounts {
    hour: i64,
    counts: HashMap<RateKey, u32>,
}

impl RateCounters {
    /// Counts one operation; if the limit is reached, returns the time from which another one is allowed.
    fn try_count(&self, counter: RateKey, most: u32, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let current = now.timestamp().div_euclid(HOUR_SECONDS);
        let mut counted = self.0.lock();
        if counted.hour != current {
            *counted = HourCounts { hour: current, counts: HashMap::new() };
        }
        let count = counted.counts.entry(counter).or_default();
        if *count >= most {
            return Err(DateTime::from_timestamp((current + 1) * HOUR_SECONDS, 0).unwrap_or(now));
        }
        *count += 1;
        Ok(())
    }
}

impl RateLimits {
    /// Counts one operation of a kind.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] if the limit of this hour is reached.
    pub fn check(&self, instance: &Instance, kind: RateKind) -> Result<()> {
        self.check_for(instance, kind, None)
    }

    pub fn check_for(&self, instance: &Instance, kind: RateKind, konnector: Option<&Slug>) -> Result<()> {
        let most = self.core.hourly_limits().limit(kind);
        if most == 0 {
            return Ok(());
        }
        let counter = (instance.id.clone(), kind, konnector.cloned());
        self.core.rate_counters().try_count(counter, most, self.core.clock().now()).map_err(|until| {
            let from = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            let advice = if kind == RateKind::Webhook { ", or collect them with a debounce" } else { "" };
            let owner = if konnector.is_some() { "konnector" } else { "instance" };
            Error::RetryLater {
                until,
                message: format!(
                    "the limit of {most} per hour for one {owner} is reached; try again after {from}{advice}"
                ),
            }
        })
    }
}
