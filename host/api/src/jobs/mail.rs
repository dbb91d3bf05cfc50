//! `/jobs/campaign-emails` and `/jobs/support`: apps request that mail is sent (Cozy API: jobs). This server cannot
//! send mail. It reports this to callers with the permission, instead of accepting mail that never arrives.

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

/// Worker that permission rules for mail name.
const WORKER: &str = "sendmail";
const MAIL_DISABLED: &str = "This server cannot send mail.";

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let campaign = post_with(campaign, |op| {
        op.summary("Requests an email to the owner, which this server cannot send")
            .field("arguments", SchemaKind::Object, "subject (a string) and parts (a list)")
            .error(501, MAIL_DISABLED)
    });
    let support = post_with(support, |op| {
        op.summary("Requests an email to the support team, which this server cannot send")
            .field("arguments", SchemaKind::Object, "subject and body (strings)")
            .error(501, MAIL_DISABLED)
    });
    ApiRouter::new().api_route("/jobs/campaign-emails", campaign).api_route("/jobs/support", support)
}

async fn campaign(caller: Caller, body: Attributes) -> ApiError {
    let result = caller.check_worker(Verb::Post, &JOBS, "", WORKER).and_then(|()| check_mail(body, "parts"));
    result.err().unwrap_or_else(not_sent)
}

async fn support(caller: Caller, body: Attributes) -> ApiError {
    let result = match caller.principal.konnector() {
        Some(_) => Err(ApiError::forbidden("a konnector may not send mail to the support team")),
        None => caller.check_type(Verb::Post, &SUPPORT).and_then(|()| check_mail(body, "body")),
    };
    result.err().unwrap_or_else(not_sent)
}

/// Rejects a mail without subject or content.
fn check_mail(mut body: Attributes, content: &str) -> Result<(), ApiError> {
    let mail = body.take("arguments").unwrap_or_default();
    let is_filled = |name: &str| match mail.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    match ["subject", content].into_iter().find(|name| !is_filled(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::bad_request(format!("the mail has no {name}; give arguments.{name}"))),
    }
}

fn not_sent() -> ApiError {
    ApiError::request(StatusCode::NOT_IMPLEMENTED, MAIL_DISABLED)
}
