//! `/auth`: OAuth clients register themselves and get their tokens (Cozy API: auth). There are no browser sessions; the
//! owner authenticates with a session code from the operator's command line, or from a program with full access.

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
use konnector_platform::one_time_token::SessionCode;
use konnector_platform::principal::Audience;
use konnector_platform::rate;
use konnector_platform::{Platform, Stored};
use serde_json::{Value, json};

use crate::credentials::bearer;
use crate::error::ApiError;
use crate::extract::{Caller, FormBody, HostInstance, JsonObject, Params};
use crate::openapi::{BinaryContent, Describe, SchemaKind};

pub fn routes() -> ApiRouter<Platform> {
    let register = post_with(register, |op| {
        metadata(op.summary("Registers an OAuth client")).success::<201, Json<Value>>("The client, with its secret")
    });
    let registration =
        get_with(show, |op| registration_operation(op.summary("Shows the registration of an OAuth client")))
            .put_with(update, |op| {
                metadata(registration_operation(op.summary("Changes the registration of an OAuth client")))
            })
            .delete_with(unregister, |op| {
                registration_operation(op.summary("Deletes an OAuth client, with all its tokens"))
                    .success::<204, ()>("The client is deleted")
            });
    let authorize = get_with(start_authorization, |op| {
        authorization_parameters(
            op.summary("Asks the owner to approve the authorization request of an OAuth client"),
            Describe::query,
        )
        .success::<200, BinaryContent>("A page that asks for a session code")
        .success::<303, ()>("With a session code: redirects to the client, with an authorization code")
        .error(403, "The session code is not valid")
    })
    .post_with(approve, |op| {
        authorization_parameters(op.summary("Approves the authorization request of an OAuth client"), Describe::field)
            .success::<303, ()>("Redirects to the client, with an authorization code")
            .error(403, "The session code is not valid")
    });
    let tokens = post_with(tokens, |op| {
        op.summary("Issues tokens to an OAuth client")
            .field("grant_type", SchemaKind::String, "authorization_code or refresh_token")
            .field("client_id", SchemaKind::String, "Id of the client")
            .field("client_secret", SchemaKind::String, "Secret of the client")
            .field("code", SchemaKind::String, "Authorization code")
            .field("code_verifier", SchemaKind::String, "Verifier of the code challenge (RFC 7636)")
            .field("refresh_token", SchemaKind::String, "Refresh token of the client")
    });
    let session = post_with(session_code, |op| {
        op.summary("Issues a session code, which authenticates the owner once within five minutes")
            .success::<201, Json<Value>>("The session code")
    });
    let konnector = post_with(konnector_token, |op| {
        op.summary("Issues a token for a konnector that runs outside the server")
            .success::<201, Json<String>>("The token")
    });
    ApiRouter::new()
        .api_route("/auth/register", register)
        .api_route("/auth/register/{client_id}", registration)
        .api_route("/auth/authorize", authorize)
        .api_route("/auth/access_token", tokens)
        .api_route("/auth/session_code", session)
        .api_route("/auth/tokens/konnectors/{slug}", konnector)
}

/// Describes the token and the errors of a client's requests about its own registration.
fn registration_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("Authorization", "Bearer, followed by the registration_access_token of the client")
        .error(401, "The token does not belong to this registration")
        .error(409, "Concurrent modification")
}

/// Describes the metadata that a client sends.
fn metadata(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.field("redirect_uris", SchemaKind::Strings, "Redirect URIs of the client")
        .field("client_name", SchemaKind::String, "Name of the client")
        .field("software_id", SchemaKind::String, "Id of the program, equal for all its registrations")
        .field("client_kind", SchemaKind::String, "mobile, desktop, browser, …")
        .field("client_id", SchemaKind::String, "Id of the client, to change its registration")
        .field("client_secret", SchemaKind::String, "Current secret of the client, to get a new one")
}

/// Describes the parameters of an authorization request.
fn authorization_parameters<'t>(
    op: TransformOperation<'t>,
    describe: fn(TransformOperation<'t>, &str, SchemaKind, &str) -> TransformOperation<'t>,
) -> TransformOperation<'t> {
    let parameters = [
        ("client_id", "Id of the client"),
        ("redirect_uri", "One of the redirect URIs of the client"),
        ("response_type", "code"),
        ("state", "Opaque value, returned unchanged"),
        ("scope", "Permissions that the client requests"),
        ("code_challenge", "Code challenge (RFC 7636)"),
        ("code_challenge_method", "S256"),
        ("session_code", "Session code, which proves that the owner sent the request"),
    ];
    parameters.into_iter().fold(op, |op, (name, description)| describe(op, name, SchemaKind::String, description))
}

