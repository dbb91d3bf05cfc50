//! Generates the crontab of a konnector. Frequency and hours come from the manifest. The exact time comes from a hash
//! of the konnector, instance and account. It is stable for one account and spread over all accounts, so vendors do not
//! see all users at the same second.

use std::ops::Range;

use konnector_manifest::{Frequency, Manifest};
use sha2::{Digest as _, Sha256};

/// Returns a crontab of six fields for this konnector, instance and account.
#[must_use]
pub fn generate(manifest: &Manifest, slug: &str, instance: &str, account: &str) -> String {
    let mut draw = DigestRng::new(&format!("{slug}\0{instance}\0{account}"));
    let (start, end) = manifest.time_interval;
    let (second, minute, hour) = (draw.in_range(0..60), draw.in_range(0..60), draw.in_range(start.into()..end.into()));
    match manifest.frequency {
        Frequency::Hourly => format!("{second} {minute} * * * *"),
        Frequency::Daily => format!("{second} {minute} {hour} * * *"),
        Frequency::Weekly => format!("{second} {minute} {hour} * * {}", draw.in_range(0..7)),
        Frequency::Monthly => format!("{second} {minute} {hour} {} * *", draw.in_range(1..29)),
    }
}

/// Generator of numbers that depend only on a string, spread evenly over all strings.
pub struct DigestRng {
    digest: [u8; 32],
    position: usize,
}

impl DigestRng {
    pub fn new(seed: &str) -> Self {
        Self { digest: Sha256::digest(seed).into(), position: 0 }
    }

    /// Returns a number in a range, or the start of an empty range. Eight numbers can be drawn.
    pub fn in_range(&mut self, range: Range<u32>) -> u32 {
        let bytes = self.digest.chunks_exact(4).nth(self.position).unwrap_or_default();
        self.position += 1;
        let number = bytes.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        range.start + number % range.end.saturating_sub(range.start).max(1)
    }

    /// Returns one of the given numbers, or zero if there are none.
    pub fn choose(&mut self, numbers: &[u32]) -> u32 {
        let index = self.in_range(0..u32::try_from(numbers.len()).unwrap_or(u32::MAX));
        numbers.get(index as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const ACCOUNTS: u32 = 7_000;

    fn manifest(frequency: &str, hours: [u8; 2]) -> Manifest {
        let manifest = json!({
            "name": "Bank", "slug": "bank", "type": "konnector", "version": "1.0.0", "editor": "x",
            "frequency": frequency, "time_interval": hours,
        });
        Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest")
    }

    /// Counts how often each value of a field was drawn over many accounts of two instances.
    fn value_counts(manifest: &Manifest, field: usize) -> BTreeMap<u32, u32> {
        let mut drawn = BTreeMap::new();
        for account in 0..ACCOUNTS {
            let crontab = generate(manifest, "bank", if account % 2 == 0 { "a" } else { "b" }, &format!("{account}"));
            let value = crontab.split(' ').nth(field).and_then(|value| value.parse().ok());
            *drawn.entry(value.unwrap_or_else(|| panic!("{crontab}"))).or_default() += 1;
        }
        drawn
    }

    /// Asserts that each of `values` is drawn about equally often: within 40 % of the mean, which over 115 draws or
    /// more is four standard deviations.
    fn assert_even(manifest: &Manifest, field: usize, values: Range<u32>) {
        let drawn = value_counts(manifest, field);
        assert_eq!(drawn.keys().copied().collect::<Vec<_>>(), values.collect::<Vec<_>>());
        let mean = f64::from(ACCOUNTS) / drawn.len() as f64;
        for (value, times) in drawn {
            assert!((f64::from(times) / mean - 1.0).abs() < 0.4, "{value} was drawn {times} times, the mean is {mean}");
        }
    }

    #[test]
    fn times_are_spread_over_accounts_within_the_hours_of_the_manifest() {
        let daily = manifest("daily", [8, 12]);
        assert_even(&daily, 0, 0..60);
        assert_even(&daily, 1, 0..60);
        assert_even(&daily, 2, 8..12);
        assert_even(&manifest("weekly", [0, 5]), 5, 0..7);
        assert_even(&manifest("monthly", [0, 24]), 2, 0..24);
        assert_even(&manifest("monthly", [0, 24]), 3, 1..29);
        assert_even(&manifest("hourly", [0, 5]), 1, 0..60);
    }

    #[test]
    fn the_time_of_one_account_stays_and_instances_differ() {
        let daily = manifest("daily", [0, 24]);
        assert_eq!(generate(&daily, "bank", "a", "1"), generate(&daily, "bank", "a", "1"));
        assert_ne!(generate(&daily, "bank", "a", "1"), generate(&daily, "bank", "b", "1"));
        assert_ne!(generate(&daily, "bank", "a", "1"), generate(&daily, "shop", "a", "1"));
    }
}
