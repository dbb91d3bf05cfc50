//! `/auth`: OAuth clients register themselves and get their tokens (Cozy API: auth). There are no browser sessions here: the owner shows that
//! it is the owner with a session code, which comes from the operator's command line or from a program that has every right.

pub mod operator;

use std::sync::Arc;

use aide::OperationInput;
use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::generate::GenContext;
use aide::openapi::Operation;
use aide::transform::TransformOperation;
use askama::Template;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use konnector_manifest::Slug;
use konnector_platform::grant::{AuthorizationRequest, TokenRequest};
use konnector_platform::instance::Instance;
use konnector_platform::oauth_client::{ClientRegistration, OAuthClient};
use konnector_platform::one_time_token::OneTimeToken;
use konnector_platform::rate;
use konnector_platform::token::Audience;
use konnector_platform::{Platform, Stored};
use serde_json::{Value, json};

use crate::credentials::bearer;
use crate::error::ApiError;
use crate::extract::{Caller, FormBody, HostInstance, JsonObject, Params};
use crate::openapi::{BinaryContent, Describe, SchemaKind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let register = post_with(register, |op| {
        metadata(op.summary("Registers an OAuth client")).success::<201, Json<Value>>("The client, with its secret")
    });
    let own = get_with(show, |op| registration_operation(op.summary("What an OAuth client said of itself")))
        .put_with(update, |op| {
            metadata(registration_operation(op.summary("Changes what an OAuth client said of itself")))
        })
        .delete_with(unregister, |op| {
            registration_operation(op.summary("Removes an OAuth client, with all its tokens"))
                .success::<204, ()>("It is gone")
        });
    let authorize = get_with(start_authorization, |op| {
        authorization_parameters(
            op.summary("Asks the owner to let an OAuth client have what it wants"),
            Describe::query,
        )
        .success::<200, BinaryContent>("A page that asks for a session code")
        .success::<303, ()>("There was a session code: back to the client, with a code")
        .error(403, "The session code is good for nothing")
    })
    .post_with(approve, |op| {
        authorization_parameters(op.summary("Lets an OAuth client have what it wants"), Describe::field)
            .success::<303, ()>("Back to the client, with a code")
            .error(403, "The session code is good for nothing")
    });
    let tokens = post_with(tokens, |op| {
        op.summary("Gives an OAuth client its tokens")
            .field("grant_type", SchemaKind::String, "authorization_code or refresh_token")
            .field("client_id", SchemaKind::String, "The client")
            .field("client_secret", SchemaKind::String, "Its secret")
            .field("code", SchemaKind::String, "The code that the owner let it have")
            .field("code_verifier", SchemaKind::String, "What the code's challenge was made of (RFC 7636)")
            .field("refresh_token", SchemaKind::String, "Its refresh token")
    });
    let session = post_with(session_code, |op| {
        op.summary("Makes a session code, which shows once within five minutes that the owner is there")
            .success::<201, Json<Value>>("The code")
    });
    let konnector = post_with(konnector_token, |op| {
        op.summary("Makes a token for a konnector that runs elsewhere").success::<201, Json<String>>("The token")
    });
    ApiRouter::new()
        .api_route("/auth/register", register)
        .api_route("/auth/register/{client_id}", own)
        .api_route("/auth/authorize", authorize)
        .api_route("/auth/access_token", tokens)
        .api_route("/auth/session_code", session)
        .api_route("/auth/tokens/konnectors/{slug}", konnector)
}

/// Common description of a client's requests about its own registration.
fn registration_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("Authorization", "Bearer and the client's registration_access_token")
        .error(401, "The token is not that of this registration")
        .error(409, "Somebody else wrote in between")
}

