//! Lines of the server's log that a guest can cause. A run may cause few of them: a guest that asks ten thousand times for what fails must not
//! fill the operator's disk. What concerns the author of a konnector belongs into the log of the run, which has its own limits.

use std::cell::Cell;
use std::future::Future;

/// Lines of one run. Those that follow rarely say anything new.
const MAX_LINES: u32 = 10;

tokio::task_local! {
    static LINES: Cell<u32>;
}

/// Does the work of one run, within which [`admit`] counts.
pub async fn with_log_limit<T>(job: &str, work: impl Future<Output = T>) -> T {
    let counted = async {
        let done = work.await;
        let more = LINES.with(Cell::get).saturating_sub(MAX_LINES);
        if more > 0 {
            tracing::warn!(job, more, "lines about this run are left out: it caused more than {MAX_LINES}");
        }
        done
    };
    LINES.scope(Cell::new(0), counted).await
}

/// Whether a line about what this run does may be written, which then has to be done. Always so outside of a run.
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
        let of_runs = futures_util::join!(with_log_limit("a", admitted()), with_log_limit("b", admitted()));
        assert_eq!(of_runs, (MAX_LINES as usize, MAX_LINES as usize));
        assert_eq!(admitted().await, 1_000, "what no run causes is always told");
    }
}
