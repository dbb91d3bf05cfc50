//! Background processes of the demo, which end together with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::Command;

/// Time for a process to stop before it is killed; the server promises ten seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Running processes; dropping it stops them.
pub struct Processes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    processes: Mutex<Vec<Process>>,
    /// Set while the demo only waits, so that Ctrl-C ends it successfully.
    is_waiting: AtomicBool,
}

struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Processes {
    /// Creates an empty list, and stops the processes on Ctrl-C.
    pub fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let handler_state = Arc::clone(&shared);
        ctrlc::set_handler(move || {
            handler_state.stop();
            std::process::exit(if handler_state.is_waiting.load(Ordering::SeqCst) { 0 } else { 130 });
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Self(shared))
    }

    /// Starts a process with its output redirected to a log.
    pub fn start(&self, name: &'static str, command: Command, log: &Path) -> Result<()> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone()?;
        let child = command.spawn(|command| {
            use std::os::unix::process::CommandExt as _;
            // A separate process group, so that Ctrl-C reaches only us, and we stop the processes in order.
            command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        })?;
        self.0.lock().push(Process { name, child, log: log.to_owned() });
        Ok(())
    }

    /// Calls `ready` until it returns a value.
    ///
    /// # Errors
    ///
    /// If a process ends or `ready` returns no value within 30 seconds. The error includes the end of the log.
    pub fn wait_until<T>(&self, activity: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            self.check()?;
            if Instant::now() > deadline {
                bail!("{activity} took more than 30 seconds; see the logs: {}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a process ends by itself, which is an error; Ctrl-C ends the demo before that.
    pub fn wait(&self) -> Result<()> {
        self.0.is_waiting.store(true, Ordering::SeqCst);
        loop {
            self.check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn check(&self) -> Result<()> {
        for process in self.0.lock().iter_mut() {
            if let Some(status) = process.child.try_wait()? {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
                bail!(
                    "{} exited unexpectedly ({status}). The end of its log {}:\n{tail}",
                    process.name,
                    process.log.display()
                );
            }
        }
        Ok(())
    }

    fn logs(&self) -> String {
        self.0.lock().iter().map(|process| process.log.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the processes in reverse order: the server before the vendor that it contacts.
    fn stop(&self) {
        let mut processes = self.lock();
        while let Some(process) = processes.pop() {
            process.stop();
        }
    }
}

impl Process {
    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && matches!(self.child.try_wait(), Ok(None))
        {
            // It may have ended in the meantime, which is fine.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                crate::term::warning(&format!(
                    "{} did not stop within {} s and is killed",
                    self.name,
                    STOP_TIMEOUT.as_secs()
                ));
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
