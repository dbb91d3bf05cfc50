//! Management of OAuth clients and session codes by the operator (Cozy API: admin, §11).

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, post_with};
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::Platform;
use konnector_platform::one_time_token::SessionCode;
use serde_json::{Value, json};

use super::registration_response;
use crate::error::ApiError;
use crate::extract::{JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind};

pub fn routes() -> ApiRouter<Platform> {
    let register = post_with(register_client, |op| {
        op.summary("Registers an OAuth client")
            .query("Domain", SchemaKind::String, "Domain of the instance")
            .query("RedirectURI", SchemaKind::String, "Redirect URIs of the client, separated by commas")
            .query("ClientName", SchemaKind::String, "Name of the client")
            .query("SoftwareID", SchemaKind::String, "Id of the program, equal for all its registrations")
            .query("ClientKind", SchemaKind::String, "mobile, desktop, browser, …")
            .success::<200, Json<Value>>("The client, with its secret")
            .error(422, "The parameter Domain is missing")
    });
    let session = post_with(session_code, |op| {
        op.summary("Issues a session code, which authenticates the owner once within five minutes")
            .success::<201, Json<Value>>("The session code")
    });
    let check = post_with(check_session_code, |op| {
        op.summary("Checks and redeems a session code")
            .field("session_code", SchemaKind::String, "The session code")
            .success::<200, Json<Value>>("The session code was valid, and is now redeemed")
            .error(403, "The session code is not valid")
    });
    let remove = delete_with(delete_clients, |op| {
        op.summary("Deletes the OAuth clients of an instance, with all their tokens")
            .query("Kind", SchemaKind::String, "Deletes only clients of this kind")
            .success::<200, Json<Value>>("Number of deleted clients")
    });
    ApiRouter::new()
        .api_route("/instances/oauth_client", register)
        .api_route("/instances/{domain}/session_code", session)
        .api_route("/instances/{domain}/session_code/check", check)
        .api_route("/oauth/{domain}/clients", remove)
}

/// Issues a code that authenticates its holder as the owner, once within five minutes.
async fn session_code(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let code = platform.auth().issue_one_time_token(&*platform.instances().get(&domain)?, &SessionCode {}).await?;
    Ok((StatusCode::CREATED, Json(json!({ "session_code": code }))))
}

/// Checks and redeems a session code.
async fn check_session_code(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let code = body.get("session_code").and_then(Value::as_str).unwrap_or_default();
    let redeemed = platform.auth().redeem_one_time_token(&*platform.instances().get(&domain)?, code).await?;
    let valid = redeemed == Some(SessionCode {});
    Ok((if valid { StatusCode::OK } else { StatusCode::FORBIDDEN }, Json(json!({ "valid": valid }))))
}

/// Registers an OAuth client and returns its credentials.
async fn register_client(State(platform): State<Platform>, params: Params) -> Result<Json<Value>, ApiError> {
    let domain = params.get_non_empty("Domain").ok_or_else(|| {
        ApiError::parameter("Domain", "Domain: the parameter is missing; set it to the domain of the instance")
    })?;
    let instance = platform.instances().get(domain)?;
    let metadata = json!({
        "redirect_uris": params.list("RedirectURI"),
        "client_name": params.get("ClientName"),
        "software_id": params.get("SoftwareID"),
        "client_kind": params.get_non_empty("ClientKind"),
    });
    let metadata = metadata.as_object().cloned().unwrap_or_default();
    Ok(Json(registration_response(&platform.oauth_clients().register(&instance, metadata).await?)))
}

/// Deletes the OAuth clients of an instance, or those of one kind.
async fn delete_clients(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let instance = platform.instances().get(&domain)?;
    let kind = params.get_non_empty("Kind");
    let mut count = 0;
    for client in platform.oauth_clients().list(&instance)? {
        if kind.is_none_or(|kind| client.value.metadata.get("client_kind").and_then(Value::as_str) == Some(kind)) {
            platform.oauth_clients().delete(&instance, &client.id, &client.rev).await?;
            count += 1;
        }
    }
    Ok(Json(json!({ "count": count })))
}
