//! What a trigger does about instants that it could not fire at, and about a job that has not ended yet. These attributes are our own;
//! Cozy's triggers have none.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::duration::GoDuration;
use super::schedule::Schedule;

/// Jobs for missed instants where the trigger does not say how many, and the most that it may ask for.
const DEFAULT_MISSED_LIMIT: u32 = 10;
/// The most jobs for missed instants.
pub const MAX_MISSED_JOBS: u32 = 100;
/// An instant that passed longer ago than this was missed.
pub const ON_TIME_TOLERANCE: Duration = Duration::from_secs(60);

/// What becomes of instants that passed while the server was down or its clock stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissedPolicy {
    /// They are left out.
    Skip,
    /// One job stands for them all.
    #[default]
    Coalesce,
    /// Each of the newest ones gets its job, one after the other.
    All,
}

/// What becomes of an instant while a job of the trigger has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlapPolicy {
    /// It is left out.
    #[default]
    Skip,
    /// One job waits for the end of the other.
    QueueOne,
}

/// Both, as the trigger's document holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerPolicy {
    /// See [`MissedPolicy`].
    #[serde(default)]
    pub missed_policy: MissedPolicy,
    /// How many jobs there are for missed instants under [`MissedPolicy::All`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_limit: Option<u32>,
    /// How long after it an instant is made up for; from one to the next where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_window: Option<GoDuration>,
    /// See [`OverlapPolicy`].
    #[serde(default)]
    pub overlap_policy: OverlapPolicy,
}

impl TriggerPolicy {
    /// Of the instants from `due` to `now`, those that get a job; oldest first.
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

    /// How many jobs of the trigger there may be, so that another one is pushed.
    pub(super) const fn max_live_jobs(&self) -> usize {
        match self.overlap_policy {
            OverlapPolicy::Skip => 1,
            OverlapPolicy::QueueOne => 2,
        }
    }
}
