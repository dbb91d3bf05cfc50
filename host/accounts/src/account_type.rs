//! Account types, the services with which users have accounts. An account type holds the data that the operator has
//! from the service's provider: where it lets users log in, and the client id and secret of this server (Cozy API,
//! account types and OAuth, §7.4). Account types belong to the whole server.

use std::collections::BTreeMap;

use konnector_store::{Changes, DocRef, InstanceId, MasterKey, SecretContext};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::AccountTypes;
use crate::{Error, Result};
use konnector_documents::doctype::ACCOUNT_TYPES;
use konnector_documents::stored::{Object, Stored, to_object};

/// Names of the fields that are sealed.
const SECRET_FIELDS: [&str; 2] = ["client_secret", "secret"];

/// How an account of a type obtains its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantMode {
    /// The provider sends a code, which the server exchanges (RFC 6749 §4.1).
    #[serde(rename = "authorization_code")]
    Code,
    /// The provider sends the token itself (RFC 6749 §4.2).
    #[serde(rename = "token")]
    Token,
    /// Like [`GrantMode::Token`], for providers that call the address `redirect_url`.
    #[serde(rename = "token_redirect_url")]
    TokenRedirectUrl,
    /// The pages of Budget Insight.
    #[serde(rename = "bi_webauth")]
    BiWebauth,
    /// The newer pages of Budget Insight.
    #[serde(rename = "bi_webview")]
    BiWebview,
    /// No OAuth: konnectors get a secret of the operator among their parameters.
    #[serde(rename = "secret")]
    Secret,
    /// [`GrantMode::Code`], plus such a secret.
    #[serde(rename = "authorization_code+secret")]
    CodeAndSecret,
    /// [`GrantMode::BiWebauth`], plus such a secret.
    #[serde(rename = "bi_webauth+secret")]
    BiWebauthAndSecret,
    /// [`GrantMode::BiWebview`], plus such a secret.
    #[serde(rename = "bi_webview+secret")]
    BiWebviewAndSecret,
}

impl GrantMode {
    /// Returns whether konnectors get the type's secret.
    const fn has_konnector_secret(self) -> bool {
        matches!(self, Self::Secret | Self::CodeAndSecret | Self::BiWebauthAndSecret | Self::BiWebviewAndSecret)
    }
}

/// How the server authenticates when it requests tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMode {
    /// In the body of a form (RFC 6749 §2.3.1).
    #[default]
    Form,
    /// With HTTP Basic.
    Basic,
    /// In the query string of a GET, for providers that support nothing better.
    Get,
}

/// A service, as stored in its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountType {
    /// How accounts of this type obtain their credentials.
    pub grant_mode: GrantMode,
    /// The konnector that its accounts belong to; by default the one whose slug is the type's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The provider's id of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Authorization endpoint, where users log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_endpoint: Option<Url>,
    /// Token endpoint; without it, konnectors exchange the code themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<Url>,
    /// Page at which users manage a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manage_endpoint: Option<Url>,
    /// Page at which users connect again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_endpoint: Option<Url>,
    /// How the server authenticates when it requests tokens.
    #[serde(default)]
    pub token_mode: TokenMode,
    /// The redirect URI that the provider knows; by default that of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<Url>,
    /// Additional parameters for [`AccountType::auth_endpoint`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, String>,
    /// Whether the provider does not accept the redirect URI in the authorization request.
    #[serde(default)]
    pub skip_redirect_uri_on_authorize: bool,
    /// Whether the provider rejects state and nonce at the token endpoint.
    #[serde(default)]
    pub skip_state_on_token: bool,
    /// Sealed secrets, by the names of their fields.
    #[serde(default, rename = "_sealed", skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<String, String>,
}

fn doc_ref(id: &str) -> DocRef {
    DocRef::new(&InstanceId::global(), &ACCOUNT_TYPES, id)
}

fn secret_context(id: &str, field: &str) -> SecretContext {
    SecretContext {
        instance: InstanceId::global(),
        account: format!("account-type/{id}"),
        konnector: None,
        field: field.to_owned(),
    }
}

fn check_id(id: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if (1..=100).contains(&id.len()) && id.bytes().all(legal) {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "id",
        message: format!(
            "'{id}' is not a valid name of an account type; use up to 100 characters from a-z, 0-9, -, _ and ."
        ),
    })
}

