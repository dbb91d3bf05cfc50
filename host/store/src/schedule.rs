//! The schedule: when each trigger is due next. Exactly one commit consumes each due instant.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::document;
use crate::error::{Conflict, Result};
use crate::id::DocRef;
use crate::key::{self, Keyspace, Timeline};
use crate::kv::Kv;
use crate::view::{self, View};

/// When a trigger is due, stored alongside its document.
#[derive(Debug, Serialize, Deserialize)]
struct TriggerSchedule {
    #[serde(with = "ts_microseconds")]
    due: DateTime<Utc>,
}

/// A trigger's entry on the timeline of all triggers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DueEntry {
    trigger: DocRef,
    #[serde(with = "ts_microseconds")]
    due: DateTime<Utc>,
}

mod check;

pub(crate) use check::{check_due_entry, check_schedule};

pub(crate) fn set(view: &mut View<'_>, trigger: &DocRef, due: Option<DateTime<Utc>>) -> Result<()> {
    let key = key::of_document(Keyspace::Schedule, trigger)?;
    if let Some(schedule) = view.get::<TriggerSchedule>(&key)? {
        view.remove(key::of_timeline(Timeline::Due, schedule.due, trigger));
        view.remove(key.clone());
    }
    if let Some(due) = due {
        document::require(view, trigger)?;
        let due = due.trunc_subsecs(6);
        view.put(key, &TriggerSchedule { due })?;
        view.put(key::of_timeline(Timeline::Due, due, trigger), &DueEntry { trigger: trigger.clone(), due })?;
    }
    Ok(())
}

pub(crate) fn fire(
    view: &mut View<'_>,
    trigger: &DocRef,
    instant: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
) -> Result<()> {
    let current = view.get::<TriggerSchedule>(&key::of_document(Keyspace::Schedule, trigger)?)?;
    if current.is_none_or(|schedule| schedule.due != instant.trunc_subsecs(6)) {
        return Err(Conflict::NotDue { trigger: trigger.clone(), instant }.into());
    }
    set(view, trigger, next)
}

pub(crate) fn due(kv: &dyn Kv, now: DateTime<Utc>, limit: usize) -> Result<Vec<(DocRef, DateTime<Utc>)>> {
    let entries = view::scan_readable::<DueEntry>(kv, key::timeline(Timeline::Due, Some(now)), limit)?;
    Ok(entries.into_iter().map(|entry| (entry.trigger, entry.due)).collect())
}

pub(crate) fn next_due_at(kv: &dyn Kv) -> Result<Option<DateTime<Utc>>> {
    let first = view::scan_readable::<DueEntry>(kv, key::timeline(Timeline::Due, None), 1)?;
    Ok(first.into_iter().next().map(|entry| entry.due))
}

pub(crate) fn due_at(kv: &dyn Kv, trigger: &DocRef) -> Result<Option<DateTime<Utc>>> {
    let schedule = view::read::<TriggerSchedule>(kv, &key::of_document(Keyspace::Schedule, trigger)?)?;
    Ok(schedule.map(|schedule| schedule.due))
}
