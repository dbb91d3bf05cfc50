//! Accounts that are connected by OAuth. The user is sent to the provider of the service and comes back with a code or
//! a token, which the account stores sealed (Cozy API, account types and OAuth, §7.4; RFC 6749 §4.1).

mod provider;
mod refresh;

use std::sync::Arc;

use konnector_store::Document;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

pub(crate) use refresh::Singleflight;

use crate::Accounts;
use crate::account_type::{AccountType, GrantMode};
use crate::{Error, Result};
use chrono::TimeDelta;
use konnector_auth::one_time_token::OneTimeToken;
use konnector_documents::doctype::ACCOUNTS;
use konnector_documents::instance::Instance;
use konnector_documents::principal::Principal;
use konnector_documents::stored::{Object, Stored};

/// How often the write of an account is retried after a concurrent change.
const MAX_ATTEMPTS: usize = 5;

/// Pending login at a provider: the values to compare its response with, and where to send the user then. Stored under
/// the state that the provider sends back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthLogin {
    /// Id of the account type.
    pub account_type: String,
    /// Scope requested from the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The client's own state, returned to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_state: Option<String>,
    /// Nonce, sent to the provider with the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The account to reconnect, instead of creating a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Where to send the user at the end; if absent, the user sees a success page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "back")]
    pub return_url: Option<Url>,
}

/// Page of a provider to which the user is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderPage {
    /// Where the user connects for the first time.
    Authorize,
    /// Where the user manages a connection.
    Manage,
    /// Where the user connects again.
    Reconnect,
}

/// Response of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OAuthCallback(pub Vec<(String, String)>);

impl OAuthCallback {
    /// Returns a parameter that is not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Returns the parameters that konnectors may need, as Cozy stores them: lists of strings by name, without secrets.
    fn query(&self) -> Object {
        let mut query = Object::new();
        for (name, value) in &self.0 {
            if !matches!(name.as_str(), "state" | "code" | "access_token" | "refresh_token" | "id_token")
                && let Value::Array(values) = query.entry(name).or_insert_with(|| json!([]))
            {
                values.push(json!(value));
            }
        }
        query
    }
}

fn bad_state() -> Error {
    Error::BadRequest(
        "bad state: this login is unknown, already finished, or older than 15 minutes; start again".to_owned(),
    )
}

impl OneTimeToken for OAuthLogin {
    const PURPOSE: &'static str = "start";
    const LIFETIME: TimeDelta = TimeDelta::minutes(15);
}

impl Accounts {
    /// Returns the address at which a user comes back from a provider.
    fn redirect_uri(&self, instance: &Instance, kind: &Stored<AccountType>) -> String {
        match &kind.value.redirect_uri {
            Some(registered) => registered.to_string(),
            None => format!("{}://{}/accounts/{}/redirect", self.context.state.scheme, instance.domain, kind.id),
        }
    }

    /// Starts a login at a provider; returns the URL to send the user to. The caller has checked that the owner
    /// requests it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown account type or account, [`Error::BadRequest`] for one without such a page.
    pub async fn start_oauth(&self, instance: &Instance, page: ProviderPage, start: OAuthLogin) -> Result<Url> {
        let kind = self.context.account_types().get(&start.account_type)?;
        let connection = match &start.account {
            Some(id) => connection_id(&self.get_of_type(instance, &kind, id)?.body).map(str::to_owned),
            None => None,
        };
        let settings = &kind.value;
        let endpoint = match page {
            ProviderPage::Authorize => &settings.auth_endpoint,
            ProviderPage::Manage => &settings.manage_endpoint,
            ProviderPage::Reconnect => &settings.reconnect_endpoint,
        };
        let mut url = endpoint.clone().filter(|_| settings.grant_mode != GrantMode::Secret).ok_or_else(|| {
            Error::BadRequest(format!(
                "the provider of the account type '{}' does not have the requested page",
                kind.id
            ))
        })?;
        let scope = start.scope.clone();
        let state = self.context.auth().issue_one_time_token(instance, &start).await?;
        let redirect = self.redirect_uri(instance, &kind);
        let (response_type, redirect_name) = match settings.grant_mode {
            GrantMode::Code | GrantMode::CodeAndSecret => (Some("code"), "redirect_uri"),
            GrantMode::Token => (Some("token"), "redirect_uri"),
            GrantMode::TokenRedirectUrl => (Some("token"), "redirect_url"),
            _ => (None, "redirect_uri"),
        };
        let tells_redirect = !(settings.skip_redirect_uri_on_authorize && page == ProviderPage::Authorize);
        let parameters = [
            ("scope", scope.as_deref()),
            ("response_type", response_type.filter(|_| page == ProviderPage::Authorize)),
            ("client_id", settings.client_id.as_deref().filter(|_| settings.grant_mode != GrantMode::TokenRedirectUrl)),
            ("connection_id", connection.as_deref()),
            ("state", Some(state.as_str())),
            (redirect_name, tells_redirect.then_some(redirect.as_str())),
        ];
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(parameters.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
            query.extend_pairs(&settings.extras);
        }
        Ok(url)
    }

