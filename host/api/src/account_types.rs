//! `/account_types` of the admin API: the services that accounts belong to. An extension of Cozy's API, whose operators
//! write account types into the database.

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

pub fn routes() -> ApiRouter<Platform> {
    let one = get_with(show, |op| op.summary("Shows an account type, without its secrets"))
        .put_with(put, |op| {
            op.summary("Creates or replaces an account type")
                .field(
                    "grant_mode",
                    SchemaKind::String,
                    "authorization_code, token, token_redirect_url, bi_webauth, secret, …",
                )
                .field(
                    "slug",
                    SchemaKind::String,
                    "The konnector that uses its accounts; default: the name of the type",
                )
                .field("client_id", SchemaKind::String, "Client id of this server at the provider")
                .field("client_secret", SchemaKind::String, "Client secret of this server at the provider")
                .field("auth_endpoint", SchemaKind::String, "URL of the login page")
                .field("token_endpoint", SchemaKind::String, "URL of the token endpoint")
                .field("manage_endpoint", SchemaKind::String, "URL of the page to manage a connection")
                .field("reconnect_endpoint", SchemaKind::String, "URL of the page to reconnect an account")
                .field("token_mode", SchemaKind::String, "form, basic or get; default: form")
                .field(
                    "redirect_uri",
                    SchemaKind::String,
                    "Redirect URI registered at the provider; default: that of the instance",
                )
                .field("extras", SchemaKind::Object, "Additional parameters for auth_endpoint")
                .field("secret", SchemaKind::Any, "Value of the parameter `secret` of konnectors")
                .error(422, "The name is not valid")
                .error(409, "Concurrent modification")
        })
        .delete_with(delete, |op| {
            op.summary("Deletes an account type").success::<204, ()>("The account type is deleted")
        });
    ApiRouter::new()
        .api_route("/account_types", get_with(list, |op| op.summary("Lists the account types, without their secrets")))
        .api_route("/account_types/{id}", one)
}

/// Returns the resource of an account type, with only the names of its secrets.
fn resource(kind: &Stored<AccountType>) -> Result<Resource, ApiError> {
    let secrets: Vec<&str> = kind.value.secret_names().collect();
    let resource =
        Resource::new(ACCOUNT_TYPES.as_str(), kind.id.as_str(), &kind.value)?.attribute("secrets", json!(secrets));
    Ok(resource.rev(&kind.rev.to_string()).link("self", format!("/account_types/{}", kind.id)))
}

async fn list(State(platform): State<Platform>) -> Result<Document, ApiError> {
    Ok(Document::list(platform.account_types().list()?.iter().map(resource).collect::<Result<_, _>>()?))
}

async fn show(State(platform): State<Platform>, Path(id): Path<String>) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.account_types().get(&id)?)?))
}

async fn put(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.account_types().set(&id, body).await?)?))
}

async fn delete(State(platform): State<Platform>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    platform.account_types().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
