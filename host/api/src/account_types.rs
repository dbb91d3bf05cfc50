//! `/account_types` of the admin API: the services that accounts may be with. Ours; Cozy's operators write them into the database.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::account_type::AccountType;
use konnector_platform::doctype::ACCOUNT_TYPES;
use konnector_platform::{Platform, Stored};
use serde_json::json;

use crate::error::ApiError;
use crate::extract::JsonObject;
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let one = get_with(show, |op| op.summary("An account type, without its secrets"))
        .put_with(put, |op| {
            op.summary("Sets an account type up, in place of the one that may be there")
                .field(
                    "grant_mode",
                    SchemaKind::String,
                    "authorization_code, token, token_redirect_url, bi_webauth, secret, …",
                )
                .field(
                    "slug",
                    SchemaKind::String,
                    "The konnector that its accounts are for; the type's name unless told",
                )
                .field("client_id", SchemaKind::String, "Under which id the provider knows this server")
                .field("client_secret", SchemaKind::String, "What the server proves itself with")
                .field("auth_endpoint", SchemaKind::String, "Where users log in")
                .field("token_endpoint", SchemaKind::String, "Where tokens are")
                .field("manage_endpoint", SchemaKind::String, "Where users manage a connection")
                .field("reconnect_endpoint", SchemaKind::String, "Where users connect again")
                .field("token_mode", SchemaKind::String, "form, basic or get; form unless told")
                .field(
                    "redirect_uri",
                    SchemaKind::String,
                    "The address that the provider knows; the instance's unless told",
                )
                .field("extras", SchemaKind::Object, "More parameters for auth_endpoint")
                .field("secret", SchemaKind::Any, "What konnectors get as their parameter secret")
                .error(422, "The name cannot be one")
                .error(409, "Somebody else wrote in between")
        })
        .delete_with(delete, |op| op.summary("Removes an account type").success::<204, ()>("It is gone"));
    ApiRouter::new()
        .api_route("/account_types", get_with(list, |op| op.summary("The account types, without their secrets")))
        .api_route("/account_types/{id}", one)
}

/// The resource of an account type, with only the names of its secrets.
fn resource(kind: &Stored<AccountType>) -> Result<Resource, ApiError> {
    let secrets: Vec<&str> = kind.value.secret_names().collect();
    let resource =
        Resource::new(ACCOUNT_TYPES.as_str(), kind.id.as_str(), &kind.value)?.attribute("secrets", json!(secrets));
    Ok(resource.rev(&kind.rev.to_string()).link("self", format!("/account_types/{}", kind.id)))
}

async fn list(State(platform): State<Platform>) -> Result<Document, ApiError> {
    Ok(Document::list(platform.account_types()?.iter().map(resource).collect::<Result<_, _>>()?))
}

async fn show(State(platform): State<Platform>, Path(id): Path<String>) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.account_type(&id)?)?))
}

async fn put(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.set_account_type(&id, body).await?)?))
}

async fn delete(State(platform): State<Platform>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    platform.delete_account_type(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