    /// Handles the response of a provider: exchanges the code, if there is one, and stores the account; returns the URL
    /// to send the user to. `host` is the instance that the provider called, if its address is an instance's.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] for a state that is invalid or belongs to another instance or account type;
    /// [`Error::Provider`] if the provider does not return a token.
    pub async fn finish_oauth(
        &self,
        host: Option<Arc<Instance>>,
        account_type: &str,
        callback: &OAuthCallback,
    ) -> Result<String> {
        let kind = self.context.account_types().get(account_type)?;
        let state = callback.get("state").ok_or_else(bad_state)?;
        let instance = match host {
            Some(instance) => instance,
            None => self.context.auth().instance_of_one_time_token(state).map_err(|_| bad_state())?.into(),
        };
        let Some(start) = self.context.auth().redeem_one_time_token::<OAuthLogin>(&instance, state).await? else {
            return Err(bad_state());
        };
        if start.account_type != kind.id {
            return Err(bad_state());
        }
        let outcome = match callback.get("error") {
            Some(error) => ("error", error.to_owned()),
            None => ("account", self.connect(&instance, &kind, &start, callback, state).await?.id),
        };
        Ok(self.return_url(&instance, &kind.id, &start, outcome))
    }

    fn return_url(&self, instance: &Instance, kind: &str, start: &OAuthLogin, (name, value): (&str, String)) -> String {
        let state = start.client_state.as_deref().map(|state| ("state", state));
        let parameters = std::iter::once((name, value.as_str())).chain(state);
        let ours = || format!("{}://{}/accounts/{kind}/done", self.context.state.scheme, instance.domain).parse().ok();
        match start.return_url.clone().or_else(ours) {
            Some(mut back) => {
                back.query_pairs_mut().extend_pairs(parameters);
                back.to_string()
            }
            None => format!("/accounts/{kind}/done"),
        }
    }

    async fn connect(
        &self,
        instance: &Instance,
        kind: &Stored<AccountType>,
        start: &OAuthLogin,
        callback: &OAuthCallback,
        state: &str,
    ) -> Result<Document> {
        let query = callback.query();
        let mut oauth = Object::new();
        let mut results = Object::new();
        match (callback.get("access_token"), callback.get("code"), &kind.value.token_endpoint) {
            (Some(token), ..) => {
                oauth.insert("access_token".to_owned(), json!(token));
            }
            (None, Some(code), Some(endpoint)) => {
                let redirect = self.redirect_uri(instance, kind);
                let mut form = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &redirect)];
                if !kind.value.skip_state_on_token {
                    form.push(("state", state));
                    form.extend(start.nonce.as_deref().map(|nonce| ("nonce", nonce)));
                }
                let answer = self.request_tokens(kind, endpoint, &form).await?.map_err(|refusal| refusal.to_error())?;
                results = self.set_tokens(answer, &mut oauth)?.extra;
            }
            (None, code, None) => {
                let secret = self.context.account_types().client_secret(kind)?;
                let members = [
                    ("client_id", kind.value.client_id.as_deref()),
                    ("client_secret", secret.as_deref()),
                    ("code", code),
                ];
                for (name, value) in members {
                    if let Some(value) = value {
                        oauth.insert(name.to_owned(), json!(value));
                    }
                }
            }
            (None, None, Some(_)) => {
                return Err(Error::BadRequest("the provider sent neither a code nor a token".to_owned()));
            }
        }
        if !query.is_empty() {
            oauth.insert("query".to_owned(), Value::Object(query));
        }
        let owner = Principal::owner(instance);
        let slug = kind.value.konnector(&kind.id);
        let before = match &start.account {
            Some(id) => Some(self.get_of_type(instance, kind, id)?),
            None => match callback.get("connection_id") {
                Some(id) => {
                    self.list(instance, Some(slug))?.into_iter().find(|own| connection_id(&own.body) == Some(id))
                }
                None => None,
            },
        };
        let fill = |mut body: Object| {
            body.insert("account_type".to_owned(), json!(slug));
            body.insert("oauth".to_owned(), Value::Object(oauth.clone()));
            if !results.is_empty() {
                body.insert("oauth_callback_results".to_owned(), Value::Object(results.clone()));
            }
            body
        };
        let Some(mut account) = before else {
            return self.context.core.documents().create(instance, &owner, &ACCOUNTS, None, fill(Object::new())).await;
        };
        let mut tries = 0;
        loop {
            let body = fill(account.body);
            tries += 1;
            match self
                .context
                .core
                .documents()
                .update(instance, &owner, &ACCOUNTS, &account.id, &account.rev, body)
                .await
            {
                // A run is storing data in the account concurrently. The code is spent, so the tokens must not be lost.
                Err(Error::Conflict(_)) if tries < MAX_ATTEMPTS => account = self.get(instance, &account.id)?,
                done => return done,
            }
        }
    }

    /// Returns an account if it is of this type.
    fn get_of_type(&self, instance: &Instance, kind: &Stored<AccountType>, id: &str) -> Result<super::Account> {
        let account = self.get(instance, id)?;
        if account.account_type() == Some(kind.value.konnector(&kind.id)) {
            return Ok(account);
        }
        Err(Error::NotFound(format!("there is no account '{id}' of the account type '{}'", kind.id)))
    }
}

/// Returns the provider's id of an account's connection.
fn connection_id(account: &Object) -> Option<&str> {
    account.get("oauth")?.get("query")?.get("connection_id")?.get(0)?.as_str()
}
