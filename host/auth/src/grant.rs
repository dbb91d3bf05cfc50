//! How an OAuth client gets its tokens: with a code that the owner granted (RFC 6749 §4.1, with PKCE of RFC 7636), then
//! with its refresh token (§6).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::Auth;
use crate::oauth_client::OAuthClient;
use crate::one_time_token::OneTimeToken;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Claims};
use konnector_documents::stored::Stored;

/// Authorization that the owner granted to a client, until the client redeems its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationGrant {
    /// Id of the client.
    pub client: String,
    /// Scope of the grant.
    pub scope: String,
    /// SHA-256 of the client's `code_verifier`, if it sent a challenge (RFC 7636 §4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "challenge")]
    pub code_challenge: Option<String>,
}

impl OneTimeToken for AuthorizationGrant {
    const PURPOSE: &'static str = "code";
    const LIFETIME: TimeDelta = TimeDelta::minutes(5);
}

/// Request of a client for an authorization by the owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// Only `code`.
    pub response_type: String,
    /// Id of the client.
    pub client_id: String,
    /// One of the client's redirect URIs.
    pub redirect_uri: String,
    /// Returned unchanged, so that the client recognises its own request.
    pub state: String,
    /// Requested scope.
    pub scope: String,
    /// See [`AuthorizationGrant::challenge`].
    pub code_challenge: String,
    /// Only `S256`.
    pub code_challenge_method: String,
}

/// The tokens of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenResponse {
    /// Access token for requests; valid for seven days.
    pub access_token: String,
    /// Always `bearer`.
    pub token_type: &'static str,
    /// Refresh token for further access tokens, unless the client already has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Scope of the tokens.
    pub scope: String,
}

/// A request for tokens, as a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// `authorization_code` or `refresh_token`.
    pub grant_type: String,
    /// Id of the client.
    pub client_id: String,
    /// Secret of the client.
    pub client_secret: String,
    /// The code, for `authorization_code`.
    pub code: String,
    /// Verifier of the code's challenge, if there was one.
    pub code_verifier: String,
    /// The refresh token, for `refresh_token`.
    pub refresh_token: String,
}

fn oauth_error(error: &'static str, description: impl Into<String>) -> Error {
    Error::OAuth { error, description: description.into() }
}

/// Rejects a request that lacks a required parameter (RFC 6749 §5.2).
fn require(name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(oauth_error("invalid_request", format!("{name}: the parameter is missing; add it to the form")));
    }
    Ok(())
}

impl Auth {
    /// Checks the authorization request of a client, before the owner sees it. The redirect URI must belong to the
    /// client; nothing is sent to any other URI.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`], which names the invalid parameter.
    pub fn check_authorization_request(
        &self,
        instance: &Instance,
        request: &AuthorizationRequest,
    ) -> Result<Stored<OAuthClient>> {
        let wrong = |what: &str| Err(Error::BadRequest(what.to_owned()));
        if request.client_id.is_empty() {
            return wrong("client_id: the parameter is missing; send the client_id that the registration returned");
        }
        let client = match self.context.oauth_clients().get(instance, &request.client_id) {
            Ok(client) => client,
            Err(Error::NotFound(_)) => {
                return wrong(&format!("client_id: no client has the id '{}'", request.client_id));
            }
            Err(error) => return Err(error),
        };
        if !client.value.redirect_uris.contains(&request.redirect_uri) {
            return wrong(&format!("redirect_uri: the client did not register '{}'", request.redirect_uri));
        }
        if request.response_type != "code" {
            return wrong("response_type: the value must be 'code'");
        }
        if request.state.is_empty() {
            return wrong("state: the parameter is missing; it ties the response to the request");
        }
        if !request.code_challenge.is_empty() && request.code_challenge_method != "S256" {
            return wrong("code_challenge_method: the value must be 'S256'");
        }
        crate::token::parse_scope(&request.scope)?;
        Ok(client)
    }

