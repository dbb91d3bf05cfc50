use crate::bindings::exports::konnector::host::run::{Problem, Report as WitReport};
use crate::save::Saved;
use crate::{Error, Result};

/// How a run went that did not fail: what could not be saved while the rest was. Where no bill and no file that it had to save could be
/// saved, the run fails with the first reason, whatever documents it saved beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    problems: Vec<(String, String)>,
    kept: usize,
    failed: usize,
    reason: Option<Error>,
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
        self.kept += saved.kept;
        self.failed += saved.failed;
        self.reason = self.reason.take().or(saved.reason);
        self.problems.extend(saved.problems);
    }

    /// The report for the host, or the failure of a run in which nothing could be saved.
    pub(crate) fn conclude(self) -> Result<WitReport> {
        match self.reason {
            Some(reason) if self.kept == 0 => Err(reason.during(match self.failed {
                1 => "the only item could not be saved".to_owned(),
                failed => format!("none of {failed} items could be saved; the first"),
            })),
            _ => {
                let problems = self.problems.into_iter();
                Ok(WitReport { problems: problems.map(|(item, message)| Problem { item, message }).collect() })
            }
        }
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
        let mut report = Self::default();
        report.add(saved);
        report
    }
}
