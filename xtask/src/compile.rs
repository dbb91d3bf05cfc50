//! Compilation with cargo, and its progress on a terminal or in a log.

use std::io::{self, BufReader, IsTerminal as _, Read};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::Command;
use crate::workspace::Workspace;

/// Time between two lines of progress in a log: the reader sees that it goes on, and a first build has less than a
/// hundred lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// Width of the progress bar that cargo draws for us. Cargo omits names of crates that do not fit.
const PROGRESS_WIDTH: &str = "120";

/// A profile of the workspace's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For tests and the demo.
    Dev,
    /// For measurements.
    Release,
}

/// Compiles programs of this workspace with the features that its tests use.
///
/// Cargo unifies the features of a dependency over the selected packages, and counts dev-dependencies only if a test,
/// bench or example is selected. `--workspace` with an example selects the same features as
/// `cargo nextest run --workspace`, so that none of them compiles dependencies again. The example is the smallest.
pub fn programs(workspace: &Workspace, names: &[&str], profile: Profile) -> Result<()> {
    let mut build = workspace.cargo().args(["build", "--workspace", "--example", "speaks"]);
    if profile == Profile::Release {
        build = build.arg("--release");
    }
    run(build.args(names.iter().flat_map(|name| ["--bin", name])))
}

/// Runs `cargo build` to its end.
///
/// On a terminal, cargo draws its progress bar. Otherwise this prints a line every [`PROGRESS_INTERVAL`].
pub fn run(build: Command) -> Result<()> {
    if io::stderr().is_terminal() {
        return build.run();
    }
    let build = build.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", PROGRESS_WIDTH);
    let name = build.to_string();
    let mut child = build.spawn(|command| {
        command.stderr(Stdio::piped());
    })?;
    let stderr = child.stderr.take().with_context(|| format!("cannot read the output of `{name}`"))?;
    let (sender, chunks) = mpsc::channel();
    let reader = std::thread::spawn(move || read(stderr, &sender));
    log(&chunks, PROGRESS_INTERVAL, |line| eprintln!("{line}"));
    drop(reader.join());
    let status = child.wait().with_context(|| format!("cannot wait for the end of `{name}`"))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{name}` failed ({status})")
}

/// A part of cargo's output.
#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    /// Ends with a line feed.
    Line(String),
    /// Ends with a carriage return, so that the next chunk overwrites it.
    Bar(String),
}

/// Sends the chunks of `output` until it ends.
fn read(output: impl Read, chunks: &Sender<Chunk>) {
    let mut text = Vec::new();
    let take = |text: &mut Vec<u8>| String::from_utf8_lossy(&std::mem::take(text)).into_owned();
    for byte in BufReader::new(output).bytes() {
        let chunk = match byte {
            Ok(b'\n') => Chunk::Line(take(&mut text)),
            Ok(b'\r') => Chunk::Bar(take(&mut text)),
            Ok(byte) => {
                text.push(byte);
                continue;
            }
            Err(_) => break,
        };
        if chunks.send(chunk).is_err() {
            return;
        }
    }
    if !text.is_empty() {
        drop(chunks.send(Chunk::Line(take(&mut text))));
    }
}

/// Prints warnings and errors at once, and the progress every `interval`, until the sender is dropped.
fn log(chunks: &Receiver<Chunk>, interval: Duration, mut print: impl FnMut(&str)) {
    let mut progress = None;
    let mut due = Instant::now();
    loop {
        match chunks.recv_timeout(due.saturating_duration_since(Instant::now())) {
            // The progress replaces one line for each crate.
            Ok(Chunk::Line(line)) if is_crate(&line) => {}
            Ok(Chunk::Line(line)) => print(&line),
            Ok(Chunk::Bar(bar)) => progress = describe(&bar).or(progress),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= due {
            due = Instant::now()
                + match &progress {
                    Some(progress) => {
                        print(progress);
                        interval
                    }
                    None => interval.min(Duration::from_secs(1)),
                };
        }
    }
}

/// Returns whether cargo reports a step of one crate.
fn is_crate(line: &str) -> bool {
    matches!(line.split_whitespace().next(), Some("Compiling" | "Downloaded" | "Fresh"))
}

/// Returns a line for cargo's bar `Building [==>    ] 143/512: gix-pack, wasmtime`.
fn describe(bar: &str) -> Option<String> {
    let (_, state) = bar.rsplit_once("] ")?;
    let (count, crates) = state.split_once(':').unwrap_or((state, ""));
    let (finished, total) = count.trim().split_once('/')?;
    let (finished, total) = (finished.parse::<u32>().ok()?, total.parse::<u32>().ok()?);
    let crates = crates.trim();
    let now = if crates.is_empty() { String::new() } else { format!(", now {crates}") };
    Some(format!("  … {finished} of {total} steps{now}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of cargo 1.95 with a progress bar on a pipe.
    const OUTPUT: &str = "   Compiling libc v0.2.191\n    Building [         ] 0/7: libc(build.rs)     \r    \
         Building [===>     ] 3/7: anyhow, libc(build)     \rwarning: unused import\n  --> src/main.rs:1:5\n    \
         Building [=======> ] 6/7: pp(bin)     \r    Finished `dev` profile in 0.42s\n";

    fn chunks(output: &str) -> Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel();
        read(output.as_bytes(), &sender);
        receiver
    }

    #[test]
    fn a_log_has_progress_and_warnings_but_no_line_for_each_crate() {
        let mut lines = Vec::new();
        log(&chunks(OUTPUT), Duration::ZERO, |line| lines.push(line.to_owned()));
        insta::assert_snapshot!(lines.join("\n"), @"
          … 0 of 7 steps, now libc(build.rs)
          … 3 of 7 steps, now anyhow, libc(build)
        warning: unused import
          … 3 of 7 steps, now anyhow, libc(build)
          --> src/main.rs:1:5
          … 3 of 7 steps, now anyhow, libc(build)
          … 6 of 7 steps, now pp(bin)
            Finished `dev` profile in 0.42s
          … 6 of 7 steps, now pp(bin)
        ");
    }

    #[test]
    fn progress_is_printed_once_in_an_interval() {
        let mut lines = Vec::new();
        log(&chunks(OUTPUT), Duration::from_secs(3600), |line| lines.push(line.to_owned()));
        // The first line may be a second late, and cargo is finished by then.
        lines.retain(|line| !line.contains("steps"));
        assert_eq!(lines, ["warning: unused import", "  --> src/main.rs:1:5", "    Finished `dev` profile in 0.42s"]);
    }

    #[test]
    fn other_bars_and_an_unfinished_line_are_no_progress() {
        assert_eq!(describe("  Downloading [==>  ] 3 crates, remaining bytes: 1.2MB"), None);
        assert_eq!(describe("    Building [=====>] 6/7").as_deref(), Some("  … 6 of 7 steps"));
        assert_eq!(chunks("error: out of memory").recv().unwrap(), Chunk::Line("error: out of memory".to_owned()));
    }
}
