//! How many jobs an instance gets within an hour from what nobody watches: webhooks, whose callers are unknown, and events, among which may
//! be those of the konnector that they start (Cozy API, push a job, §5.2). What exceeds it waits or is refused, and is not lost in silence.
//!
//! Counted in memory: a restart begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use konnector_store::InstanceId;

use crate::instance::Instance;
use crate::{Error, Platform, Result};

const HOUR: i64 = 3_600;

/// Where a job comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A webhook was called.
    Webhook,
    /// A document changed.
    Event,
}

impl Source {
    const fn most(self) -> u32 {
        match self {
            Self::Webhook => 30,
            Self::Event => 100,
        }
    }
}

/// What there was in the current hour.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Counted>);

/// How many of each there were in an hour, which is counted from 1970 on.
#[derive(Debug, Default)]
struct Counted {
    hour: i64,
    counts: HashMap<(InstanceId, Source), u32>,
}

impl Rates {
    /// Counts one; answers when there may be another one where there were enough.
    fn take(&self, instance: &InstanceId, source: Source, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let current = now.timestamp().div_euclid(HOUR);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.hour != current {
            *counted = Counted { hour: current, counts: HashMap::new() };
        }
        let count = counted.counts.entry((instance.clone(), source)).or_default();
        if *count >= source.most() {
            return Err(DateTime::from_timestamp((current + 1) * HOUR, 0).unwrap_or(now));
        }
        *count += 1;
        Ok(())
    }
}

impl Platform {
    /// Counts a job of this source.
    ///
    /// # Errors
    ///
    /// [`Error::NotYet`] when there were enough in this hour.
    pub(super) fn admit(&self, instance: &Instance, source: Source) -> Result<()> {
        self.rates.take(&instance.id, source, self.clock.now()).map_err(|until| Error::NotYet {
            until,
            message: format!(
                "{} of these in an hour are enough for one instance; the next one is taken from {} on, or collect them with a debounce",
                source.most(),
                until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            ),
        })
    }
}
