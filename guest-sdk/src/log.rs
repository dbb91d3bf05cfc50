//! Log lines, with the macros `debug!`, `info!`, `warn!` and `error!`.
//!
//! ```
//! # use konnector_sdk::info;
//! let (page, found) = (2, 12);
//! info!("page {page} read");
//! info!(count = found, "{} bills found", found);
//! ```
//!
//! No log line decides how the run ends, not even an error. Only the return value of the konnector's function does.

use std::fmt::Display;

use crate::host;

pub use crate::bindings::konnector::host::log::Level;

/// Writes one line; never fails. The host drops and counts lines beyond the run's budget.
pub fn emit(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log::emit(level, message, &fields);
}

#[cfg(target_family = "wasm")]
pub(crate) fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    host::log::emit(Level::Error, &panic.to_string(), &[]);
}

/// One log line of the given level: `log_line!(level, name = value, …, "format", arguments…)`.
#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($level:ident, $($name:ident = $value:expr,)* $message:literal $(, $argument:expr)* $(,)?) => {
        $crate::log::emit(
            $crate::log::Level::$level,
            &::std::format!($message $(, $argument)*),
            &[$((::core::stringify!($name), &$value as &dyn ::std::fmt::Display)),*],
        )
    };
}

/// Logs a line for the author, for debugging.
#[macro_export]
macro_rules! debug { ($($line:tt)+) => { $crate::log_line!(Debug, $($line)+) }; }
/// Logs a line about the progress of the run.
#[macro_export]
macro_rules! info { ($($line:tt)+) => { $crate::log_line!(Info, $($line)+) }; }
/// Logs a line about something unexpected.
#[macro_export]
macro_rules! warn { ($($line:tt)+) => { $crate::log_line!(Warn, $($line)+) }; }
/// Logs a line about an error. It does not fail the run.
#[macro_export]
macro_rules! error { ($($line:tt)+) => { $crate::log_line!(Error, $($line)+) }; }

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_has_a_level_a_text_and_fields() {
        let host = crate::testing::MockHost::new();
        let page = 2;
        crate::info!("page {page} of {}", 3);
        crate::warn!(item = "bill 7", size = 12, "no PDF");
        assert_eq!(host.log(), ["info: page 2 of 3", "warn: no PDF item=bill 7 size=12"]);
    }
}
