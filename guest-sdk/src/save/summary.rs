use crate::Error;
use crate::bindings::konnector::host::types::SaveOutcome;

/// Result of a save. As the return value of a konnector it becomes the report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "the problems in it belong into the run's report"]
pub struct SaveSummary {
    /// Number of items that did not exist before.
    pub created: usize,
    /// Number of items that existed and changed.
    pub updated: usize,
    /// Number of items that existed and did not change.
    pub unchanged: usize,
    /// Number of items left for the next run, for lack of time.
    pub postponed: usize,
    pub(crate) problems: Vec<(String, String)>,
    /// Bills and files that are up to date. Documents alone are saved together or not at all, so they do not count.
    pub(crate) up_to_date: usize,
    /// Bills and files that could not be saved; postponed items do not count.
    pub(crate) failed: usize,
    /// Why the first of the failed items could not be saved.
    pub(crate) first_error: Option<Error>,
}

impl SaveSummary {
    /// Returns the items that could not be saved, each with the reason.
    #[must_use]
    pub fn problems(&self) -> &[(String, String)] {
        &self.problems
    }

    /// Adds the result of another save.
    pub fn merge(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.postponed += other.postponed;
        self.problems.extend(other.problems);
        self.up_to_date += other.up_to_date;
        self.failed += other.failed;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    pub(super) fn count_outcome(&mut self, outcome: SaveOutcome) {
        match outcome {
            SaveOutcome::Created => self.created += 1,
            SaveOutcome::Updated => self.updated += 1,
            SaveOutcome::Unchanged => self.unchanged += 1,
        }
    }

    /// Counts a bill or a file, each of which may fail while others are saved.
    pub(super) fn count_item(&mut self, outcome: SaveOutcome) {
        self.count_outcome(outcome);
        self.up_to_date += 1;
    }

    pub(super) fn add_problem(&mut self, item: &str, error: Error) {
        crate::warn!(item = item, "left out: {error}");
        self.problems.push((item.to_owned(), error.to_string()));
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }

    /// Records that the remaining items are left for the next run.
    pub(super) fn postpone(&mut self, count: usize, items: &str) {
        if count > 0 {
            crate::info!("the time limit is nearly reached; {count} {items} are left for the next run");
            self.postponed += count;
            let message = "the time limit was reached; the next run continues with them".to_owned();
            self.problems.push((format!("{count} {items}"), message));
        }
    }
}
