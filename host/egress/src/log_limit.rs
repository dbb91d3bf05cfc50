//! Limits the lines of the server's log that a guest can cause. A run may cause only a few, because a guest that
//! repeats a failing request ten thousand times must not fill the operator's disk. Messages for the author of a
//! konnector belong in the log of the run, which has its own limits.

use std::cell::Cell;
use std::future::Future;

/// Maximum number of lines per run. Later lines rarely contain anything new.
const MAX_LINES: u32 = 10;

tokio::task_local! {
    static LINES: Cell<u32>;
}

/// Runs the work of one run, within which [`may_log`] counts.
pub async fn with_log_limit<T>(job: &str, work: impl Future<Output = T>) -> T {
    let counted = async {
        let output = work.await;
        let more = LINES.with(Cell::get).saturating_sub(MAX_LINES);
        if more > 0 {
            tracing::warn!(job, more, "omitted further log lines of this run, because it caused more than {MAX_LINES}");
        }
        output
    };
    LINES.scope(Cell::new(0), counted).await
}

/// Returns whether a line about this run may be logged, and counts it, so the caller must then log it. Always true
/// outside a run.
pub fn may_log() -> bool {
    let count = |lines: &Cell<u32>| {
        lines.set(lines.get().saturating_add(1));
        lines.get() <= MAX_LINES
    };
    LINES.try_with(count).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_run_may_cause_a_few_lines() {
        let admitted = async || (0..1_000).filter(|_| may_log()).count();
        let admitted_per_run = futures_util::join!(with_log_limit("a", admitted()), with_log_limit("b", admitted()));
        assert_eq!(admitted_per_run, (MAX_LINES as usize, MAX_LINES as usize));
        assert_eq!(admitted().await, 1_000, "lines that no run causes are always logged");
    }
}
