//! Connects the exported function to the author's function; used by the code that `#[konnector]` generates.

use crate::bindings::exports::konnector::host::run::{Failure, Job, Report as WitReport};
use crate::{Context, Error, Report};

/// Marks the form `fn(Context) -> Result<impl Into<Report>>`.
#[derive(Debug)]
pub struct TypedSignature<T>(std::marker::PhantomData<T>);
/// Marks the form `fn(Job) -> Result<Report, Failure>`.
#[derive(Debug)]
pub struct RawSignature;

/// A function that can be a konnector. `Form` only distinguishes the two implementations.
pub trait EntryPoint<Form> {
    /// Runs the function.
    fn call(self, job: Job) -> Result<WitReport, Failure>;
}

impl<F: FnOnce(Job) -> Result<WitReport, Failure>> EntryPoint<RawSignature> for F {
    fn call(self, job: Job) -> Result<WitReport, Failure> {
        self(job)
    }
}

impl<F: FnOnce(Context) -> Result<T, Error>, T: Into<Report>> EntryPoint<TypedSignature<T>> for F {
    fn call(self, job: Job) -> Result<WitReport, Failure> {
        self(Context::new(job)).and_then(|report| report.into().into_wit()).map_err(Failure::from)
    }
}

/// Requests the rights for `saves`, then runs the author's function. A panic is logged before it ends the run,
/// because a trap alone carries no message.
pub fn run<Form>(saves: &[&str], function: impl EntryPoint<Form>, job: Job) -> Result<WitReport, Failure> {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(crate::log::log_panic));
    for doctype in saves {
        crate::save::check_save_allowed(doctype).map_err(Failure::from)?;
    }
    function.call(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::exports::konnector::host::run::{Cause, Problem};

    fn job() -> Job {
        Job {
            id: "1".to_owned(),
            attempt: 1,
            cause: Cause::Schedule,
            last_success: None,
            parameters: r#"{"url": "https://a.example"}"#.to_owned(),
            payload: None,
            locale: "fr-CH".to_owned(),
            time_zone: "Europe/Zurich".to_owned(),
        }
    }

    #[test]
    fn both_forms_of_a_konnector_start() {
        fn raw(job: Job) -> Result<WitReport, Failure> {
            Ok(WitReport { problems: vec![Problem { item: job.locale, message: "raw".to_owned() }] })
        }
        fn typed(context: Context) -> crate::Result<Report> {
            let mut report = Report::new();
            report.add_problem(context.parameter("url")?, format!("{:?}", context.language()));
            Ok(report)
        }
        let problem = |report: Result<WitReport, Failure>| {
            report
                .ok()
                .and_then(|report| report.problems.into_iter().next())
                .map(|problem| (problem.item, problem.message))
        };
        assert_eq!(problem(run(&[], raw, job())), Some(("fr-CH".to_owned(), "raw".to_owned())));
        assert_eq!(problem(run(&[], typed, job())), Some(("https://a.example".to_owned(), "French".to_owned())));
    }

    #[test]
    fn a_run_that_saves_nothing_of_what_it_was_given_fails() {
        use crate::parse::{Currency, amount_in, date};
        use crate::save::{Bill, Item, save_bills, save_documents};
        use crate::testing::MockHost;
        fn bills(_: Context) -> crate::Result<Report> {
            let client = crate::http::Client::new("https://a.example")?;
            let bill = |number: usize| -> crate::Result<Bill> {
                let file = crate::Url::parse(&format!("https://a.example/{number}.pdf"))?;
                Ok(Bill::new("Bank 101", amount_in(Currency::EUR, "5")?, date("03/11/2026")?, file))
            };
            // This is not a bill and does not count as one.
            let mut report = Report::from(save_documents(
                "io.cozy.identities",
                [Item::new("me", serde_json::json!({ "name": "Ada" }))?],
            )?);
            report.merge(save_bills(&client, [bill(1)?, bill(2)?])?);
            Ok(report)
        }
        let host = MockHost::new();
        let Err(Failure::VendorChanged(text)) = run(&[], bills, job()) else { panic!("it went well") };
        insta::assert_snapshot!(text, @"none of 2 items could be saved; the first: GET https://a.example/1.pdf returned 404 Not Found");
        drop(host);
        let _host = MockHost::new().respond("https://a.example/1.pdf", "%PDF-1.7 a bill\n%%EOF\n");
        let problems = run(&[], bills, job()).ok().map(|report| report.problems.len());
        assert_eq!(problems, Some(1), "the other one is saved");
    }

    #[test]
    fn an_error_becomes_one_failure() {
        fn fails(context: Context) -> crate::Result<()> {
            context.parameter("missing").map(|_value| ())
        }
        let failure = run(&[], fails, job()).err();
        let Some(Failure::Bug(text)) = failure else { panic!("{failure:?}") };
        insta::assert_snapshot!(text, @"the manifest's parameters have no string `missing`");
    }
}
