//! Measures the peak memory of this process. Each test runs in its own process (cargo-nextest), so nothing else is
//! counted.

use std::future::Future;

/// Maximum memory growth for a hostile response.
const MAX_GROWTH_BYTES: u64 = 16 << 20;

/// Runs `work` and asserts that the process grows by less than 16 MiB.
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

/// On other systems the tests check only the result, not its memory use.
#[cfg(not(target_os = "linux"))]
fn peak() -> u64 {
    0
}
