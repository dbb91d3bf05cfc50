//! Asks for a one-time code repeatedly, regardless of the response, and ends with the first error that is not
//! `unattended`.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    for asked in 0..1_000 {
        let question =
            progress::Question { channel: progress::CodeChannel::Sms, hint: String::new(), is_retry: asked > 0 };
        match progress::ask_code(&question) {
            Ok(_) | Err(types::Error::Unattended) => {}
            Err(error) => return Err(Failure::LimitReached(format!("{error:?} after {asked} questions"))),
        }
    }
    Ok(empty_report())
}
