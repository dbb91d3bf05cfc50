use std::collections::HashSet;
use std::time::Duration;

use super::{File, SaveSummary, is_out_of_time};
use crate::Locator;
use crate::bindings::konnector::host::files::{File as WitFile, SavedFile, Target};
use crate::bindings::konnector::host::types::SaveOutcome;
use crate::http::{Client, FileSource};
use crate::progress::report_progress;
use crate::{Result, host};

/// Keys per lookup request.
const LOOKUP_BATCH_SIZE: usize = 500;
/// Pauses before the second and the third attempt of a download.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Saves files. Files that the user has already are not fetched again; a file that fails becomes a problem of the
/// report while the others are saved; near the end of the run's time the remaining files are left for the next run.
/// If two files have the same key, the first is saved.
///
/// # Errors
///
/// Errors that concern all files: [`Error::Denied`](crate::Error::Denied),
/// [`Error::StorageFull`](crate::Error::StorageFull), [`Error::LimitReached`](crate::Error::LimitReached),
/// [`Error::RateLimited`](crate::Error::RateLimited), [`Error::Cancelled`](crate::Error::Cancelled).
pub fn save_files(client: &Client, files: impl IntoIterator<Item = File>) -> Result<SaveSummary> {
    let mut keys = HashSet::new();
    let files: Vec<_> = files.into_iter().filter(|file| keys.insert(file.lookup_key())).collect();
    let keys: Vec<_> = files.iter().map(File::lookup_key).collect();
    let known = lookup(&keys)?;
    let (total, mut saved, mut retry_budget) = (files.len(), SaveSummary::default(), RetryBudget::new());
    for (done, (file, known)) in files.iter().zip(known).enumerate() {
        if known.is_some() && !file.overwrite {
            saved.count_item(SaveOutcome::Unchanged);
            continue;
        }
        if is_out_of_time() {
            saved.postpone(total - done, "files");
            break;
        }
        let label = file.label();
        report_progress(done, total, &label);
        match retry_budget.fetch(client, &file.source, &file.target()) {
            Ok(stored) => saved.count_item(stored.outcome),
            Err(error) if error.is_item_error() => saved.add_problem(&label, error),
            Err(error) => return Err(error),
        }
    }
    Ok(saved)
}

/// Moves the files with these keys to the trash; returns the number of moved files.
///
/// # Errors
///
/// If the host fails.
pub fn trash_files<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Result<u32> {
    let keys: Vec<_> = keys.into_iter().map(|key| Locator::Key(key.into())).collect();
    keys.chunks(LOOKUP_BATCH_SIZE).map(|batch| Ok(host::files::trash(batch)?)).sum()
}

/// Returns the files with these keys, in the same order.
pub(super) fn lookup(keys: &[String]) -> Result<Vec<Option<WitFile>>> {
    let mut found = Vec::with_capacity(keys.len());
    for batch in keys.chunks(LOOKUP_BATCH_SIZE) {
        found.extend(host::files::lookup(batch)?);
    }
    Ok(found)
}

/// Remaining retries of a save against a vendor that does not respond. Many failures are not a coincidence, so
/// after that each file is tried once.
pub(super) struct RetryBudget(u32);

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self(10)
    }

    /// Stores one file, with up to three attempts.
    pub(super) fn fetch(&mut self, client: &Client, source: &FileSource, target: &Target) -> Result<SavedFile> {
        let mut pauses = RETRY_DELAYS.into_iter();
        loop {
            let error = match source.store(client, target) {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.is_transient() && self.0 > 0 && !is_out_of_time() => back_off(pause),
                _ => return Err(error),
            }
            self.0 -= 1;
        }
    }
}