/// Describes the metadata that a client sends.
fn metadata(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.field("redirect_uris", SchemaKind::Strings, "Where its user is sent back to")
        .field("client_name", SchemaKind::String, "Its name")
        .field("software_id", SchemaKind::String, "The same for all registrations of a program")
        .field("client_kind", SchemaKind::String, "mobile, desktop, browser, …")
        .field("client_id", SchemaKind::String, "Its id, to change a registration")
        .field("client_secret", SchemaKind::String, "Its secret, to get another one")
}

/// Describes the parameters of an authorization request.
fn authorization_parameters<'t>(
    op: TransformOperation<'t>,
    say: fn(TransformOperation<'t>, &str, SchemaKind, &str) -> TransformOperation<'t>,
) -> TransformOperation<'t> {
    let parameters = [
        ("client_id", "The client"),
        ("redirect_uri", "One of the client's own"),
        ("response_type", "code"),
        ("state", "Comes back unchanged"),
        ("scope", "What it wants to do"),
        ("code_challenge", "See RFC 7636"),
        ("code_challenge_method", "S256"),
        ("session_code", "Shows that the owner is there"),
    ];
    parameters.into_iter().fold(op, |op, (name, what)| say(op, name, SchemaKind::String, what))
}

/// A client's metadata with the values that it receives once, as in RFC 7591 §3.2.1.
pub fn registration_response(registered: &ClientRegistration) -> Value {
    let client = &registered.client;
    let mut shown = json!({
        "client_id": client.id,
        "client_secret_expires_at": 0,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": client.value.redirect_uris,
        "client_name": client.value.client_name,
        "software_id": client.value.software_id,
    });
    if let Some(members) = shown.as_object_mut() {
        members.extend(client.value.metadata.clone());
        if let Some(secret) = &registered.secret {
            members.insert("client_secret".to_owned(), json!(secret));
        }
        members.insert("registration_access_token".to_owned(), json!(registered.registration_token));
    }
    shown
}

async fn register(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    platform.check_rate_limit(&instance, rate::RateKind::OAuthClient)?;
    let registered = platform.register_oauth_client(&instance, body).await?;
    Ok((StatusCode::CREATED, Json(registration_response(&registered))))
}

/// Returns the client of a path and its own token. Existence is checked before the token: client ids cannot be
/// guessed.
fn authenticated_client(
    platform: &Platform,
    instance: &Instance,
    id: &str,
    headers: &HeaderMap,
) -> Result<(Stored<OAuthClient>, String), ApiError> {
    platform.oauth_client(instance, id)?;
    let token = bearer(headers).ok_or_else(|| ApiError::unauthenticated("No token in request", "Bearer"))?;
    Ok((platform.oauth_client_by_token(instance, id, &token)?, token))
}

/// A client's request about its own registration. Its token is checked before the body is read.
struct Registration {
    instance: Arc<Instance>,
    client: Stored<OAuthClient>,
    token: String,
}

impl FromRequestParts<Platform> for Registration {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, ApiError> {
        let HostInstance(instance) = HostInstance::from_request_parts(parts, platform).await?;
        let unreadable = |error: PathRejection| ApiError::bad_request(error.body_text());
        let Path(id) = Path::<String>::from_request_parts(parts, platform).await.map_err(unreadable)?;
        let (client, token) = authenticated_client(platform, &instance, &id, &parts.headers)?;
        Ok(Self { instance, client, token })
    }
}

impl OperationInput for Registration {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        HostInstance::operation_input(ctx, operation);
        Path::<String>::operation_input(ctx, operation);
    }
}

async fn show(Registration { client, token: registration, .. }: Registration) -> Result<Json<Value>, ApiError> {
    Ok(Json(registration_response(&ClientRegistration { client, secret: None, registration_token: registration })))
}

async fn update(
    State(platform): State<Platform>,
    Registration { instance, client, .. }: Registration,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(registration_response(&platform.update_oauth_client(&instance, client, body).await?)))
}