    /// Grants a client's request; returns the URL to which its user goes with the code. The caller has checked that the
    /// owner grants it.
    ///
    /// # Errors
    ///
    /// As [`Auth::check_authorization_request`], and [`Error::RetryLater`] while too many authorizations are
    /// pending.
    pub async fn authorize_client(&self, instance: &Instance, request: &AuthorizationRequest) -> Result<Url> {
        self.check_authorization_request(instance, request)?;
        let challenge = Some(request.code_challenge.clone()).filter(|challenge| !challenge.is_empty());
        let grant = AuthorizationGrant {
            client: request.client_id.clone(),
            scope: request.scope.clone(),
            code_challenge: challenge,
        };
        let code = self.issue_one_time_token(instance, &grant).await?;
        let mut back: Url =
            request.redirect_uri.parse().map_err(|error| Error::BadRequest(format!("redirect_uri: {error}")))?;
        // Older clients of Cozy expect the second name.
        back.query_pairs_mut()
            .append_pair("state", &request.state)
            .append_pair("code", &code)
            .append_pair("access_code", &code);
        Ok(back)
    }

    /// Issues tokens to a client. A code can be redeemed once, even if the rest of the request is invalid.
    ///
    /// # Errors
    ///
    /// [`Error::OAuth`] with a code of RFC 6749 §5.2.
    pub async fn grant_tokens(&self, instance: &Instance, request: &TokenRequest) -> Result<TokenResponse> {
        require("grant_type", &request.grant_type)?;
        match request.grant_type.as_str() {
            "authorization_code" => require("code", &request.code)?,
            "refresh_token" => require("refresh_token", &request.refresh_token)?,
            other => {
                return Err(oauth_error(
                    "unsupported_grant_type",
                    format!("the grant_type '{other}' is not supported; use authorization_code or refresh_token"),
                ));
            }
        }
        require("client_id", &request.client_id)?;
        let unknown = || oauth_error("invalid_client", "the client is not registered, or its secret is wrong");
        let client = match self.context.oauth_clients().get(instance, &request.client_id) {
            Ok(client) => client,
            Err(Error::NotFound(_)) => return Err(unknown()),
            Err(error) => return Err(error),
        };
        if !client.value.verify_secret(&request.client_secret) {
            return Err(unknown());
        }
        if request.grant_type == "authorization_code" {
            let scope = self.redeem_authorization_code(instance, request).await?;
            let refresh = self.issue_token(instance, Audience::Refresh, &client.id, &scope)?;
            return self.token_response(instance, &client.id, scope, Some(refresh));
        }
        match self.verify_token(instance, &request.refresh_token) {
            Ok(Claims { aud: Audience::Refresh, sub, scope, .. }) if sub == client.id => {
                self.token_response(instance, &client.id, scope, None)
            }
            _ => Err(oauth_error("invalid_grant", "the refresh token is not valid")),
        }
    }

    async fn redeem_authorization_code(&self, instance: &Instance, request: &TokenRequest) -> Result<String> {
        let Some(grant) = self.redeem_one_time_token::<AuthorizationGrant>(instance, &request.code).await? else {
            return Err(oauth_error("invalid_grant", "the code is unknown, already used, or older than five minutes"));
        };
        let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(&request.code_verifier));
        if grant.client != request.client_id || grant.code_challenge.is_some_and(|challenge| challenge != verifier) {
            return Err(oauth_error(
                "invalid_grant",
                "the code belongs to another client, or the code_verifier is wrong",
            ));
        }
        Ok(grant.scope)
    }

    fn token_response(
        &self,
        instance: &Instance,
        client: &str,
        scope: String,
        refresh_token: Option<String>,
    ) -> Result<TokenResponse> {
        let access_token = self.issue_token(instance, Audience::Access, client, &scope)?;
        Ok(TokenResponse { access_token, token_type: "bearer", refresh_token, scope })
    }
}
