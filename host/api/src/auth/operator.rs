//! What an operator does about OAuth clients and session codes (Cozy API: admin, §11).

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, post_with};
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::Platform;
use konnector_platform::one_time_token::OneTimeToken;
use serde_json::{Value, json};

use super::registration_response;
use crate::error::ApiError;
use crate::extract::{JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let register = post_with(register_client, |op| {
        op.summary("Registers an OAuth client for its program")
            .query("Domain", SchemaKind::String, "The instance")
            .query(
                "RedirectURI",
                SchemaKind::String,
                "Where its user is sent back to; several with commas between them",
            )
            .query("ClientName", SchemaKind::String, "Its name")
            .query("SoftwareID", SchemaKind::String, "The same for all registrations of a program")
            .query("ClientKind", SchemaKind::String, "mobile, desktop, browser, …")
            .success::<200, Json<Value>>("The client, with its secret")
            .error(422, "No instance is named")
    });
    let session = post_with(session_code, |op| {
        op.summary("Makes a session code, which shows once within five minutes that the owner is there")
            .success::<201, Json<Value>>("The code")
    });
    let check = post_with(check_session_code, |op| {
        op.summary("Takes a session code, and tells whether it was good")
            .field("session_code", SchemaKind::String, "The code")
            .success::<200, Json<Value>>("It was good, and is not any more")
            .error(403, "It is good for nothing")
    });
    let remove = delete_with(delete_clients, |op| {
        op.summary("Removes the OAuth clients of an instance, with all their tokens")
            .query("Kind", SchemaKind::String, "Only those of this kind")
            .success::<200, Json<Value>>("How many there were")
    });
    ApiRouter::new()
        .api_route("/instances/oauth_client", register)
        .api_route("/instances/{domain}/session_code", session)
        .api_route("/instances/{domain}/session_code/check", check)
        .api_route("/oauth/{domain}/clients", remove)
}

/// Creates a code that proves that its holder was sent by the owner; valid once, for five minutes.
async fn session_code(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let code = platform.issue_one_time_token(&*platform.instance(&domain)?, OneTimeToken::Session).await?;
    Ok((StatusCode::CREATED, Json(json!({ "session_code": code }))))
}

/// Checks and redeems a code.
async fn check_session_code(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let code = body.get("session_code").and_then(Value::as_str).unwrap_or_default();
    let taken = platform.redeem_one_time_token(&*platform.instance(&domain)?, code).await?;
    let valid = taken == Some(OneTimeToken::Session);
    Ok((if valid { StatusCode::OK } else { StatusCode::FORBIDDEN }, Json(json!({ "valid": valid }))))
}

/// Registers an OAuth client and returns its credentials.
async fn register_client(State(platform): State<Platform>, params: Params) -> Result<Json<Value>, ApiError> {
    let domain = params
        .get_non_empty("Domain")
        .ok_or_else(|| ApiError::parameter("Domain", "give the parameter Domain, the domain of the instance"))?;
    let instance = platform.instance(domain)?;
    let given = json!({
        "redirect_uris": params.list("RedirectURI"),
        "client_name": params.get("ClientName"),
        "software_id": params.get("SoftwareID"),
        "client_kind": params.get_non_empty("ClientKind"),
    });
    let given = given.as_object().cloned().unwrap_or_default();
    Ok(Json(registration_response(&platform.register_oauth_client(&instance, given).await?)))
}

/// Deletes the OAuth clients of an instance, or those of one kind.
async fn delete_clients(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let instance = platform.instance(&domain)?;
    let kind = params.get_non_empty("Kind");
    let mut count = 0;
    for client in platform.oauth_clients(&instance)? {
        if kind.is_none_or(|kind| client.value.metadata.get("client_kind").and_then(Value::as_str) == Some(kind)) {
            platform.delete_oauth_client(&instance, &client.id, &client.rev).await?;
            count += 1;
        }
    }
    Ok(Json(json!({ "count": count })))
}
