//! Limits on the resources of one run.

use std::time::Duration;

use konnector_manifest::{Limit, LimitValues};

use konnector_egress::HttpBudget;

/// The budget of one run; [`Limit`] lists the limits with their defaults. If a run exceeds one, its next step is
/// rejected or the run is ended, with a message that names the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Number of bytes of linear memory, in total for all memories of the component.
    pub memory: u64,
    /// Number of table elements, in total for all tables of the component.
    pub table_elements: u64,
    /// Time from the first instruction to the end, without the time spent waiting for the user.
    pub wall: Duration,
    /// CPU time, including host functions.
    pub cpu: Duration,
    /// How long to wait for each of the user's answers.
    pub answer_timeout: Duration,
    /// How long a run may continue after cancellation, to clean up.
    pub grace_period: Duration,
    /// Number of bytes of log lines, including names and values of fields.
    pub log_bytes: u64,
    /// Number of log lines.
    pub log_lines: u64,
    /// Number of bytes of one log line; the rest of a longer one is cut off.
    pub log_line_bytes: usize,
    /// Number of documents written or deleted.
    pub documents: u64,
    /// Number of files written or removed.
    pub files: u64,
    /// Number of bytes written to files.
    pub file_bytes: u64,
    /// Number of uploads open at one time.
    pub uploads: u32,
    /// Number of bytes in `/tmp` and in files below `/files` that are not written sequentially.
    pub scratch_bytes: u64,
    /// Number of files and directories in `/tmp`.
    pub scratch_files: u32,
    /// Number of files below `/files` open at one time, at most [`uploads`](Self::uploads) of them for writing; and as
    /// many more that are open through the contract's `files.open`.
    pub open_files: u32,
    /// Number of resources (streams, pollables, uploads) open at one time.
    pub handles: usize,
    /// Number of bytes that the guest may pass in one call of a host function.
    pub host_call_bytes: usize,
    /// Budget for the network, enforced by the [`Session`](konnector_egress::Session).
    pub http: HttpBudget,
}

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self {
            memory: 0,
            table_elements: 0,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            answer_timeout: Duration::ZERO,
            grace_period: Duration::from_secs(2),
            log_bytes: 0,
            log_lines: 0,
            log_line_bytes: 0,
            documents: 0,
            files: 0,
            file_bytes: 0,
            uploads: 0,
            scratch_bytes: 0,
            scratch_files: 0,
            open_files: 0,
            handles: 0,
            host_call_bytes: 0,
            http: HttpBudget::default(),
        };
        for limit in Limit::ALL {
            limits.set(*limit, limit.default_value());
        }
        limits
    }
}

impl Limits {
    /// Returns the default maximum that a manifest can request, unless the operator configures another one.
    #[must_use]
    pub fn default_max() -> Self {
        let mut limits = Self::default();
        for limit in Limit::ALL {
            limits.set(*limit, limit.default_max());
        }
        limits
    }

    /// Returns these limits with the requested values.
    #[must_use]
    pub fn with_requested(mut self, requested: &LimitValues) -> Self {
        for (limit, value) in requested.iter() {
            self.set(limit, value);
        }
        self
    }

    /// Returns these limits, each clamped to that of `ceiling`.
    #[must_use]
    pub fn clamped_to(mut self, ceiling: &Self) -> Self {
        for limit in Limit::ALL {
            let max = ceiling.get(*limit);
            if self.get(*limit) > max {
                self.set(*limit, max);
            }
        }
        self
    }

    /// Returns the value of a limit in its [`Limit::unit`], rounded down.
    #[must_use]
    pub fn get(&self, limit: Limit) -> u64 {
        // `field` is the only mapping from limits to fields. It borrows mutably for `set`, so this reads a copy.
        self.clone().field(limit).value() / limit.unit().scale()
    }

    /// Sets a limit to a value in its [`Limit::unit`].
    pub fn set(&mut self, limit: Limit, value: u64) {
        self.field(limit).set_value(value.saturating_mul(limit.unit().scale()));
    }

