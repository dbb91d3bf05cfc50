//! The crontab of a konnector: how often and between which hours comes from the manifest, the exact time from a hash of who it is for, so
//! that it is stable for one trigger and spread over all: vendors do not see everybody at the same second.

use konnector_manifest::{Frequency, Manifest};
use sha2::{Digest as _, Sha256};

/// A crontab of six fields for this konnector, instance and account.
#[must_use]
pub fn generate(manifest: &Manifest, slug: &str, instance: &str, account: &str) -> String {
    let digest = Sha256::digest(format!("{slug}\0{instance}\0{account}"));
    let mut draws =
        digest.chunks_exact(4).map(|chunk| chunk.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)));
    let mut draw =
        |range: std::ops::Range<u32>| range.start + draws.next().unwrap_or_default() % range.len().max(1) as u32;

    let (start, end) = manifest.time_interval;
    let hours = if start < end { u32::from(start)..u32::from(end) } else { 0..5 };
    let (second, minute, hour) = (draw(0..60), draw(0..60), draw(hours));
    match manifest.frequency {
        Frequency::Hourly => format!("{second} {minute} * * * *"),
        Frequency::Daily => format!("{second} {minute} {hour} * * *"),
        Frequency::Weekly => format!("{second} {minute} {hour} * * {}", draw(0..7)),
        Frequency::Monthly => format!("{second} {minute} {hour} {} * *", draw(1..29)),
    }
}
