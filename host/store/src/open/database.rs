//! Opens sled in a way that survives a kill at any moment.
//!
//! During startup, sled writes its state to `snap.<number>.generating` and then renames the file. If it is killed in
//! between, every later start mistakes that torn file for the newest state and fails (spacejam/sled#1527). The older
//! states and the log are intact, so the torn file is set aside first.

use std::any::Any;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::error::{Error, Result};

/// sled releases its files a moment after its last handle is dropped.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the database in `dir`. Files that prevent this are moved or copied to `quarantine`, never deleted.
pub(super) fn open(dir: &Path, quarantine: &Path, cache_bytes: u64) -> Result<sled::Db> {
    for torn in state_files(dir)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "generating")) {
        move_to_quarantine(&torn, quarantine)?;
    }
    let reason = match try_open(dir, cache_bytes)? {
        OpenAttempt::Opened(db) => return Ok(*db),
        OpenAttempt::Damaged(reason) => reason,
    };
    let states_left = state_files(dir)?;
    if states_left.is_empty() {
        // The whole log was already read, perhaps by an earlier start, which made a copy.
        return Err(Error::DatabaseCorrupt { path: dir.to_owned(), quarantine: quarantine.to_owned(), reason });
    }
    let copy = quarantine.join(format!("{}-sled", timestamp()));
    tracing::error!(%reason, copy = %copy.display(), "cannot open the database; copying it, then rebuilding it from its log");
    copy_dir(dir, &copy)?;
    for state in states_left {
        move_to_quarantine(&state, quarantine)?;
    }
    match try_open(dir, cache_bytes)? {
        OpenAttempt::Opened(db) => Ok(*db),
        OpenAttempt::Damaged(reason) => {
            Err(Error::DatabaseCorrupt { path: dir.to_owned(), quarantine: quarantine.to_owned(), reason })
        }
    }
}

enum OpenAttempt {
    Opened(Box<sled::Db>),
    Damaged(String),
}

fn try_open(dir: &Path, cache_bytes: u64) -> Result<OpenAttempt> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(1000))
        .use_compression(false);
    let started = Instant::now();
    loop {
        // On some damage, sled panics instead of returning an error.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(OpenAttempt::Opened(Box::new(db))),
            Ok(Err(error @ sled::Error::Corruption { .. })) => return Ok(OpenAttempt::Damaged(error.to_string())),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if started.elapsed() > LOCK_TIMEOUT {
                    return Err(Error::Locked { path: dir.to_owned(), process: None });
                }
                sleep(Duration::from_millis(20));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(panic) => return Ok(OpenAttempt::Damaged(panic_message(panic.as_ref()))),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("sled panicked").to_owned()
}

/// Returns sled's state files, finished or not.
fn state_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn move_to_quarantine(file: &Path, quarantine: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let destination = quarantine.join(format!("{}-{name}", timestamp()));
    fs::rename(file, &destination).map_err(Error::io("set aside", file))?;
    tracing::warn!(from = %file.display(), to = %destination.display(), "set aside a state file of the database");
    Ok(())
}

/// Copies a folder with all its contents, durably.
pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(Error::io("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("list", from))? {
        let entry = entry.map_err(Error::io("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(Error::io("read", &source))?.is_dir() {
            copy_dir(&source, &target)?;
        } else {
            fs::copy(&source, &target)
                .and_then(|_| File::options().write(true).open(&target)?.sync_all())
                .map_err(Error::io("copy", &source))?;
        }
    }
    super::sync_dir(to)
}

/// Returns a name that sorts by time and is unique.
fn timestamp() -> String {
    Utc::now().format("%Y%m%dT%H%M%S%.6fZ").to_string()
}