    /// Returns the field of a limit. A new variant of [`Limit`] does not compile without an arm here.
    fn field(&mut self, limit: Limit) -> &mut dyn LimitField {
        match limit {
            Limit::Memory => &mut self.memory,
            Limit::TableElements => &mut self.table_elements,
            Limit::Handles => &mut self.handles,
            Limit::HostCall => &mut self.host_call_bytes,
            Limit::Cpu => &mut self.cpu,
            Limit::Wall => &mut self.wall,
            Limit::Answer => &mut self.answer_timeout,
            Limit::Requests => &mut self.http.requests,
            Limit::Upload => &mut self.http.bytes_up,
            Limit::Download => &mut self.http.bytes_down,
            Limit::Body => &mut self.http.body_limit,
            Limit::Documents => &mut self.documents,
            Limit::Files => &mut self.files,
            Limit::FileContent => &mut self.file_bytes,
            Limit::Uploads => &mut self.uploads,
            Limit::Scratch => &mut self.scratch_bytes,
            Limit::ScratchFiles => &mut self.scratch_files,
            Limit::OpenFiles => &mut self.open_files,
            Limit::LogLines => &mut self.log_lines,
            Limit::LogText => &mut self.log_bytes,
            Limit::LogLine => &mut self.log_line_bytes,
        }
    }
}

/// Limits that the operator sets for runs.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitPolicy {
    /// Limits for a manifest that requests none.
    pub default: Limits,
    /// Upper bound of the limits that a manifest may request.
    pub max: Limits,
}

/// A limit of which a manifest requests more than it is granted; both values are in the limit's [`Limit::unit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClampedLimit {
    /// The limit.
    pub limit: Limit,
    /// Value that the manifest requests.
    pub requested: u64,
    /// Value that the runs of the manifest get.
    pub granted: u64,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { default: Limits::default(), max: Limits::default_max() }
    }
}

impl LimitPolicy {
    /// Returns the limits for the runs of a manifest.
    #[must_use]
    pub fn limits_for(&self, requested: &LimitValues) -> Limits {
        self.default.clone().with_requested(requested).clamped_to(&self.max)
    }

    /// Returns the limits that grant less than the manifest requests.
    #[must_use]
    pub fn clamped_limits(&self, requested: &LimitValues) -> Vec<ClampedLimit> {
        let cut = |(limit, requested)| ClampedLimit { limit, requested, granted: self.max.get(limit).min(requested) };
        requested.iter().map(cut).filter(|cut| cut.granted < cut.requested).collect()
    }
}

/// Conversion between a limit's type and a count of bytes, seconds or items.
trait LimitField {
    fn value(&self) -> u64;
    fn set_value(&mut self, amount: u64);
}

macro_rules! amount_of_integer {
    ($($integer:ty),+) => {$(
        impl LimitField for $integer {
            fn value(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }

            fn set_value(&mut self, amount: u64) {
                *self = Self::try_from(amount).unwrap_or(Self::MAX);
            }
        }
    )+};
}

amount_of_integer!(u64, u32, usize);

impl LimitField for Duration {
    fn value(&self) -> u64 {
        self.as_secs()
    }

    fn set_value(&mut self, amount: u64) {
        *self = Self::from_secs(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_field_of_its_own() {
        let mut limits = Limits::default();
        for (number, limit) in Limit::ALL.iter().enumerate() {
            limits.set(*limit, number as u64 + 1_000);
        }
        for (number, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(limits.get(*limit), number as u64 + 1_000, "{limit}");
        }
    }

    #[test]
    fn a_request_replaces_the_default_and_the_ceiling_cuts_it() {
        let mut requested = LimitValues::default();
        requested.set(Limit::Memory, 4_000).unwrap();
        requested.set(Limit::Wall, 10).unwrap();
        let limits = Limits::default().with_requested(&requested).clamped_to(&Limits::default_max());
        assert_eq!(limits.memory, 512 << 20, "more than the operator allows");
        assert_eq!(limits.wall, Duration::from_secs(10), "less than the default");
        assert_eq!(limits.cpu, Limits::default().cpu, "not requested");
        let policy = LimitPolicy::default();
        assert_eq!(policy.limits_for(&requested), limits);
        assert_eq!(
            policy.clamped_limits(&requested),
            [ClampedLimit { limit: Limit::Memory, requested: 4_000, granted: 512 }]
        );
        // A limit that is not a whole number of units is kept unchanged.
        let fractional = Limits { memory: 64 << 10, ..Limits::default() };
        assert_eq!(fractional.clone().clamped_to(&Limits::default_max()), fractional);
    }
}
