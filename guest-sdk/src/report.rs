use crate::bindings::exports::konnector::host::run::{Problem, Report as WitReport};
use crate::save::SaveSummary;
use crate::{Error, Result};

/// Result of a run that did not fail, with the items that could not be saved while the others were. If none of the
/// bills and files could be saved, the run fails with the first error, even if it saved documents as well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    problems: Vec<(String, String)>,
    up_to_date: usize,
    failed: usize,
    first_error: Option<Error>,
}

impl Report {
    /// Creates a report without problems, because everything was saved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item that could not be saved; the run is shown as incomplete.
    pub fn add_problem(&mut self, item: impl Into<String>, message: impl Into<String>) {
        self.problems.push((item.into(), message.into()));
    }

    /// Adds the problems of a save.
    pub fn merge(&mut self, saved: SaveSummary) {
        self.up_to_date += saved.up_to_date;
        self.failed += saved.failed;
        self.first_error = self.first_error.take().or(saved.first_error);
        self.problems.extend(saved.problems);
    }

    /// Returns the report for the host, or the failure of a run in which nothing could be saved.
    pub(crate) fn into_wit(self) -> Result<WitReport> {
        match self.first_error {
            Some(reason) if self.up_to_date == 0 => Err(reason.context(match self.failed {
                1 => "the only item could not be saved".to_owned(),
                failed => format!("none of {failed} items could be saved; the first"),
            })),
            _ => {
                let problems = self.problems.into_iter();
                Ok(WitReport { problems: problems.map(|(item, message)| Problem { item, message }).collect() })
            }
        }
    }

    /// Returns the items that could not be saved, each with the reason.
    #[must_use]
    pub fn problems(&self) -> &[(String, String)] {
        &self.problems
    }
}

impl From<()> for Report {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<SaveSummary> for Report {
    fn from(saved: SaveSummary) -> Self {
        let mut report = Self::default();
        report.merge(saved);
        report
    }
}
