//! Checks the schedule: when a trigger is due decides, and its place on the timeline follows.

use super::{Place, Schedule};
use crate::error::Result;
use crate::fsck::{Checker, Primary};
use crate::key::{self, Space, Timeline};
use crate::view;

/// Checks when a trigger is due, and that its place is there.
pub(crate) fn check_schedule(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = "when a trigger is due";
    let Some(Schedule { due }) = check.primary(key, bytes, what) else { return Ok(()) };
    match check.document_at(&key::in_space(key, Space::Document))? {
        Primary::Unreadable => {}
        Primary::Absent => check.stray(key, bytes, what, "its document is gone"),
        Primary::Is(trigger) => {
            let place = Place { trigger: trigger.clone(), due };
            let at = key::on_timeline(Timeline::Due, due, &trigger);
            check.expect(at, &place, "the place in the schedule", trigger)?;
        }
    }
    Ok(())
}

/// Checks a place in the order of time.
pub(crate) fn check_place(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let what = "a place in the schedule";
    let Ok(Place { trigger, due }) = view::decode(key, bytes) else {
        check.stray(key, bytes, what, "it cannot be read");
        return Ok(());
    };
    let is_due = match check.look::<Schedule>(&key::of_document(Space::Schedule, &trigger)?)? {
        Primary::Unreadable => true,
        Primary::Is(schedule) => schedule.due == due,
        Primary::Absent => false,
    };
    if !is_due || key::on_timeline(Timeline::Due, due, &trigger) != key {
        check.stray(key, bytes, what, format!("{trigger} is not due then"));
    }
    Ok(())
}
