//! How much memory this process has held at most. The tests run one to a process (cargo-nextest), so nothing else counts.

use std::future::Future;

/// What a hostile answer may cost.
const MAX_GROWTH_BYTES: u64 = 16 << 20;

/// Does something, and makes sure that the process grows by less than 16 MiB.
pub async fn with_bounded_memory<T>(work: impl Future<Output = T>) -> T {
    let before = peak();
    let result = work.await;
    let grown = peak().saturating_sub(before);
    assert!(grown < MAX_GROWTH_BYTES, "the process grew by {} KiB", grown >> 10);
    result
}

#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Elsewhere the tests check what is answered and not what it costs.
#[cfg(not(target_os = "linux"))]
fn peak() -> u64 {
    0
}
