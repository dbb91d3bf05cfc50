use crate::bindings::exports::konnector::host::run::{Problem, Report as WitReport};
use crate::save::Saved;

/// How a run went that did not fail: what could not be saved while the rest was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    problems: Vec<(String, String)>,
}

impl Report {
    /// Everything was saved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes an item that could not be saved; the run is shown as incomplete.
    pub fn problem(&mut self, item: impl Into<String>, message: impl Into<String>) {
        self.problems.push((item.into(), message.into()));
    }

    /// Takes over the problems of a save.
    pub fn add(&mut self, saved: Saved) {
        self.problems.extend(saved.problems);
    }

    /// The items that could not be saved, each with the reason.
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

impl From<Saved> for Report {
    fn from(saved: Saved) -> Self {
        Self { problems: saved.problems }
    }
}

impl From<Report> for WitReport {
    fn from(report: Report) -> Self {
        let problems = report.problems.into_iter();
        Self { problems: problems.map(|(item, message)| Problem { item, message }).collect() }
    }
}
