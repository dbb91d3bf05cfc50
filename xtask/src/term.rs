//! Output for the person at the terminal.

use std::time::{Duration, Instant};

use owo_colors::{OwoColorize as _, Stream};

/// Prints a heading.
pub fn heading(text: &str) {
    eprintln!("\n{}", text.if_supports_color(Stream::Stderr, |text| text.bold()));
}

/// Prints a success message.
pub fn done(text: &str, took: Duration) {
    let mark = "✓".if_supports_color(Stream::Stderr, |mark| mark.green());
    let time = duration(took);
    let time = time.if_supports_color(Stream::Stderr, |time| time.dimmed());
    eprintln!("{mark} {text} {time}");
}

/// Prints a remark.
pub fn note(text: &str) {
    eprintln!("  {}", text.if_supports_color(Stream::Stderr, |text| text.dimmed()));
}

/// Prints a warning.
pub fn warning(text: &str) {
    eprintln!("{} {text}", "!".if_supports_color(Stream::Stderr, |mark| mark.yellow()));
}

/// Prints the failure that ends the program.
pub fn failure(error: &anyhow::Error) {
    eprintln!("{} {error:#}", "error:".if_supports_color(Stream::Stderr, |mark| mark.red()));
}

/// Runs `work` and prints how long it took.
pub fn timed<T>(text: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let result = work()?;
    done(text, start.elapsed());
    Ok(result)
}

/// Seconds with one decimal, and minutes if there are any.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02.0} s", time.as_secs() / 60, seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
    }
}
