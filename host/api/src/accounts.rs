//! `/accounts`: connects accounts to their provider by OAuth, and refreshes their tokens (Cozy API: account types and
//! OAuth, §7.4).

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use konnector_platform::Platform;
use konnector_platform::account::oauth::{OAuthCallback, OAuthLogin, ProviderPage};
use konnector_platform::doctype::ACCOUNTS;
use konnector_platform::instance::Instance;
use konnector_platform::rate;
use url::Url;

use crate::error::ApiError;
use crate::extract::{Caller, HostInstance, Params, request_host};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind};

/// Returns the routes on the host of an instance.
pub fn routes() -> ApiRouter<Platform> {
    let start = get_with(start, |op| {
        provider_redirect(op.summary("Redirects the owner to a provider, to connect an account"))
            .query("scope", SchemaKind::String, "Scope to request from the provider")
            .query("nonce", SchemaKind::String, "Nonce that is sent to the provider along with the code")
            .query("account", SchemaKind::String, "The account to reconnect; without it, a new account is created")
    });
    let refresh = post_with(refresh, |op| {
        op.summary("Refreshes the access token of an account")
            .error(401, "Missing token, or the provider requires the account to be reconnected")
            .error(502, "The provider does not issue a token")
    });
    let result = get_with(show_result, |op| {
        op.summary("Shows the owner whether an account was connected")
            .query("error", SchemaKind::String, "Error code of the provider")
            .success::<200, BinaryContent>("The result as plain text")
    });
    ApiRouter::new()
        .api_route("/accounts/{type}/start", start)
        .api_route("/accounts/{type}/done", result)
        .api_route("/accounts/{type}/{id}/refresh", refresh)
        .api_route(
            "/accounts/{type}/{id}/manage",
            get_with(manage, |op| {
                provider_redirect(op.summary("Redirects the owner to the provider's page to manage an account"))
            }),
        )
        .api_route(
            "/accounts/{type}/{id}/reconnect",
            get_with(reconnect, |op| {
                provider_redirect(op.summary("Redirects the owner to a provider, to reconnect an account"))
            }),
        )
}

/// Returns the route that providers redirect to; its host may be shared by all instances.
pub fn callback_routes() -> ApiRouter<Platform> {
    let finish = get_with(handle_callback, |op| {
        op.summary("Receives the response of a provider")
            .query("state", SchemaKind::String, "The state of the authorization request")
            .query("code", SchemaKind::String, "Authorization code, which the server exchanges for tokens")
            .query("access_token", SchemaKind::String, "Access token, from providers that send one directly")
            .query("error", SchemaKind::String, "Error code of the provider, in place of a code or token")
            .success::<303, ()>("Redirects to the client, or to a result page")
            .error(400, "The state is unknown or expired")
            .error(404, "The account type does not exist")
            .error(502, "The provider does not issue a token")
    });
    ApiRouter::new().api_route("/accounts/{type}/redirect", finish)
}

/// Describes the parameters and responses of all redirects to a provider.
fn provider_redirect(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("session_code", SchemaKind::String, "Session code, which proves that the owner sent the request")
        .query("state", SchemaKind::String, "Opaque value, returned unchanged")
        .query(
            "redirect_url",
            SchemaKind::String,
            "Where to redirect the owner afterwards; default: a page of this server",
        )
        .success::<303, ()>("Redirects to the provider")
        .error(403, "The session code is missing or not valid")
        .error(422, "redirect_url is not a valid URL")
}

/// Parses the URL to which the user finally returns. Only pages are allowed, because a `javascript:` URL would run in
/// the current page.
fn redirect_url(params: &Params) -> Result<Option<Url>, ApiError> {
    let read = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| {
            ApiError::parameter("redirect_url", format!("redirect_url: '{text}' is not an http or https URL"))
        })
    };
    params.get_non_empty("redirect_url").map(read).transpose()
}

async fn redirect_to_provider(
    platform: &Platform,
    instance: &Instance,
    params: &Params,
    page: ProviderPage,
    (account_type, account): (String, Option<String>),
) -> Result<Response, ApiError> {
    let return_url = redirect_url(params)?;
    platform.auth().redeem_session_code(instance, params.get_non_empty("session_code")).await?;
    platform.rate_limits().check(instance, rate::RateKind::AccountOAuth)?;
    let text = |name: &str| params.get_non_empty(name).map(str::to_owned);
    let start = OAuthLogin {
        account_type,
        scope: text("scope"),
        client_state: text("state"),
        nonce: text("nonce"),
        account,
        return_url,
    };
    Ok(Redirect::to(platform.accounts().start_oauth(instance, page, start).await?.as_str()).into_response())
}

async fn start(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path(account_type): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let account = params.get_non_empty("account").map(str::to_owned);
    redirect_to_provider(&platform, &instance, &params, ProviderPage::Authorize, (account_type, account)).await
}

async fn manage(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path((account_type, id)): Path<(String, String)>,
    params: Params,
) -> Result<Response, ApiError> {
    redirect_to_provider(&platform, &instance, &params, ProviderPage::Manage, (account_type, Some(id))).await
}

async fn reconnect(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path((account_type, id)): Path<(String, String)>,
    params: Params,
) -> Result<Response, ApiError> {
    redirect_to_provider(&platform, &instance, &params, ProviderPage::Reconnect, (account_type, Some(id))).await
}

async fn handle_callback(
    State(platform): State<Platform>,
    Path(account_type): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let instance = request_host(request.uri(), request.headers()).and_then(|host| platform.instances().get(host).ok());
    let callback = OAuthCallback(Params::from_uri(request.uri()).into_pairs());
    let return_url = platform.accounts().finish_oauth(instance, &account_type, &callback).await?;
    Ok(Redirect::to(&return_url).into_response())
}

/// Returns the result page for users whose client gave no URL to return to.
async fn show_result(params: Params) -> &'static str {
    match params.get_non_empty("error") {
        None => "The account is connected. You can close this page.\n",
        Some(_) => {
            "The account is not connected: the provider did not grant access. You can close this page and try again.\n"
        }
    }
}

async fn refresh(
    State(platform): State<Platform>,
    caller: Caller,
    Path((account_type, id)): Path<(String, String)>,
) -> Result<Document, ApiError> {
    let Caller { instance, principal } = &caller;
    // Do not reveal existence or content to callers without read access.
    platform.documents().read(instance, principal, &ACCOUNTS, &id)?;
    platform.accounts().check_refresh(instance, principal, &id)?;
    platform.rate_limits().check(instance, rate::RateKind::AccountOAuth)?;
    platform.accounts().refresh(instance, &account_type, &id).await?;
    let document = platform.documents().read(instance, principal, &ACCOUNTS, &id)?;
    let resource = Resource::new(ACCOUNTS.as_str(), id.as_str(), &document.body)?;
    let link = format!("/data/{}/{id}", *ACCOUNTS);
    Ok(Document::one(resource.rev(&document.rev.to_string()).link("self", link)))
}