/// Pauses before a retry. In tests the vendor needs no time to recover.
fn back_off(pause: Duration) {
    if cfg!(target_family = "wasm") {
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::konnector::host::http::HttpError;
    use crate::testing::{MockHost, MockResponse};
    use crate::{Error, Url};

    fn address(name: &str) -> Url {
        Url::parse(&format!("https://a.example/{name}")).unwrap()
    }

    fn client() -> Client {
        Client::new("https://a.example").unwrap()
    }

    #[test]
    fn fetches_only_what_is_missing() {
        let host = MockHost::new().respond("https://a.example/1.txt", "one").respond("https://a.example/2.txt", "two");
        let files = || ["1.txt", "2.txt", "1.txt"].map(|name| File::from_source(address(name)).folder("papers"));
        assert_eq!(save_files(&client(), files()).unwrap().created, 2);
        let second = save_files(&client(), files()).unwrap();
        assert_eq!((second.created, second.unchanged), (0, 2));
        assert_eq!(host.requests().len(), 2);
        assert_eq!(host.files()[1].path, "papers/2.txt");
        assert_eq!(trash_files(["papers/1.txt", "papers/3.txt"]), Ok(1));
    }

    #[test]
    fn a_changed_file_replaces_its_content() {
        let host = MockHost::new();
        let save =
            |text: &str| save_files(&client(), [File::new("a.vcf", FileSource::from_bytes(text)).key("a").overwrite()]);
        assert_eq!(save("1").unwrap().created, 1);
        assert_eq!(save("2").unwrap().updated, 1);
        assert_eq!(save("2").unwrap().unchanged, 1);
        assert_eq!(host.files()[0].content, b"2");
    }

    #[test]
    fn a_request_is_retried_and_a_vendor_that_fails_is_reported() {
        let host = MockHost::new()
            .respond("https://a.example/slow.txt", MockResponse::failure(HttpError::Unreachable("reset".into())))
            .respond("https://a.example/slow.txt", MockResponse::status(502, ""))
            .respond("https://a.example/slow.txt", "at last")
            .respond("https://a.example/down.txt", MockResponse::status(500, ""));
        let files = ["slow.txt", "down.txt", "gone.txt"].map(|name| File::from_source(address(name)));
        let saved = save_files(&client(), files).unwrap();
        assert_eq!(saved.created, 1);
        assert_eq!(host.requests().len(), 3 + 3 + 1);
        let problems: Vec<_> = saved.problems().iter().map(|(item, message)| format!("{item}: {message}")).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        down.txt: the vendor does not respond: GET https://a.example/down.txt returned 500 Internal Server Error
        gone.txt: the vendor's site changed: GET https://a.example/gone.txt returned 404 Not Found
        ");
    }

    #[test]
    fn half_a_pdf_is_not_saved() {
        let host = MockHost::new();
        let files = ["%PDF-1.7 half", "%PDF-1.7 whole\n%%EOF\n"]
            .map(|content| File::new(format!("{}.pdf", content.len()), FileSource::from_bytes(content)));
        let saved = save_files(&client(), files).unwrap();
        assert_eq!((saved.created, host.files().len()), (1, 1));
        insta::assert_snapshot!(saved.problems()[0].1, @"the vendor does not respond: the PDF is truncated; its last 1 KiB contains no %%EOF");
    }

    #[test]
    fn stops_before_the_deadline_and_reports_it() {
        let _host = MockHost::new().remaining_time(Duration::from_secs(14));
        let files = ["1.txt", "2.txt"].map(|name| File::from_source(address(name)));
        let saved = save_files(&client(), files).unwrap();
        assert_eq!((saved.created, saved.postponed), (0, 2));
        insta::assert_debug_snapshot!(saved.problems(), @r#"
        [
            (
                "2 files",
                "the time limit was reached; the next run continues with them",
            ),
        ]
        "#);
    }

    #[test]
    fn what_concerns_all_files_ends_the_save() {
        let denied = HttpError::Denied("no rule for GET".into());
        let _host = MockHost::new().respond("https://a.example/1.txt", MockResponse::failure(denied));
        let error = save_files(&client(), [File::from_source(address("1.txt"))]).unwrap_err();
        assert_eq!(error, Error::Denied("no rule for GET".into()));
    }
}
