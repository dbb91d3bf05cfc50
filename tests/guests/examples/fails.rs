//! Returns the failure, or the report, that the test requests.

use konnector_sdk::bindings::exports::konnector::host::run::Action;
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let text = parameters["text"].as_str().unwrap_or_default().to_owned();
    Err(match parameters["failure"].as_str().unwrap_or_default() {
        "bad-credentials" => Failure::BadCredentials(text),
        "too-many-attempts" => Failure::TooManyAttempts(text),
        "user-action" => Failure::UserAction((Action::AcceptTerms, text)),
        "missing-credentials" => Failure::MissingCredentials(text),
        "code-missing" => Failure::CodeMissing(text),
        "code-refused" => Failure::CodeRejected(text),
        "challenge-unsupported" => Failure::ChallengeUnsupported(text),
        "captcha-failed" => Failure::CaptchaFailed(text),
        "vendor-down" => Failure::VendorDown(text),
        "vendor-maintenance" => Failure::VendorMaintenance(text),
        "rate-limited" => Failure::RateLimited(Some(60)),
        "vendor-changed" => Failure::VendorChanged(text),
        "denied" => Failure::Denied(text),
        "storage-full" => Failure::StorageFull(text),
        "limit-reached" => Failure::LimitReached(text),
        "host-failed" => Failure::HostFailed(text),
        "cancelled" => Failure::Cancelled,
        "bug" => Failure::Bug(text),
        _ => {
            return Ok(Report {
                problems: vec![
                    Problem { item: "bill 7".to_owned(), message: text };
                    parameters["problems"].as_u64().unwrap_or(1) as usize
                ],
            });
        }
    })
}
