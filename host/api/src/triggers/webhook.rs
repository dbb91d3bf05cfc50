//! `/jobs/webhooks`: triggers that are called by their secret URL, without a token (Cozy API, webhooks, §5.6).

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::Platform;
use konnector_platform::instance::Instance;
use konnector_platform::trigger::Trigger;

use crate::error::ApiError;
use crate::extract::{HostInstance, Params};

/// Returns the URL of a webhook.
pub fn address(platform: &Platform, instance: &Instance, trigger: &Trigger) -> String {
    format!("{}://{}/jobs/webhooks/{}", platform.config().scheme, instance.domain, trigger.id)
}

/// Stores the body, in any format, as the payload of a job. Requires no token, because the id of the trigger is secret.
pub async fn call(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path(id): Path<String>,
    params: Params,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let too_large =
        |_| ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, "the body of the webhook is larger than 1 MiB");
    let body = body.map_err(too_large)?;
    platform.triggers().call_webhook(&instance, &id, &body, params.flag("Manual", false)).await?;
    Ok(StatusCode::NO_CONTENT)
}