impl AccountType {
    /// Parses an account type as an operator writes it, and its secrets.
    fn parse(mut given: Object) -> Result<(Self, Vec<(&'static str, Value)>)> {
        given.retain(|name, _| !name.starts_with('_'));
        let mut secrets = Vec::new();
        for name in SECRET_FIELDS {
            if let Some(value) = given.shift_remove(name).filter(|value| !value.is_null()) {
                secrets.push((name, value));
            }
        }
        let read: Self = serde_json::from_value(Value::Object(given))
            .map_err(|error| Error::BadRequest(format!("the account type is not valid: {error}")))?;
        let endpoints = [&read.auth_endpoint, &read.token_endpoint, &read.manage_endpoint, &read.reconnect_endpoint];
        if let Some(invalid) = endpoints.into_iter().flatten().find(|url| !matches!(url.scheme(), "http" | "https")) {
            return Err(Error::BadRequest(format!("{invalid} is not an http or https URL")));
        }
        if read.grant_mode != GrantMode::Secret && read.auth_endpoint.is_none() {
            return Err(Error::BadRequest(
                "auth_endpoint: the field is missing; set it to the URL at which the user logs in".to_owned(),
            ));
        }
        if read.grant_mode.has_konnector_secret() && !secrets.iter().any(|(name, _)| *name == "secret") {
            return Err(Error::BadRequest(
                "secret: the field is missing; set it to the secret that konnectors receive".to_owned(),
            ));
        }
        Ok((read, secrets))
    }

    /// Returns the slug of the konnector that accounts of this type belong to.
    #[must_use]
    pub fn konnector<'a>(&'a self, id: &'a str) -> &'a str {
        self.slug.as_deref().filter(|slug| !slug.is_empty()).unwrap_or(id)
    }

    /// Returns the names of the secrets that are set.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.sealed.keys().map(String::as_str)
    }
}

/// Seals the secrets of an account type with another key; returns their number.
pub fn reseal(id: &str, body: &mut Object, old: &MasterKey, new: &MasterKey) -> Result<u64> {
    let mut sealed = 0;
    for (name, value) in body.get_mut("_sealed").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(text) = value.as_str().filter(|text| !new.is_sealed(text)) else { continue };
        let context = secret_context(id, name);
        *value = Value::String(new.seal(&context, &old.open(&context, text)?)?);
        sealed += 1;
    }
    Ok(sealed)
}

impl AccountTypes {
    /// Returns an account type.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the operator has created none with this id.
    pub fn get(&self, id: &str) -> Result<Stored<AccountType>> {
        let unknown = || {
            Error::NotFound(format!(
                "there is no account type '{id}'; the operator sets one up with `konnector account-types set`"
            ))
        };
        if check_id(id).is_err() {
            return Err(unknown());
        }
        self.context.core.load(&doc_ref(id))?.ok_or_else(unknown)
    }

    /// Lists all account types.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self) -> Result<Vec<Stored<AccountType>>> {
        self.context.core.load_all(&InstanceId::global(), &ACCOUNT_TYPES)
    }

    /// Creates or replaces an account type.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for an invalid name, [`Error::BadRequest`] with the reason for an invalid type.
    pub async fn set(&self, id: &str, given: Object) -> Result<Stored<AccountType>> {
        check_id(id)?;
        let (mut set, secrets) = AccountType::parse(given)?;
        for (name, value) in secrets {
            let clear = value.to_string();
            set.sealed
                .insert(name.to_owned(), self.context.core.key().seal(&secret_context(id, name), clear.as_bytes())?);
        }
        let body = to_object(&set)?;
        let mut changes = Changes::new();
        let found = self.context.core.store().get(&doc_ref(id))?;
        changes.upsert(doc_ref(id), found.as_ref().map(|found| &found.rev), body);
        let rev = self.context.core.commit_one(changes).await?;
        Ok(Stored { id: id.to_owned(), rev, value: set })
    }

    /// Removes an account type. Its accounts stay, but are no longer refreshed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let found = self.get(id)?;
        let mut changes = Changes::new();
        changes.delete(doc_ref(id), &found.rev);
        self.context.core.commit(changes).await?;
        Ok(())
    }

    /// Returns the secret of an account type, as JSON.
    fn secret(&self, kind: &Stored<AccountType>, name: &str) -> Result<Option<Value>> {
        let Some(sealed) = kind.value.sealed.get(name) else { return Ok(None) };
        let clear = self.context.core.key().open(&secret_context(&kind.id, name), sealed)?;
        let read = serde_json::from_slice(&clear);
        read.map(Some).map_err(|error| Error::CorruptDocument {
            document: format!("{}/{}", *ACCOUNT_TYPES, kind.id),
            message: error.to_string(),
        })
    }

    /// Returns the secret with which the server authenticates at the provider.
    pub(crate) fn client_secret(&self, kind: &Stored<AccountType>) -> Result<Option<String>> {
        let secret = self.secret(kind, "client_secret")?;
        Ok(secret.map(|secret| secret.as_str().map_or_else(|| secret.to_string(), str::to_owned)))
    }

    /// Returns the parameter `secret` of a konnector, taken from the first type that belongs to the konnector.
    pub fn konnector_secret(&self, slug: &str) -> Result<Option<Value>> {
        let types = self.list()?;
        let own = types
            .iter()
            .find(|kind| kind.value.grant_mode.has_konnector_secret() && kind.value.konnector(&kind.id) == slug);
        own.map_or(Ok(None), |kind| self.secret(kind, "secret"))
    }
}
