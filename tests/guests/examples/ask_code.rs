//! Asks for a one-time code, and logs how its clock advanced meanwhile.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let before = progress::remaining_ms();
    let answer = progress::ask_code(&progress::Question {
        channel: progress::CodeChannel::Sms,
        hint: "sent to +33 6 •• •• 12".to_owned(),
        is_retry: false,
    });
    let passed = before.saturating_sub(progress::remaining_ms());
    log_info(format!("{answer:?}"));
    log_info(if passed < 100 { "the clock stood still" } else { "the clock went on" });
    match answer {
        Ok(_) => Ok(empty_report()),
        Err(error) => Err(Failure::CodeMissing(format!("{error:?}"))),
    }
}
