//! `/accounts`: connects accounts to their provider by OAuth, and refreshes their tokens (Cozy API: account types and OAuth, §7.4).

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

/// The routes of this module on an instance's host.
pub fn routes() -> ApiRouter<Platform> {
    let start = get_with(start, |op| {
        provider_redirect(op.summary("Sends the owner to a provider, to connect an account"))
            .query("scope", SchemaKind::String, "What is asked for at the provider")
            .query("nonce", SchemaKind::String, "Given to the provider with the code")
            .query("account", SchemaKind::String, "The account to connect again, in place of a new one")
    });
    let refresh = post_with(refresh, |op| {
        op.summary("Gets a new access token for an account")
            .error(401, "There is no token, or the provider wants the account to be connected again")
            .error(502, "The provider does not give a token")
    });
    let done = get_with(show_result, |op| {
        op.summary("Tells the owner how connecting an account ended")
            .query("error", SchemaKind::String, "Why it did not work")
            .success::<200, BinaryContent>("A text")
    });
    ApiRouter::new()
        .api_route("/accounts/{type}/start", start)
        .api_route("/accounts/{type}/done", done)
        .api_route("/accounts/{type}/{id}/refresh", refresh)
        .api_route(
            "/accounts/{type}/{id}/manage",
            get_with(manage, |op| {
                provider_redirect(op.summary("Sends the owner to the provider's page about an account"))
            }),
        )
        .api_route(
            "/accounts/{type}/{id}/reconnect",
            get_with(reconnect, |op| {
                provider_redirect(op.summary("Sends the owner to a provider, to connect an account again"))
            }),
        )
}

/// The route that providers call: its host may be shared by all instances.
pub fn callback_routes() -> ApiRouter<Platform> {
    let finish = get_with(handle_callback, |op| {
        op.summary("Takes what a provider sends back")
            .query("state", SchemaKind::String, "The state that the owner was sent with")
            .query("code", SchemaKind::String, "A code, which the server exchanges for tokens")
            .query("access_token", SchemaKind::String, "A token, from providers that send it at once")
            .query("error", SchemaKind::String, "Why there is none")
            .success::<303, ()>("Back to the client, or to a page that tells how it ended")
            .error(400, "The state is not good")
            .error(404, "There is no such account type")
            .error(502, "The provider does not give a token")
    });
    ApiRouter::new().api_route("/accounts/{type}/redirect", finish)
}

/// Common description of the redirects to a provider.
fn provider_redirect(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("session_code", SchemaKind::String, "Shows that the owner is there")
        .query("state", SchemaKind::String, "Comes back unchanged")
        .query("redirect_url", SchemaKind::String, "Where the owner goes in the end; a page of this server unless told")
        .success::<303, ()>("To the provider")
        .error(403, "There is no session code, or it is good for nothing")
        .error(422, "redirect_url is no address")
}

/// The URL to which a client finally sends its user: a page, not a URL that would run in the current page.
fn redirect_url(params: &Params) -> Result<Option<Url>, ApiError> {
    let read = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| ApiError::parameter("redirect_url", format!("'{text}' is no http or https address")))
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
    let back = redirect_url(params)?;
    platform.redeem_session_code(instance, params.get_non_empty("session_code")).await?;
    platform.check_rate_limit(instance, rate::RateKind::AccountOAuth)?;
    let text = |name: &str| params.get_non_empty(name).map(str::to_owned);
    let start = OAuthLogin {
        account_type,
        scope: text("scope"),
        client_state: text("state"),
        nonce: text("nonce"),
        account,
        return_url: back,
    };
    Ok(Redirect::to(platform.start_oauth(instance, page, start).await?.as_str()).into_response())
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
    let called = request_host(request.uri(), request.headers()).and_then(|host| platform.instance(host).ok());
    let callback = OAuthCallback(Params::from_uri(request.uri()).into_pairs());
    let back = platform.finish_oauth(called, &account_type, &callback).await?;
    Ok(Redirect::to(&back).into_response())
}

/// Result page for people, if the client gave no URL to return to.
async fn show_result(params: Params) -> &'static str {
    match params.get_non_empty("error") {
        None => "The account is connected. You can close this page.\n",
        Some(_) => {
            "The account is not connected: the provider says that access was not granted. You can close this page and try again.\n"
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
    platform.read_document(instance, principal, &ACCOUNTS, &id)?;
    platform.check_account_refresh(instance, principal, &id)?;
    platform.check_rate_limit(instance, rate::RateKind::AccountOAuth)?;
    platform.refresh_account(instance, &account_type, &id).await?;
    let document = platform.read_document(instance, principal, &ACCOUNTS, &id)?;
    let resource = Resource::new(ACCOUNTS.as_str(), id.as_str(), &document.body)?;
    let link = format!("/data/{}/{id}", *ACCOUNTS);
    Ok(Document::one(resource.rev(&document.rev.to_string()).link("self", link)))
}
