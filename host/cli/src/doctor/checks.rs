//! The checks.

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

/// Below this a store may soon not be able to write.
const LOW_DISK_SPACE: u64 = 1 << 30;
/// A clock may differ this much from that of a file's writer.
const MAX_CLOCK_SKEW: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Checks that the data folder and the secret files exist, and that only their owner has access.
pub fn files(data: &DataDir) -> Vec<Finding> {
    if !data.path().is_dir() {
        let what = format!("there is no data folder {}", data.path().display());
        return vec![Finding::problem(
            what,
            "name it with --data-dir, or start a server, which makes it: konnector serve",
        )];
    }
    let mut findings = vec![check_mode(data.path(), 0o700)];
    for (path, meaning) in [(data.key_file(), "the master key"), (data.passphrase_file(), "the admin passphrase")] {
        if path.exists() {
            findings.push(check_mode(&path, 0o600));
        } else if data.has_data() {
            findings.push(Finding::warning(
                format!("{meaning} is not at {}", path.display()),
                "fine if the server gets it from elsewhere (--key-file, KONNECTOR_ADMIN_PASSPHRASE); else restore it from a backup",
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
            format!("others may read {} (mode {:03o})", path.display(), metadata.permissions().mode() & 0o777),
            format!("chmod {mode:03o} {}", path.display()),
        ),
        Err(error) => Finding::problem(
            format!("{} cannot be read: {error}", path.display()),
            "run this as the user that the server runs as",
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
                "start the server with `konnector serve`; if it runs, name its data folder with --data-dir",
            ));
            return false;
        }
    };
    let (url, version) = (crate::output::cell(status.get("public_url")), crate::output::cell(status.get("version")));
    findings.push(Finding::ok(format!("the admin API answers, version {version}")));
    if version != env!("CARGO_PKG_VERSION") {
        findings.push(Finding::warning(
            format!("the server is version {version}, this program is {}", env!("CARGO_PKG_VERSION")),
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
        Ok(answer) if answer.status().is_success() => Finding::ok(format!("the public API is ready at {url}")),
        Ok(answer) => Finding::problem(format!("{url} answers {}", answer.status()), "the server's log says why"),
        Err(error) => Finding::problem(format!("{url} does not answer: {error}"), "the server's log says why"),
    });
    true
}

/// Checks that the responding server holds the store, and that nobody does if none responds.
pub fn lock(data: &DataDir, reachable: bool) -> Option<Finding> {
    let path = data.store().join("LOCK");
    let file = File::options().read(true).write(true).open(&path).ok()?;
    Some(match (file.try_lock(), reachable) {
        (Err(TryLockError::WouldBlock), true) => Finding::ok("the store is held by the server"),
        (Err(TryLockError::WouldBlock), false) => Finding::problem(
            format!("a process holds the store ({}) but no server answers", path.display()),
            "a server may be starting or stopping; wait a minute. If it stays, its log says why",
        ),
        (Ok(()), true) => Finding::warning(
            format!("the server that answers does not use {}", data.path().display()),
            "name its data folder with --data-dir",
        ),
        (Ok(()), false) => Finding::ok("the store is free"),
        (Err(TryLockError::Error(error)), _) => Finding::problem(
            format!("{} cannot be locked: {error}", path.display()),
            "the file system must support locks; a network file system may not",
        ),
    })
}

/// Whether a process uses the store.
pub fn is_locked(data: &DataDir) -> bool {
    let lock = File::options().read(true).write(true).open(data.store().join("LOCK"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Checks the store for inconsistencies; only if no process uses it.
pub async fn store(data: &DataDir) -> Option<Finding> {
    if !data.has_data() || is_locked(data) {
        return None;
    }
    let look = async {
        let store = crate::offline::open(data.store()).await?;
        let options = FsckOptions { deep: false, repair: false };
        let mut first = None;
        let told = &mut |event: FsckProgress<'_>| {
            if let (FsckProgress::Found(problem), None) = (event, &first) {
                first = Some(problem.to_string());
            }
        };
        let summary = store.fsck(&Schema, options, told).await?;
        store.close().await?;
        Ok::<_, crate::error::Error>((summary, first.unwrap_or_default()))
    };
    Some(match look.await {
        Ok((summary, _)) if summary.problems == 0 => {
            Finding::ok(format!("nothing is wrong with the {} entries of the store", summary.entries))
        }
        Ok((summary, first)) => Finding::problem(
            format!("{} things are wrong with the store, the first: {first}", summary.problems),
            "see all with: konnector fsck",
        ),
        Err(error) => Finding::problem(error.to_string(), "the server would not start either"),
    })
}

/// Checks the free disk space.
pub fn disk(data: &DataDir) -> Option<Finding> {
    let room = rustix::fs::statvfs(data.path()).ok()?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    Some(if free < LOW_DISK_SPACE {
        Finding::warning(format!("only {} are free for {}", bytes(free), data.path().display()), "free some space")
    } else {
        Finding::ok(format!("{} are free for data", bytes(free)))
    })
}

/// Checks the clock, which schedules follow. It is wrong if it is earlier than the data or the build of this program.
pub fn clock(data: &DataDir, now: DateTime<Utc>) -> Finding {
    let written =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok().map(DateTime::<Utc>::from);
    let program = std::env::current_exe().ok();
    let newest = [program.as_deref().and_then(written), written(&data.store().join("sled")), written(&data.store())];
    match newest.into_iter().flatten().max() {
        Some(newest) if now + MAX_CLOCK_SKEW < newest => Finding::problem(
            format!("the clock says {}, but files here are from {}", format_date(now), format_date(newest)),
            "set the clock (timedatectl set-ntp true): schedules and tokens follow it",
        ),
        _ => Finding::ok(format!("the clock says {}", format_date(now))),
    }
}

fn format_date(date: DateTime<Utc>) -> String {
    date.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Checks the WebAssembly target, which only authors need.
pub fn wasm_target() -> Finding {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output();
    let Some(sysroot) = sysroot.ok().filter(|output| output.status.success()) else {
        return Finding::ok("no Rust compiler; only authors of konnectors need one");
    };
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib/wasm32-wasip2/lib").is_dir() {
        return Finding::ok("konnectors can be compiled here (wasm32-wasip2)");
    }
    Finding::warning(
        "konnectors cannot be compiled here yet; only authors need that",
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