/// Returns the metadata of a client and the secrets that it receives only once (RFC 7591 §3.2.1).
pub fn registration_response(registered: &ClientRegistration) -> Value {
    let client = &registered.client;
    let mut response = json!({
        "client_id": client.id,
        "client_secret_expires_at": 0,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": client.value.redirect_uris,
        "client_name": client.value.client_name,
        "software_id": client.value.software_id,
    });
    if let Some(members) = response.as_object_mut() {
        members.extend(client.value.metadata.clone());
        if let Some(secret) = &registered.secret {
            members.insert("client_secret".to_owned(), json!(secret));
        }
        members.insert("registration_access_token".to_owned(), json!(registered.registration_token));
    }
    response
}

async fn register(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    platform.rate_limits().check(&instance, rate::RateKind::OAuthClient)?;
    let registered = platform.oauth_clients().register(&instance, body).await?;
    Ok((StatusCode::CREATED, Json(registration_response(&registered))))
}

/// Returns the client of a path and its own token. Existence is checked before the token, because client ids cannot be
/// guessed.
fn authenticated_client(
    platform: &Platform,
    instance: &Instance,
    id: &str,
    headers: &HeaderMap,
) -> Result<(Stored<OAuthClient>, String), ApiError> {
    platform.oauth_clients().get(instance, id)?;
    let token = bearer(headers).ok_or_else(|| ApiError::unauthenticated("No token in request", "Bearer"))?;
    Ok((platform.oauth_clients().get_by_token(instance, id, &token)?, token))
}

/// A client's request about its own registration. The token is checked before the body is read.
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
    Ok(Json(registration_response(&platform.oauth_clients().update(&instance, client, body).await?)))
}

async fn unregister(
    State(platform): State<Platform>,
    Registration { instance, client, .. }: Registration,
) -> Result<StatusCode, ApiError> {
    platform.oauth_clients().delete(&instance, &client.id, &client.rev).await?;
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

/// The page on which the owner approves the request of a client.
#[derive(Template)]
#[template(path = "authorize.html")]
struct ConsentPage<'a> {
    client: &'a str,
    domain: &'a str,
    rules: Vec<String>,
    request: &'a AuthorizationRequest,
}

/// Authorizes the client at once if the URL contains a session code, because the holder of the code created the URL.
/// Otherwise shows the consent page.
async fn start_authorization(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    params: Params,
) -> Result<Response, ApiError> {
    let request = parse_authorization_request(&params);
    let client = platform.auth().check_authorization_request(&instance, &request)?;
    if params.get_non_empty("session_code").is_some() {
        return redirect_with_code(&platform, &instance, &request, &params).await;
    }
    let rules = request.scope.split_whitespace().map(str::to_owned).collect();
    let page = ConsentPage { client: &client.value.client_name, domain: &instance.domain, rules, request: &request };
    let page = page.render().map_err(|error| ApiError::server(format!("cannot render the consent page: {error}")))?;
    Ok(Html(page).into_response())
}

async fn approve(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    FormBody(params): FormBody,
) -> Result<Response, ApiError> {
    let request = parse_authorization_request(&params);
    platform.auth().check_authorization_request(&instance, &request)?;
    redirect_with_code(&platform, &instance, &request, &params).await
}

async fn redirect_with_code(
    platform: &Platform,
    instance: &Instance,
    request: &AuthorizationRequest,
    params: &Params,
) -> Result<Response, ApiError> {
    platform.auth().redeem_session_code(instance, params.get_non_empty("session_code")).await?;
    Ok(Redirect::to(platform.auth().authorize_client(instance, request).await?.as_str()).into_response())
}

async fn tokens(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    FormBody(params): FormBody,
) -> Result<Json<Value>, ApiError> {
    platform.rate_limits().check(&instance, rate::RateKind::Token)?;
    let text = |name: &str| params.get(name).unwrap_or_default().to_owned();
    let request = TokenRequest {
        grant_type: text("grant_type"),
        client_id: text("client_id"),
        client_secret: text("client_secret"),
        code: text("code"),
        code_verifier: text("code_verifier"),
        refresh_token: text("refresh_token"),
    };
    let tokens = serde_json::to_value(platform.auth().grant_tokens(&instance, &request).await?);
    tokens.map(Json).map_err(|error| ApiError::server(error.to_string()))
}

async fn session_code(State(platform): State<Platform>, caller: Caller) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.check_owner()?;
    platform.rate_limits().check(&caller.instance, rate::RateKind::Token)?;
    let code = platform.auth().issue_one_time_token(&caller.instance, &SessionCode {}).await?;
    Ok((StatusCode::CREATED, Json(json!({ "session_code": code }))))
}

/// Issues a token for a konnector that runs in the client, not on the server.
async fn konnector_token(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<(StatusCode, Json<String>), ApiError> {
    caller.check_owner()?;
    platform.rate_limits().check(&caller.instance, rate::RateKind::Token)?;
    let missing = |_| ApiError::request(StatusCode::NOT_FOUND, format!("the konnector '{slug}' is not installed"));
    let slug: Slug = slug.parse().map_err(missing)?;
    platform.konnectors().get(&caller.instance, &slug)?;
    let token = platform.auth().issue_token(&caller.instance, Audience::Konnector, slug.as_ref(), "")?;
    Ok((StatusCode::CREATED, Json(token)))
}
