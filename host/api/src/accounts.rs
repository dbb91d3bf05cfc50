//! `/accounts`: connects accounts to their provider by OAuth, and refreshes their tokens (Cozy API: account types and OAuth, §7.4).

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use konnector_platform::Platform;
use konnector_platform::account::oauth::{Callback, Page, Start};
use konnector_platform::doctype::ACCOUNTS;
use konnector_platform::instance::Instance;
use konnector_platform::rate;
use url::Url;

use crate::error::Failure;
use crate::extract::{Caller, Host, Params, host};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Content, Describe as _, Kind};

/// The routes of this module that are an instance's.
pub fn routes() -> ApiRouter<Platform> {
    let start = get_with(start, |op| {
        sent(op.summary("Sends the owner to a provider, to connect an account"))
            .query("scope", Kind::Text, "What is asked for at the provider")
            .query("nonce", Kind::Text, "Given to the provider with the code")
            .query("account", Kind::Text, "The account to connect again, in place of a new one")
    });
    let refresh = post_with(refresh, |op| {
        op.summary("Gets a new access token for an account")
            .fails(401, "There is no token, or the provider wants the account to be connected again")
            .fails(502, "The provider does not give a token")
    });
    let done = get_with(done, |op| {
        op.summary("Tells the owner how connecting an account ended")
            .query("error", Kind::Text, "Why it did not work")
            .answers::<200, Content>("A text")
    });
    ApiRouter::new()
        .api_route("/accounts/{type}/start", start)
        .api_route("/accounts/{type}/done", done)
        .api_route("/accounts/{type}/{id}/refresh", refresh)
        .api_route(
            "/accounts/{type}/{id}/manage",
            get_with(manage, |op| sent(op.summary("Sends the owner to the provider's page about an account"))),
        )
        .api_route(
            "/accounts/{type}/{id}/reconnect",
            get_with(reconnect, |op| sent(op.summary("Sends the owner to a provider, to connect an account again"))),
        )
}

/// The route that providers call: its host may be one that all instances share.
pub fn callback() -> ApiRouter<Platform> {
    let finish = get_with(finish, |op| {
        op.summary("Takes what a provider sends back")
            .query("state", Kind::Text, "The state that the owner was sent with")
            .query("code", Kind::Text, "A code, which the server exchanges for tokens")
            .query("access_token", Kind::Text, "A token, from providers that send it at once")
            .query("error", Kind::Text, "Why there is none")
            .answers::<303, ()>("Back to the client, or to a page that tells how it ended")
            .fails(400, "The state is not good")
            .fails(404, "There is no such account type")
            .fails(502, "The provider does not give a token")
    });
    ApiRouter::new().api_route("/accounts/{type}/redirect", finish)
}

/// What the ways to a provider have in common.
fn sent(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("session_code", Kind::Text, "Shows that the owner is there")
        .query("state", Kind::Text, "Comes back unchanged")
        .query("redirect_url", Kind::Text, "Where the owner goes in the end; a page of this server unless told")
        .answers::<303, ()>("To the provider")
        .fails(403, "There is no session code, or it is good for nothing")
        .fails(422, "redirect_url is no address")
}

/// Where a client wants its user to go in the end: a page, nothing that runs in the one that is shown.
fn way_back(params: &Params) -> Result<Option<Url>, Failure> {
    let read = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| Failure::parameter("redirect_url", format!("'{text}' is no http or https address")))
    };
    params.filled("redirect_url").map(read).transpose()
}

async fn go(
    platform: &Platform,
    instance: &Instance,
    params: &Params,
    page: Page,
    (account_type, account): (String, Option<String>),
) -> Result<Response, Failure> {
    let back = way_back(params)?;
    platform.take_session(instance, params.filled("session_code")).await?;
    platform.admit(instance, rate::Kind::AccountOAuth)?;
    let text = |name: &str| params.filled(name).map(str::to_owned);
    let start =
        Start { account_type, scope: text("scope"), client_state: text("state"), nonce: text("nonce"), account, back };
    Ok(Redirect::to(platform.start_oauth(instance, page, start).await?.as_str()).into_response())
}

async fn start(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path(account_type): Path<String>,
    params: Params,
) -> Result<Response, Failure> {
    let account = params.filled("account").map(str::to_owned);
    go(&platform, &instance, &params, Page::Authorize, (account_type, account)).await
}

async fn manage(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((account_type, id)): Path<(String, String)>,
    params: Params,
) -> Result<Response, Failure> {
    go(&platform, &instance, &params, Page::Manage, (account_type, Some(id))).await
}

async fn reconnect(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((account_type, id)): Path<(String, String)>,
    params: Params,
) -> Result<Response, Failure> {
    go(&platform, &instance, &params, Page::Reconnect, (account_type, Some(id))).await
}

async fn finish(
    State(platform): State<Platform>,
    Path(account_type): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let called = host(request.uri(), request.headers()).and_then(|host| platform.instance(host).ok());
    let callback = Callback(Params::of(request.uri()).pairs());
    let back = platform.finish_oauth(called, &account_type, &callback).await?;
    Ok(Redirect::to(&back).into_response())
}

/// For people, where no client said where they go in the end.
async fn done(params: Params) -> &'static str {
    match params.filled("error") {
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
) -> Result<Document, Failure> {
    let Caller { instance, principal } = &caller;
    // Whether it exists, and what it holds, is told only to those who may know.
    platform.read_document(instance, principal, &ACCOUNTS, &id)?;
    platform.check_refreshed_account(instance, principal, &id)?;
    platform.admit(instance, rate::Kind::AccountOAuth)?;
    platform.refresh_account(instance, &account_type, &id).await?;
    let document = platform.read_document(instance, principal, &ACCOUNTS, &id)?;
    let resource = Resource::new(ACCOUNTS.as_str(), id.as_str(), &document.body)?;
    let link = format!("/data/{}/{id}", *ACCOUNTS);
    Ok(Document::one(resource.rev(&document.rev.to_string()).link("self", link)))
}
