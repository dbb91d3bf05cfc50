//! Points between two durable steps where a test can end the process or make the step fail.
//!
//! Compiled in only with the feature `failpoints`, which only tests enable. With it,
//! `KONNECTOR_FAILPOINT=commit.applied=abort` ends the process when it first reaches that point, `…=error` makes the
//! step fail with an error of the disk, and `…=abort#7` does so when it is reached for the seventh time.

#[cfg(not(feature = "failpoints"))]
use std::io;

/// Triggers the failpoint that a test armed under this name; does nothing without one.
///
/// # Errors
///
/// If a test armed the failpoint with the action `error`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use ordered::hit;

#[cfg(feature = "failpoints")]
mod ordered {
    use std::io;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct ArmedFailpoint {
        name: String,
        abort: bool,
        remaining_hits: AtomicU64,
    }

    static ARMED: LazyLock<Option<ArmedFailpoint>> = LazyLock::new(|| {
        let text = std::env::var("KONNECTOR_FAILPOINT").ok()?;
        let (name, action) = text.split_once('=')?;
        let (action, time) = action.split_once('#').unwrap_or((action, "1"));
        Some(ArmedFailpoint {
            name: name.to_owned(),
            abort: action == "abort",
            remaining_hits: AtomicU64::new(time.parse().ok()?),
        })
    });

    /// Triggers the failpoint if a test armed it and it is reached for the chosen time.
    ///
    /// # Errors
    ///
    /// If a test armed the failpoint with the action `error`.
    pub fn hit(name: &str) -> io::Result<()> {
        let Some(failpoint) = ARMED.as_ref().filter(|failpoint| failpoint.name == name) else { return Ok(()) };
        if failpoint.remaining_hits.fetch_sub(1, Ordering::SeqCst) != 1 {
            return Ok(());
        }
        if failpoint.abort {
            // Like a power failure, without cleanup.
            std::process::abort();
        }
        Err(io::Error::other(format!("the failpoint {name}")))
    }
}
