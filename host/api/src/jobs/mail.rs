//! `/jobs/campaign-emails` and `/jobs/support`: apps ask for mail to be sent (Cozy API: jobs). This server has no way to send any, and says
//! so to whoever may ask, rather than accept a mail that nobody gets.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{JOBS, SUPPORT};
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::{Attributes, Caller};
use crate::openapi::{Describe as _, SchemaKind};

/// The worker that rules for mail name.
const WORKER: &str = "sendmail";
/// Why no mail is accepted.
const MAIL_DISABLED: &str = "This server sends no mail.";

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let campaign = post_with(campaign, |op| {
        op.summary("Asks for a mail to the owner, which this server cannot send")
            .field("arguments", SchemaKind::Object, "subject (a text), and parts (a list)")
            .error(501, MAIL_DISABLED)
    });
    let support = post_with(support, |op| {
        op.summary("Asks for a mail to the support, which this server cannot send")
            .field("arguments", SchemaKind::Object, "subject and body (texts)")
            .error(501, MAIL_DISABLED)
    });
    ApiRouter::new().api_route("/jobs/campaign-emails", campaign).api_route("/jobs/support", support)
}

async fn campaign(caller: Caller, body: Attributes) -> ApiError {
    let checked = caller.check_worker(Verb::Post, &JOBS, "", WORKER).and_then(|()| check_mail(body, "parts"));
    checked.err().unwrap_or_else(not_sent)
}

async fn support(caller: Caller, body: Attributes) -> ApiError {
    let checked = match caller.principal.konnector() {
        Some(_) => Err(ApiError::forbidden("a konnector may not write to the support")),
        None => caller.check_type(Verb::Post, &SUPPORT).and_then(|()| check_mail(body, "body")),
    };
    checked.err().unwrap_or_else(not_sent)
}

/// Rejects a mail without subject or content.
fn check_mail(mut body: Attributes, content: &str) -> Result<(), ApiError> {
    let mail = body.take("arguments").unwrap_or_default();
    let filled = |name: &str| match mail.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    match ["subject", content].into_iter().find(|name| !filled(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::bad_request(format!("the mail has no {name}; give arguments.{name}"))),
    }
}

fn not_sent() -> ApiError {
    ApiError::request(StatusCode::NOT_IMPLEMENTED, MAIL_DISABLED)
}