async fn unregister(
    State(platform): State<Platform>,
    Registration { instance, client, .. }: Registration,
) -> Result<StatusCode, ApiError> {
    platform.delete_oauth_client(&instance, &client.id, &client.rev).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Parses the authorization request of a client.
fn parse_authorization_request(params: &Params) -> AuthorizationRequest {
    let text = |name: &str| params.get(name).unwrap_or_default().to_owned();
    AuthorizationRequest {
        response_type: text("response_type"),
        client_id: text("client_id"),
        redirect_uri: text("redirect_uri"),
        state: text("state"),
        scope: text("scope"),
        code_challenge: text("code_challenge"),
        code_challenge_method: text("code_challenge_method"),
    }
}

/// Where the owner reads what a client wants.
#[derive(Template)]
#[template(path = "authorize.html")]
struct ConsentPage<'a> {
    client: &'a str,
    domain: &'a str,
    rules: Vec<String>,
    request: &'a AuthorizationRequest,
}

/// With a session code, the client is authorized at once: the holder of the code created this URL. Otherwise the
/// owner is asked.
async fn start_authorization(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    params: Params,
) -> Result<Response, ApiError> {
    let wish = parse_authorization_request(&params);
    let client = platform.check_authorization_request(&instance, &wish)?;
    if params.get_non_empty("session_code").is_some() {
        return redirect_with_code(&platform, &instance, &wish, &params).await;
    }
    let rules = wish.scope.split_whitespace().map(str::to_owned).collect();
    let page = ConsentPage { client: &client.value.client_name, domain: &instance.domain, rules, request: &wish };
    let page = page.render().map_err(|error| ApiError::server(format!("the page cannot be written: {error}")))?;
    Ok(Html(page).into_response())
}

async fn approve(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    FormBody(params): FormBody,
) -> Result<Response, ApiError> {
    let wish = parse_authorization_request(&params);
    platform.check_authorization_request(&instance, &wish)?;
    redirect_with_code(&platform, &instance, &wish, &params).await
}

async fn redirect_with_code(
    platform: &Platform,
    instance: &Instance,
    wish: &AuthorizationRequest,
    params: &Params,
) -> Result<Response, ApiError> {
    platform.redeem_session_code(instance, params.get_non_empty("session_code")).await?;
    Ok(Redirect::to(platform.authorize_client(instance, wish).await?.as_str()).into_response())
}

async fn tokens(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    FormBody(params): FormBody,
) -> Result<Json<Value>, ApiError> {
    platform.check_rate_limit(&instance, rate::RateKind::Token)?;
    let text = |name: &str| params.get(name).unwrap_or_default().to_owned();
    let request = TokenRequest {
        grant_type: text("grant_type"),
        client_id: text("client_id"),
        client_secret: text("client_secret"),
        code: text("code"),
        code_verifier: text("code_verifier"),
        refresh_token: text("refresh_token"),
    };
    let tokens = serde_json::to_value(platform.grant_tokens(&instance, &request).await?);
    tokens.map(Json).map_err(|error| ApiError::server(error.to_string()))
}

async fn session_code(State(platform): State<Platform>, caller: Caller) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.check_owner()?;
    platform.check_rate_limit(&caller.instance, rate::RateKind::Token)?;
    let code = platform.issue_one_time_token(&caller.instance, OneTimeToken::Session).await?;
    Ok((StatusCode::CREATED, Json(json!({ "session_code": code }))))
}

/// Issues a token for a konnector that runs in the client.
async fn konnector_token(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<(StatusCode, Json<String>), ApiError> {
    caller.check_owner()?;
    platform.check_rate_limit(&caller.instance, rate::RateKind::Token)?;
    let missing = |_| ApiError::request(StatusCode::NOT_FOUND, format!("the konnector '{slug}' is not installed"));
    let slug: Slug = slug.parse().map_err(missing)?;
    platform.konnector(&caller.instance, &slug)?;
    let token = platform.issue_token(&caller.instance, Audience::Konnector, slug.as_ref(), "")?;
    Ok((StatusCode::CREATED, Json(token)))
}
