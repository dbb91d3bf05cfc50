//! The format of a data folder, and the migrations from older formats to the current one.

use std::fs;
use std::path::Path;

use super::database::copy_dir;
use super::sync_dir;
use crate::error::{Error, Result};
use crate::sled_kv::make_durable;
use crate::{failpoint, frame, key};

/// The format of the first release.
const FIRST_FORMAT: u32 = 1;

/// Step from one format to the next.
pub(super) struct Migration {
    /// Description for the log.
    pub(super) description: &'static str,
    /// Changes the entries. It must be idempotent, because it runs again if a crash interrupts it.
    pub(super) run: fn(&sled::Db) -> Result<()>,
}

/// The steps since the first release, in order. A folder of format `n` still needs the steps from the `n`th on.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { description: "adding every document to the change feed", run: crate::feed::backfill_feeds }];

/// The format that this program writes, and the newest that it reads.
#[expect(clippy::cast_possible_truncation, reason = "there are a few")]
pub(crate) const CURRENT_FORMAT: u32 = FIRST_FORMAT + MIGRATIONS.len() as u32;

/// The migrations that a folder needs.
pub(super) enum MigrationPlan<'a> {
    /// The folder has the current format, or is new.
    UpToDate,
    /// The folder has format `from`, and these steps lead to the current one.
    Migrate { from: u32, steps: &'a [Migration] },
}

/// Compares a folder's format with the current one.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`] if the format of the folder is newer.
pub(super) fn plan_migration<'a>(db: &sled::Db, dir: &Path, steps: &'a [Migration]) -> Result<MigrationPlan<'a>> {
    let Some(bytes) = db.get(key::format())? else { return Ok(MigrationPlan::UpToDate) };
    let found: u32 = frame::decode(entry_name, &bytes)?;
    let applied = found.checked_sub(FIRST_FORMAT).and_then(|applied| usize::try_from(applied).ok());
    match applied.and_then(|applied| steps.get(applied..)) {
        Some([]) => Ok(MigrationPlan::UpToDate),
        Some(steps) => Ok(MigrationPlan::Migrate { from: found, steps }),
        None => {
            let program = db.get(key::program())?.and_then(|bytes| frame::decode(entry_name, &bytes).ok());
            Err(Error::UnsupportedFormat { path: dir.to_owned(), found, supported: newest_format(steps), program })
        }
    }
}

/// Copies a closed database to `backups/format-<number>`, unless an earlier attempt did.
pub(super) fn back_up(dir: &Path, database: &Path, format: u32) -> Result<()> {
    let backups = dir.join("backups");
    super::create_dir(&backups)?;
    let (copy, partial) = (backups.join(format!("format-{format}")), backups.join(format!("format-{format}.partial")));
    if copy.exists() {
        return Ok(());
    }
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
    }
    copy_dir(database, &partial)?;
    failpoint::hit("migration.copied").map_err(Error::io("copy", database))?;
    fs::rename(&partial, &copy).map_err(Error::io("rename", &partial))?;
    sync_dir(&backups)?;
    tracing::info!(copy = %copy.display(), "copied the database before changing its format; delete the copy once everything works");
    Ok(())
}

/// Runs the steps; each is durable before the next starts.
pub(super) fn migrate(db: &sled::Db, database: &Path, from: u32, steps: &[Migration]) -> Result<()> {
    for (format, step) in (from + 1..).zip(steps) {
        tracing::info!(format, "{}", step.description);
        (step.run)(db)?;
        make_durable(db, database)?;
        failpoint::hit("migration.stepped").map_err(Error::io("write", database))?;
        db.insert(key::format(), frame::encode(entry_name, &format)?)?;
        make_durable(db, database)?;
        failpoint::hit("migration.noted").map_err(Error::io("write", database))?;
    }
    Ok(())
}

/// Records the current format and version, unless they are recorded already; the next barrier makes this durable.
pub(super) fn save_format(db: &sled::Db, steps: &[Migration]) -> Result<()> {
    let entries = [
        (key::format(), frame::encode(entry_name, &newest_format(steps))?),
        (key::program(), frame::encode(entry_name, &env!("CARGO_PKG_VERSION"))?),
    ];
    for (key, value) in entries {
        if db.get(&key)?.as_deref() != Some(&value) {
            db.insert(key, value)?;
        }
    }
    Ok(())
}

fn newest_format(steps: &[Migration]) -> u32 {
    u32::try_from(steps.len()).map_or(u32::MAX, |steps| FIRST_FORMAT.saturating_add(steps))
}

fn entry_name() -> String {
    "the format of the data folder".to_owned()
}
