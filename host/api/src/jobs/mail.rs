//! `/jobs/campaign-emails` and `/jobs/support`: apps ask for mail to be sent (Cozy API: jobs). This server has no way to send any, and says
//! so to whoever may ask, rather than accept a mail that nobody gets.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{JOBS, SUPPORT};
use serde_json::Value;

use crate::error::Failure;
use crate::extract::{Attributes, Caller};
use crate::openapi::{Describe as _, Kind};

/// The worker that rules for mail name.
const WORKER: &str = "sendmail";
/// Why no mail is accepted.
const NONE: &str = "This server sends no mail.";

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let campaign = post_with(campaign, |op| {
        op.summary("Asks for a mail to the owner, which this server cannot send")
            .member("arguments", Kind::Object, "subject (a text), and parts (a list)")
            .fails(501, NONE)
    });
    let support = post_with(support, |op| {
        op.summary("Asks for a mail to the support, which this server cannot send")
            .member("arguments", Kind::Object, "subject and body (texts)")
            .fails(501, NONE)
    });
    ApiRouter::new().api_route("/jobs/campaign-emails", campaign).api_route("/jobs/support", support)
}

async fn campaign(caller: Caller, body: Attributes) -> Failure {
    let checked = caller.check_worker(Verb::Post, &JOBS, "", WORKER).and_then(|()| check(body, "parts"));
    checked.err().unwrap_or_else(not_sent)
}

async fn support(caller: Caller, body: Attributes) -> Failure {
    let checked = match caller.principal.konnector() {
        Some(_) => Err(Failure::forbidden("a konnector may not write to the support")),
        None => caller.check_type(Verb::Post, &SUPPORT).and_then(|()| check(body, "body")),
    };
    checked.err().unwrap_or_else(not_sent)
}

/// Refuses a mail without subject or content.
fn check(mut body: Attributes, content: &str) -> Result<(), Failure> {
    let mail = body.take("arguments").unwrap_or_default();
    let filled = |name: &str| match mail.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    match ["subject", content].into_iter().find(|name| !filled(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::bad_request(format!("the mail has no {name}; give arguments.{name}"))),
    }
}

fn not_sent() -> Failure {
    Failure::request(StatusCode::NOT_IMPLEMENTED, NONE)
}
