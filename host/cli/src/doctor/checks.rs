//! Checks of `konnector doctor`.

use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_platform::Schema;
use konnector_store::{FsckOptions, FsckProgress};

use super::Finding;
use crate::client::{self, Connection};
use crate::data_dir::DataDir;
use crate::output::bytes;

/// Free bytes below which the store may soon be unable to write.
const LOW_DISK_SPACE: u64 = 1 << 30;
/// Tolerated difference between this clock and that of a file's writer.
const MAX_CLOCK_SKEW: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Checks that the data folder and the secret files exist, and that only their owner has access.
pub fn files(data: &DataDir) -> Vec<Finding> {
    if !data.path().is_dir() {
        return vec![Finding::problem(
            format!("data folder {} does not exist", data.path().display()),
            "select it with --data-dir, or start a server, which creates it: konnector serve",
        )];
    }
    let mut findings = vec![check_mode(data.path(), 0o700)];
    for (path, description) in [(data.key_file(), "the master key"), (data.passphrase_file(), "the admin passphrase")] {
        if path.exists() {
            findings.push(check_mode(&path, 0o600));
        } else if data.has_data() {
            findings.push(Finding::warning(
                format!("{description} does not exist at {}", path.display()),
                "this is fine if the server gets it from elsewhere (--key-file, KONNECTOR_ADMIN_PASSPHRASE); otherwise restore it from a backup",
            ));
        }
    }
    findings
}

fn check_mode(path: &Path, mode: u32) -> Finding {
    match path.metadata() {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => {
            Finding::ok(format!("{} is private", path.display()))
        }
        Ok(metadata) => Finding::problem(
            format!("other users may read {} (mode {:03o})", path.display(), metadata.permissions().mode() & 0o777),
            format!("chmod {mode:03o} {}", path.display()),
        ),
        Err(error) => Finding::problem(
            format!("cannot read {}: {error}", path.display()),
            "run this command as the server's user",
        ),
    }
}

/// Checks that the server responds and accepts the passphrase; returns whether it does.
pub async fn server(connection: &Connection, findings: &mut Vec<Finding>) -> bool {
    let status = match connection.admin() {
        Ok(admin) => admin.json(reqwest::Method::GET, "status", &[]).await,
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            findings.push(Finding::problem(
                error.to_string(),
                "start the server with `konnector serve`; if it is running, select its data folder with --data-dir",
            ));
            return false;
        }
    };
    let (url, version) = (crate::output::cell(status.get("public_url")), crate::output::cell(status.get("version")));
    findings.push(Finding::ok(format!("the admin API responds, version {version}")));
    if version != env!("CARGO_PKG_VERSION") {
        findings.push(Finding::warning(
            format!("the server has version {version}, this program has version {}", env!("CARGO_PKG_VERSION")),
            "restart the server after an upgrade",
        ));
    }
    let ready = match client::build_http_client() {
        Ok(http) => http.get(format!("{url}/readyz")).timeout(Duration::from_secs(5)).send().await,
        Err(error) => {
            findings.push(Finding::problem(error.to_string(), ""));
            return true;
        }
    };
    findings.push(match ready {
        Ok(response) if response.status().is_success() => Finding::ok(format!("the public API is ready at {url}")),
        Ok(response) => Finding::problem(format!("{url} responds with {}", response.status()), "see the server's log"),
        Err(error) => Finding::problem(format!("{url} does not respond: {error}"), "see the server's log"),
    });
    true
}

/// Checks that the store is locked if and only if the server responds.
pub fn lock(data: &DataDir, reachable: bool) -> Option<Finding> {
    let path = data.store().join("LOCK");
    let file = File::options().read(true).write(true).open(&path).ok()?;
    Some(match (file.try_lock(), reachable) {
        (Err(TryLockError::WouldBlock), true) => Finding::ok("the server has locked the store"),
        (Err(TryLockError::WouldBlock), false) => Finding::problem(
            format!("a process has locked the store ({}), but no server responds", path.display()),
            "a server may be starting or stopping; wait a minute, then see its log",
        ),
        (Ok(()), true) => Finding::warning(
            format!("the responding server does not use {}", data.path().display()),
            "select its data folder with --data-dir",
        ),
        (Ok(()), false) => Finding::ok("the store is not locked"),
        (Err(TryLockError::Error(error)), _) => Finding::problem(
            format!("cannot lock {}: {error}", path.display()),
            "use a file system that supports locks; network file systems may not",
        ),
    })
}

