//! Checks the schedule. The due time of a trigger is authoritative; its place on the timeline is derived.

use super::{DueEntry, TriggerSchedule};
use crate::error::Result;
use crate::fsck::{Checker, SourceEntry};
use crate::key::{self, Keyspace, Timeline};
use crate::view;

/// Checks the due time of a trigger, and that its place on the timeline exists.
pub(crate) fn check_schedule(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let description = "the due time of a trigger";
    let Some(TriggerSchedule { due }) = check.read_or_report(key, bytes, description) else { return Ok(()) };
    match check.document_at(&key::with_keyspace(key, Keyspace::Document))? {
        SourceEntry::Unreadable => {}
        SourceEntry::Absent => check.report_stray(key, bytes, description, "its document is missing"),
        SourceEntry::Found(trigger) => {
            let entry = DueEntry { trigger: trigger.clone(), due };
            let entry_key = key::of_timeline(Timeline::Due, due, &trigger);
            check.expect_entry(entry_key, &entry, "the schedule entry", trigger)?;
        }
    }
    Ok(())
}

/// Checks a place on the timeline.
pub(crate) fn check_due_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let description = "a schedule entry";
    let Ok(DueEntry { trigger, due }) = view::decode(key, bytes) else {
        check.report_stray(key, bytes, description, "it cannot be read");
        return Ok(());
    };
    let is_due = match check.read_source::<TriggerSchedule>(&key::of_document(Keyspace::Schedule, &trigger)?)? {
        SourceEntry::Unreadable => true,
        SourceEntry::Found(schedule) => schedule.due == due,
        SourceEntry::Absent => false,
    };
    if !is_due || key::of_timeline(Timeline::Due, due, &trigger) != key {
        check.report_stray(key, bytes, description, format!("{trigger} is not due at that time"));
    }
    Ok(())
}
