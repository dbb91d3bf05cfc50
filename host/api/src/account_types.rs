//! `/account_types` of the admin API: the services that accounts may be with. Ours; Cozy's operators write them into the database.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::account_type::AccountType;
use konnector_platform::doctype::ACCOUNT_TYPES;
use konnector_platform::{Platform, Stored};
use serde_json::json;

use crate::error::Failure;
use crate::extract::JsonObject;
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, Kind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let one = get_with(show, |op| op.summary("An account type, without its secrets"))
        .put_with(set, |op| {
            op.summary("Sets an account type up, in place of the one that may be there")
                .member(
                    "grant_mode",
                    Kind::Text,
                    "authorization_code, token, token_redirect_url, bi_webauth, secret, …",
                )
                .member("slug", Kind::Text, "The konnector that its accounts are for; the type's name unless told")
                .member("client_id", Kind::Text, "Under which id the provider knows this server")
                .member("client_secret", Kind::Text, "What the server proves itself with")
                .member("auth_endpoint", Kind::Text, "Where users log in")
                .member("token_endpoint", Kind::Text, "Where tokens are")
                .member("manage_endpoint", Kind::Text, "Where users manage a connection")
                .member("reconnect_endpoint", Kind::Text, "Where users connect again")
                .member("token_mode", Kind::Text, "form, basic or get; form unless told")
                .member("redirect_uri", Kind::Text, "The address that the provider knows; the instance's unless told")
                .member("extras", Kind::Object, "More parameters for auth_endpoint")
                .member("secret", Kind::Any, "What konnectors get as their parameter secret")
                .fails(422, "The name cannot be one")
                .fails(409, "Somebody else wrote in between")
        })
        .delete_with(remove, |op| op.summary("Removes an account type").answers::<204, ()>("It is gone"));
    ApiRouter::new()
        .api_route("/account_types", get_with(list, |op| op.summary("The account types, without their secrets")))
        .api_route("/account_types/{id}", one)
}

/// How an account type is shown: of its secrets only the names.
fn resource(kind: &Stored<AccountType>) -> Result<Resource, Failure> {
    let secrets: Vec<&str> = kind.value.secrets().collect();
    let resource =
        Resource::new(ACCOUNT_TYPES.as_str(), kind.id.as_str(), &kind.value)?.attribute("secrets", json!(secrets));
    Ok(resource.rev(&kind.rev.to_string()).link("self", format!("/account_types/{}", kind.id)))
}

async fn list(State(platform): State<Platform>) -> Result<Document, Failure> {
    Ok(Document::list(platform.account_types()?.iter().map(resource).collect::<Result<_, _>>()?))
}

async fn show(State(platform): State<Platform>, Path(id): Path<String>) -> Result<Document, Failure> {
    Ok(Document::one(resource(&platform.account_type(&id)?)?))
}

async fn set(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Document, Failure> {
    Ok(Document::one(resource(&platform.set_account_type(&id, body).await?)?))
}

async fn remove(State(platform): State<Platform>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    platform.remove_account_type(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
