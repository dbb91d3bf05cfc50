//! Policies of a trigger for instants at which it could not fire, and for jobs that have not ended yet. These
//! attributes are our own; Cozy's triggers do not have them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::duration::GoDuration;
use super::schedule::Schedule;

/// Number of jobs for missed instants if the trigger sets none.
const DEFAULT_MISSED_LIMIT: u32 = 10;
/// Maximum number of jobs for missed instants that a trigger may set.
pub const MAX_MISSED_JOBS: u32 = 100;
/// An instant that passed longer ago than this counts as missed.
pub const ON_TIME_TOLERANCE: Duration = Duration::from_secs(60);

/// Policy for instants that passed while the server was down or its clock was stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissedPolicy {
    /// The missed instants are skipped.
    Skip,
    /// One job replaces all missed instants.
    #[default]
    Coalesce,
    /// Each of the newest missed instants gets its own job, one after the other.
    All,
}

/// Policy for an instant while a job of the trigger has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlapPolicy {
    /// The instant is skipped.
    #[default]
    Skip,
    /// One job waits until the other has ended.
    QueueOne,
}

/// Policies for missed instants and overlaps, as stored in the trigger's document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerPolicy {
    /// See [`MissedPolicy`].
    #[serde(default)]
    pub missed_policy: MissedPolicy,
    /// Maximum number of jobs for missed instants under [`MissedPolicy::All`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_limit: Option<u32>,
    /// How long after an instant its job may still be pushed; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_window: Option<GoDuration>,
    /// See [`OverlapPolicy`].
    #[serde(default)]
    pub overlap_policy: OverlapPolicy,
}

impl TriggerPolicy {
    /// Returns the instants from `due` to `now` that get a job, oldest first.
    pub(super) fn select_instants(
        &self,
        schedule: &Schedule,
        due: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Vec<DateTime<Utc>> {
        let most = match self.missed_policy {
            MissedPolicy::Skip | MissedPolicy::Coalesce => 1,
            MissedPolicy::All => self.missed_limit.unwrap_or(DEFAULT_MISSED_LIMIT).min(MAX_MISSED_JOBS),
        };
        let window = match self.missed_policy {
            MissedPolicy::Skip => Some(ON_TIME_TOLERANCE),
            MissedPolicy::Coalesce | MissedPolicy::All => self.catch_up_window.as_ref().map(GoDuration::as_duration),
        };
        let mut newest = schedule.newest(most.into(), due, now);
        newest.retain(|instant| window.is_none_or(|window| (now - *instant).to_std().unwrap_or_default() <= window));
        newest
    }

    /// Returns the maximum number of unfinished jobs of the trigger, including a new one.
    pub(super) const fn max_live_jobs(&self) -> usize {
        match self.overlap_policy {
            OverlapPolicy::Skip => 1,
            OverlapPolicy::QueueOne => 2,
        }
    }
}
