use std::collections::HashMap;

use super::documents::write;
use super::files::{RetryBudget, lookup};
use super::{Bill, SaveSummary, is_out_of_time};
use crate::bindings::konnector::host::documents::Item;
use crate::bindings::konnector::host::files::{File, Reference};
use crate::bindings::konnector::host::types::{Error as HostError, Locator};
use crate::http::Client;
use crate::progress::report_progress;
use crate::{Error, Result, host};

const DOCTYPE: &str = "io.cozy.bills";
/// Bills fetched before they are written. An interrupted run has to repeat at most these.
const BATCH_SIZE: usize = 50;

/// Saves bills with their files. Pass all bills of the account (or of a contract) at once, because among bills without
/// the vendor's own number, two with the same day and amount remain two, distinguished by their order in this call.
///
/// Nothing is saved unless every bill is complete. Files that the user has already are not fetched again. A bill
/// whose file fails after three attempts is left out and becomes a problem of the report, while the others are saved.
/// Near the end of the run's time the remaining bills are left for the next run.
///
/// # Errors
///
/// [`Error::Bug`] if a bill is incomplete, and errors that concern all bills: [`Error::Denied`],
/// [`Error::StorageFull`], [`Error::LimitReached`], [`Error::RateLimited`], [`Error::Cancelled`]. Bills whose file
/// was stored before the error are saved in that case, too.
pub fn save_bills(client: &Client, bills: impl IntoIterator<Item = Bill>) -> Result<SaveSummary> {
    let mut saved = SaveSummary::default();
    let bills = assign_keys(bills, &mut saved)?;
    let keys: Vec<_> = bills.iter().map(|(key, _)| key.clone()).collect();
    let known = lookup(&keys)?;
    let mut run = BillSaver {
        client,
        retries: RetryBudget::new(),
        items: Vec::new(),
        files: Vec::new(),
        can_add_references: true,
        saved,
    };
    let fetched = run.fetch_all(&bills, known);
    run.write()?;
    fetched.map(|()| run.saved)
}

struct BillSaver<'a> {
    client: &'a Client,
    retries: RetryBudget,
    items: Vec<Item>,
    /// Ids of the items' files.
    files: Vec<String>,
    /// Whether the manifest permits references from files to their bills.
    can_add_references: bool,
    saved: SaveSummary,
}