/// Returns whether a process uses the store.
pub fn is_locked(data: &DataDir) -> bool {
    let lock = File::options().read(true).write(true).open(data.store().join("LOCK"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Checks the store for inconsistencies; returns `None` if there is no data or a process uses it.
pub async fn store(data: &DataDir) -> Option<Finding> {
    if !data.has_data() || is_locked(data) {
        return None;
    }
    let check = async {
        let store = crate::offline::open(data.store()).await?;
        let options = FsckOptions { deep: false, repair: false };
        let mut first = None;
        let on_progress = &mut |event: FsckProgress<'_>| {
            if let (FsckProgress::Found(problem), None) = (event, &first) {
                first = Some(problem.to_string());
            }
        };
        let summary = store.fsck(&Schema, options, on_progress).await?;
        store.close().await?;
        Ok::<_, crate::error::Error>((summary, first.unwrap_or_default()))
    };
    Some(match check.await {
        Ok((summary, _)) if summary.problems == 0 => {
            Finding::ok(format!("the store has {} entries and no problems", summary.entries))
        }
        Ok((summary, first)) => Finding::problem(
            format!("the store has {} problems; the first: {first}", summary.problems),
            format!("list them all with `{}`", crate::hint::command("fsck")),
        ),
        Err(error) => Finding::problem(error.to_string(), "the server cannot start either"),
    })
}

/// Checks the free disk space.
pub fn disk(data: &DataDir) -> Option<Finding> {
    let stats = rustix::fs::statvfs(data.path()).ok()?;
    let free = stats.f_bavail.saturating_mul(stats.f_frsize);
    Some(if free < LOW_DISK_SPACE {
        Finding::warning(
            format!("only {} of disk space is free for {}", bytes(free), data.path().display()),
            "free some disk space",
        )
    } else {
        Finding::ok(format!("{} of disk space is free for data", bytes(free)))
    })
}

/// Checks the clock, which schedules follow. It is wrong if it is earlier than the data or the build of this program.
pub fn clock(data: &DataDir, now: DateTime<Utc>) -> Finding {
    let modified_at =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok().map(DateTime::<Utc>::from);
    let program = std::env::current_exe().ok();
    let newest =
        [program.as_deref().and_then(modified_at), modified_at(&data.store().join("sled")), modified_at(&data.store())];
    match newest.into_iter().flatten().max() {
        Some(newest) if now + MAX_CLOCK_SKEW < newest => Finding::problem(
            format!("the clock shows {}, but files here are from {}", format_date(now), format_date(newest)),
            "set the clock (timedatectl set-ntp true); schedules and tokens depend on it",
        ),
        _ => Finding::ok(format!("the clock shows {}", format_date(now))),
    }
}

fn format_date(date: DateTime<Utc>) -> String {
    date.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Checks the WebAssembly target, which only authors need.
pub fn wasm_target() -> Finding {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output();
    let Some(sysroot) = sysroot.ok().filter(|output| output.status.success()) else {
        return Finding::ok("there is no Rust compiler; only konnector authors need one");
    };
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib/wasm32-wasip2/lib").is_dir() {
        return Finding::ok("konnectors can be compiled on this machine (wasm32-wasip2)");
    }
    Finding::warning(
        "konnectors cannot be compiled on this machine yet; only konnector authors need that",
        "rustup target add wasm32-wasip2",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_key_that_others_may_read_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("data"));
        data.create().unwrap();
        std::fs::write(data.key_file(), "key").unwrap();
        std::fs::set_permissions(data.key_file(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let findings = files(&data);
        let problem = findings.iter().find(|finding| finding.level == Level::Problem).unwrap();
        assert!(problem.message.contains("mode 644") && problem.advice.starts_with("chmod 600"), "{problem:?}");
    }

    #[test]
    fn a_clock_before_the_data_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        std::fs::create_dir_all(data.store()).unwrap();
        assert_eq!(clock(&data, Utc::now()).level, Level::Ok);
        assert_eq!(clock(&data, Utc::now() - chrono::TimeDelta::days(400)).level, Level::Problem);
    }

    #[test]
    fn a_held_store_without_a_server_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        assert!(lock(&data, false).is_none(), "no store, no lock");
        std::fs::create_dir_all(data.store()).unwrap();
        let file = File::create(data.store().join("LOCK")).unwrap();
        assert_eq!(lock(&data, false).unwrap().level, Level::Ok);
        assert_eq!(lock(&data, true).unwrap().level, Level::Warning);
        file.lock().unwrap();
        assert_eq!(lock(&data, true).unwrap().level, Level::Ok);
        assert_eq!(lock(&data, false).unwrap().level, Level::Problem);
    }
}
