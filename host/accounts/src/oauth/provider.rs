//! Requests tokens from a provider (RFC 6749 §4.1.3, §6), through the same gate as a konnector's requests: private
//! addresses only if the operator allows them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration as Period;
use konnector_egress::{BodyFormat, DecodedBody, HttpBudget, Request, SecretTable, SessionOptions};
use konnector_manifest::HttpRules;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::Accounts;
use crate::account_type::{AccountType, TokenMode};
use crate::{Error, Result};
use konnector_documents::stored::{Object, Stored};

const PROVIDER_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of a response, in bytes.
const MAX_RESPONSE_SIZE: u64 = 256 << 10;
/// Maximum lifetime of a token; longer lifetimes are capped.
const MAX_TOKEN_LIFETIME_SECS: i64 = 10 * 366 * 86_400;

/// Token response of a provider (RFC 6749 §5.1).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TokenResponse {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
    /// Fields that only this provider sends.
    #[serde(flatten)]
    pub(super) extra: Object,
}

/// Error response of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenErrorResponse {
    status: u16,
    error: Option<String>,
}

impl TokenErrorResponse {
    /// Returns whether the token is at fault (RFC 6749 §5.2, RFC 6750 §3.1), as opposed to the server's own credentials
    /// or an outage of the provider.
    pub(super) fn is_invalid_token(&self) -> bool {
        matches!(self.error.as_deref(), Some("invalid_grant" | "invalid_token"))
            || (self.status == 401 && self.error.is_none())
    }

    pub(super) fn to_error(&self) -> Error {
        let error = self.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
        Error::Provider(format!("the provider rejected the token request: status {}{error}", self.status))
    }
}

impl Accounts {
    /// Requests tokens; the inner error is the provider's own rejection.
    ///
    /// # Errors
    ///
    /// [`Error::Provider`] if the provider cannot be reached or its response is not valid.
    pub(super) async fn request_tokens(
        &self,
        kind: &Stored<AccountType>,
        endpoint: &Url,
        form: &[(&str, &str)],
    ) -> Result<Result<TokenResponse, TokenErrorResponse>> {
        let id = kind.value.client_id.clone().unwrap_or_default();
        let secret = self.context.account_types().client_secret(kind)?.unwrap_or_default();
        let mut form = form.to_vec();
        if kind.value.token_mode != TokenMode::Basic {
            form.extend([("client_id", id.as_str()), ("client_secret", secret.as_str())]);
        }
        let mut request = Request {
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            body_format: BodyFormat::Bytes,
            timeout: Some(PROVIDER_TIMEOUT),
            // A redirect would send the credentials elsewhere.
            follow_redirects: false,
            ..Request::get(endpoint.as_str())
        };
        if kind.value.token_mode == TokenMode::Get {
            let mut address = endpoint.clone();
            address.query_pairs_mut().extend_pairs(&form);
            request.url = address.to_string();
        } else {
            "POST".clone_into(&mut request.method);
            request.body = Some(Serializer::new(String::new()).extend_pairs(&form).finish().into());
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        if kind.value.token_mode == TokenMode::Basic {
            // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(&id), encode(&secret)));
            request = request.header("authorization", &format!("Basic {pair}"));
        }
        let session = self.context.state.gate.session(SessionOptions {
            rules: HttpRules::allow_all(),
            cookies: None,
            budget: HttpBudget {
                requests: 1,
                bytes_up: MAX_RESPONSE_SIZE,
                bytes_down: MAX_RESPONSE_SIZE,
                body_limit: MAX_RESPONSE_SIZE,
            },
            secrets: Arc::new(SecretTable::default()),
            account: None,
        });
        let response = session.send(request).await;
        let origin = endpoint.origin().ascii_serialization();
        let response =
            response.map_err(|error| Error::Provider(format!("the provider {origin} cannot be reached: {error}")))?;
        let body = match &response.body {
            DecodedBody::Bytes(bytes) => bytes.as_ref(),
            DecodedBody::Text(text) => text.as_bytes(),
        };
        let mut members: Object = serde_json::from_slice(body).unwrap_or_default();
        let error = members.shift_remove("error").as_ref().and_then(Value::as_str).map(str::to_owned);
        if response.status != 200 || error.is_some() {
            return Ok(Err(TokenErrorResponse { status: response.status, error }));
        }
        let answer = serde_json::from_value(Value::Object(members));
        answer
            .map(Ok)
            .map_err(|error| Error::Provider(format!("unexpected response from the provider {origin}: {error}")))
    }

    /// Writes tokens into the `oauth` field of an account, in plain text; returns the remaining fields.
    pub(super) fn set_tokens(&self, answer: TokenResponse, oauth: &mut Object) -> Result<TokenResponse> {
        // Some providers use this name.
        let access = answer.access_token.clone().or_else(|| answer.id_token.clone());
        let access =
            access.ok_or_else(|| Error::Provider("the provider's response contains no access token".to_owned()))?;
        let seconds =
            answer.expires_in.as_ref().and_then(|given| given.as_i64().or_else(|| given.as_str()?.parse().ok()));
        let end = seconds
            .filter(|seconds| *seconds > 0)
            .map(|seconds| self.context.core.clock().now() + Period::seconds(seconds.min(MAX_TOKEN_LIFETIME_SECS)));
        let members = [
            ("access_token", Some(access)),
            ("refresh_token", answer.refresh_token.clone()),
            ("id_token", answer.id_token.clone()),
            ("token_type", answer.token_type.clone()),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                oauth.insert(name.to_owned(), json!(value));
            }
        }
        match end {
            Some(end) => oauth.insert("expires_at".to_owned(), json!(end)),
            None => oauth.shift_remove("expires_at"),
        };
        Ok(answer)
    }
}