impl BillSaver<'_> {
    fn fetch_all(&mut self, bills: &[(String, Bill)], known: Vec<Option<File>>) -> Result<()> {
        let total = bills.len();
        let mut postponed = 0;
        for (done, ((key, bill), known)) in bills.iter().zip(known).enumerate() {
            report_progress(done, total, &bill.label());
            let file = match known {
                Some(file) => Ok(file),
                None if is_out_of_time() => {
                    postponed += 1;
                    continue;
                }
                None => self.retries.fetch(self.client, &bill.source, &bill.target(key)).map(|stored| stored.file),
            };
            match file {
                Ok(file) => self.add_item(key, bill, &file)?,
                Err(error) if error.is_item_error() => self.saved.add_problem(&bill.label(), error),
                Err(error) => return Err(error),
            }
        }
        report_progress(total, total, "bills");
        self.saved.postpone(postponed, "bills");
        Ok(())
    }

    fn add_item(&mut self, key: &str, bill: &Bill, file: &File) -> Result<()> {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        self.items.push(Item { key: key.to_owned(), body: bill.document(&file.id, name).to_string() });
        self.files.push(file.id.clone());
        if self.items.len() < BATCH_SIZE { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        for (written, file) in write(DOCTYPE, &std::mem::take(&mut self.items))?.into_iter().zip(files) {
            self.saved.count_item(written.outcome);
            self.add_reference(file, written.id)?;
        }
        Ok(())
    }

    /// Adds a reference from the file to its bill, as the bill has one to its file. Costs nothing if it exists
    /// already.
    fn add_reference(&mut self, file: String, bill: String) -> Result<()> {
        if !self.can_add_references {
            return Ok(());
        }
        let reference = Reference { doctype: DOCTYPE.to_owned(), id: bill };
        match host::files::add_references(&Locator::Id(file), &[reference]) {
            Err(HostError::Denied(text)) => {
                // The bills are saved anyway; apps just cannot find them from the file.
                crate::debug!("files do not refer to their bills: {text}");
                self.can_add_references = false;
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

/// Checks the bills and assigns each its key.
fn assign_keys(bills: impl IntoIterator<Item = Bill>, saved: &mut SaveSummary) -> Result<Vec<(String, Bill)>> {
    let mut keyed: Vec<(String, Bill)> = Vec::new();
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    for bill in bills {
        bill.check()?;
        let natural = bill.natural_key();
        let index = keyed.len();
        let (first, times) = seen.entry(natural.clone()).or_insert((index, 0));
        *times += 1;
        match keyed.get(*first) {
            None => keyed.push((natural, bill)),
            Some(_) if bill.reference.is_none() => keyed.push((format!("{natural}#{times}"), bill)),
            // A list that shifts while its pages are read shows a bill twice.
            Some((_, same)) if (same.date, same.amount) == (bill.date, bill.amount) => {}
            Some(_) => {
                let number = bill.reference.as_deref().unwrap_or_default();
                let error = Error::vendor_changed(format!("another bill already has the number `{number}`"));
                saved.add_problem(&bill.label(), error);
            }
        }
    }
    Ok(keyed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Url;
    use crate::parse::{self, Currency};
    use crate::save::Metadata;
    use crate::testing::{MockHost, MockResponse};
    use serde_json::json;
    use std::time::Duration;

    const PDF: &str = "%PDF-1.7 a bill";

    fn bill(date: &str, amount: &str, file: &str) -> Bill {
        let amount = parse::amount_in(Currency::EUR, amount).unwrap();
        let url = Url::parse(&format!("https://a.example/{file}")).unwrap();
        Bill::new("Bank 101", amount, parse::date(date).unwrap(), url)
    }

    fn client() -> Client {
        Client::new("https://a.example").unwrap()
    }

    #[test]
    fn a_bill_becomes_a_file_and_a_document() {
        let host = MockHost::new().respond("https://a.example/1.pdf", PDF);
        let bills =
            || [bill("03/11/2026", "42,10", "1.pdf").vendor_ref("F-7").subject("Card").contract("C1", "Current/main")];
        assert_eq!(save_bills(&client(), bills()).unwrap().created, 1);
        assert_eq!(save_bills(&client(), bills()).unwrap().unchanged, 1);
        assert_eq!(host.requests().len(), 1, "a file that is there is not fetched again");
        let expected = json!({
            "vendor": "Bank 101", "amount": 42.1, "currency": "EUR", "date": "2026-11-03T00:00:00.000Z",
            "filename": "2026-11-03_bank-101_42.10EUR.pdf", "invoice": "io.cozy.files:file-0",
            "vendorRef": "F-7", "contractId": "C1", "contractLabel": "Current/main", "subject": "Card",
        });
        assert_eq!(host.documents(DOCTYPE), [expected]);
        let file = &host.files()[0];
        assert_eq!(file.path, "Current-main/2026-11-03_bank-101_42.10EUR.pdf");
        assert_eq!(file.metadata["vendorRef"], "F-7");
        assert_eq!(file.metadata["issueDate"], "2026-11-03T00:00:00.000Z");
        let bill = ("io.cozy.bills".to_owned(), "C1/F-7".to_owned());
        assert_eq!(file.references, [bill], "once, also after the second save");
    }

    #[test]
    fn the_authors_metadata_wins() {
        let host = MockHost::new().respond("https://a.example/1.pdf", PDF);
        let metadata = Metadata::new().author("a.example").qualification("bank_statement");
        let _ = save_bills(&client(), [bill("03/11/2026", "1", "1.pdf").metadata(metadata)]).unwrap();
        assert_eq!(host.files()[0].metadata["contentAuthor"], "a.example");
        assert_eq!(host.files()[0].metadata["qualification"]["label"], "bank_statement");
    }

    #[test]
    fn two_equal_bills_on_one_day_stay_two() {
        let host = MockHost::new()
            .respond("https://a.example/1.pdf", PDF)
            .respond("https://a.example/2.pdf", "%PDF-1.7 other");
        for _run in 0..2 {
            let bills = ["1.pdf", "2.pdf"].map(|file| bill("03/11/2026", "5", file));
            let saved = save_bills(&client(), bills).unwrap();
            assert_eq!(saved.created + saved.unchanged, 2);
        }
        assert_eq!(host.documents(DOCTYPE).len(), 2);
        assert_eq!(host.files().len(), 2);
    }

    #[test]
    fn a_bill_seen_twice_is_saved_once_and_a_number_used_twice_is_a_problem() {
        let host = MockHost::new().respond("https://a.example/1.pdf", PDF);
        let correction = |amount: &str| bill("03/11/2026", amount, "1.pdf").vendor_ref("F-7");
        let saved = save_bills(&client(), [correction("5"), correction("5"), correction("6")]).unwrap();
        assert_eq!(host.documents(DOCTYPE).len(), 1);
        insta::assert_debug_snapshot!(saved.problems(), @r#"
        [
            (
                "F-7 of 2026-11-03, 6.00 EUR",
                "the vendor's site changed: another bill already has the number `F-7`",
            ),
        ]
        "#);
    }

    #[test]
    fn nothing_is_fetched_while_a_bill_is_incomplete() {
        let host = MockHost::new();
        let error = save_bills(&client(), [bill("03/11/2026", "5", "1.pdf").vendor_ref(" ")]).unwrap_err();
        insta::assert_snapshot!(error, @"the bill of 2026-11-03 for 5.00 EUR is invalid: its vendor_ref is empty; leave it out");
        assert!(host.requests().is_empty());
    }

    #[test]
    fn a_file_that_fails_leaves_out_its_bill_only() {
        let host = MockHost::new()
            .respond("https://a.example/page.pdf", "<html>an error page</html>")
            .respond("https://a.example/fine.pdf", PDF);
        let saved = save_bills(&client(), ["page.pdf", "fine.pdf"].map(|file| bill("03/11/2026", "5", file))).unwrap();
        assert_eq!((saved.created, host.documents(DOCTYPE).len(), host.files().len()), (1, 1, 1));
        insta::assert_debug_snapshot!(saved.problems(), @r#"
        [
            (
                "Bank 101 of 2026-11-03, 5.00 EUR",
                "the vendor's site changed: GET https://a.example/page.pdf: expected application/pdf",
            ),
        ]
        "#);
    }

    #[test]
    fn what_was_fetched_is_saved_before_the_run_fails() {
        let host = MockHost::new()
            .respond("https://a.example/1.pdf", PDF)
            .respond("https://a.example/2.pdf", MockResponse::status(429, ""));
        let bills = [bill("03/11/2026", "5", "1.pdf"), bill("04/11/2026", "5", "2.pdf")];
        assert_eq!(save_bills(&client(), bills), Err(Error::RateLimited(None)));
        assert_eq!(host.documents(DOCTYPE).len(), 1);
    }

    #[test]
    fn near_the_end_of_the_time_only_what_is_there_is_saved() {
        let host = MockHost::new().respond("https://a.example/1.pdf", PDF);
        let bills = || [bill("03/11/2026", "5", "1.pdf"), bill("04/11/2026", "5", "2.pdf")];
        let _ = save_bills(&client(), bills().into_iter().take(1)).unwrap();
        let host = host.remaining_time(Duration::from_secs(14));
        let saved = save_bills(&client(), bills()).unwrap();
        assert_eq!((saved.unchanged, saved.postponed), (1, 1));
        assert_eq!(host.requests().len(), 1);
    }

    #[test]
    fn a_vendor_that_always_fails_is_not_tried_three_times_per_file() {
        let host = MockHost::new();
        let bills: Vec<_> = (1..=28).map(|day| bill(&format!("2026-02-{day:02}"), "5", &day.to_string())).collect();
        let host = (1..=28)
            .fold(host, |host, day| host.respond(&format!("https://a.example/{day}"), MockResponse::status(500, "")));
        let saved = save_bills(&client(), bills).unwrap();
        assert_eq!(saved.problems().len(), 28);
        assert_eq!(host.requests().len(), 28 + 10);
    }
}
