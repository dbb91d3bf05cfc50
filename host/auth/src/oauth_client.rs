//! OAuth clients: programs that may act for the owner of an instance (RFC 7591, RFC 7592; Cozy API: auth).

use konnector_store::{Changes, DocRef, Rev};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::OauthClients;
use crate::{Error, Result};
use konnector_documents::doctype::OAUTH_CLIENTS;
use konnector_documents::document::check_document_id;
use konnector_documents::instance::Instance;
use konnector_documents::principal::Audience;
use konnector_documents::random::random_secret;
use konnector_documents::stored::{Object, Stored, new_id, to_object};

/// Optional fields of a client's metadata.
const OPTIONAL_FIELDS: [&str; 7] = [
    "client_kind",
    "client_uri",
    "logo_uri",
    "policy_uri",
    "software_version",
    "notification_platform",
    "notification_device_token",
];
/// Maximum size of one of these strings, in bytes.
const MAX_FIELD_BYTES: usize = 2_000;
/// Maximum number of redirect URIs of one client.
const MAX_REDIRECT_URIS: usize = 20;

/// An OAuth client, as stored in its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthClient {
    /// Redirect URIs; compared character by character.
    pub redirect_uris: Vec<String>,
    /// Display name.
    pub client_name: String,
    /// Identifier of the software, the same for all registrations of a program.
    pub software_id: String,
    /// Other metadata that the client registered.
    #[serde(flatten)]
    pub metadata: Object,
    /// SHA-256 of the client's secret.
    #[serde(rename = "_secret")]
    secret: String,
}

/// Credentials that a client receives only once: its secret and its registration token.
#[derive(Debug, Clone)]
pub struct ClientRegistration {
    /// Document of the client.
    pub client: Stored<OAuthClient>,
    /// Secret of the client, if it is new.
    pub secret: Option<String>,
    /// Token with which the client changes its own registration.
    pub registration_token: String,
}

fn oauth_error(error: &'static str, description: impl Into<String>) -> Error {
    Error::OAuth { error, description: description.into() }
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

fn doc_ref(instance: &Instance, id: &str) -> DocRef {
    instance.doc(&OAUTH_CLIENTS, id)
}

impl OAuthClient {
    fn parse(mut given: Object, secret: String) -> Result<Self> {
        let mut text = |name: &str| match given.shift_remove(name) {
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_FIELD_BYTES => Ok(Some(text)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(oauth_error(
                "invalid_client_metadata",
                format!("{name} must be a string of at most {MAX_FIELD_BYTES} bytes"),
            )),
        };
        let mandatory = |name: &str| oauth_error("invalid_client_metadata", format!("{name} is mandatory"));
        let client_name = text("client_name")?.ok_or_else(|| mandatory("client_name"))?;
        let software_id = text("software_id")?.ok_or_else(|| mandatory("software_id"))?;
        let mut more = Object::new();
        for name in OPTIONAL_FIELDS {
            if let Some(value) = text(name)? {
                more.insert(name.to_owned(), Value::String(value));
            }
        }
        let addresses = given.get("redirect_uris").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let redirect_uris = addresses.iter().map(parse_redirect_uri).collect::<Result<Vec<_>>>()?;
        if redirect_uris.is_empty() || redirect_uris.len() > MAX_REDIRECT_URIS {
            let description = format!("redirect_uris must have 1 to {MAX_REDIRECT_URIS} URIs");
            return Err(oauth_error("invalid_redirect_uri", description));
        }
        Ok(Self { redirect_uris, client_name, software_id, metadata: more, secret })
    }

    /// Returns whether `secret` is the secret of this client.
    pub(crate) fn verify_secret(&self, secret: &str) -> bool {
        // These are digests of random secrets, so the duration of the comparison reveals nothing useful.
        self.secret == digest(secret)
    }
}

/// Checks a redirect URI: no fragment (RFC 6749 §3.1.2), and a scheme that a browser does not open inside the current
/// page.
fn parse_redirect_uri(value: &Value) -> Result<String> {
    let text = value.as_str().unwrap_or_default();
    let parsed = url::Url::parse(text).ok().filter(|url| url.fragment().is_none() && text.len() <= MAX_FIELD_BYTES);
    match parsed {
        Some(url) if !matches!(url.scheme(), "javascript" | "data" | "vbscript" | "file" | "blob") => {
            Ok(text.to_owned())
        }
        _ => Err(oauth_error(
            "invalid_redirect_uri",
            format!(
                "{value} is not a valid redirect URI; use for example https://notes.example.com/callback, without #"
            ),
        )),
    }
}

impl OauthClients {
    /// Registers a client.
    ///
    /// # Errors
    ///
    /// [`Error::OAuth`] for invalid metadata.
    pub async fn register(&self, instance: &Instance, given: Object) -> Result<ClientRegistration> {
        let secret = random_secret()?;
        let client = OAuthClient::parse(given, digest(&secret))?;
        let id = new_id();
        let mut changes = Changes::new();
        changes.create(doc_ref(instance, &id), to_object(&client)?);
        let rev = self.context.core.commit_one(changes).await?;
        self.registration(instance, Stored { id, rev, value: client }, Some(secret))
    }

    fn registration(
        &self,
        instance: &Instance,
        client: Stored<OAuthClient>,
        secret: Option<String>,
    ) -> Result<ClientRegistration> {
        let registration = self.context.auth().issue_token(instance, Audience::Registration, &client.id, "")?;
        Ok(ClientRegistration { client, secret, registration_token: registration })
    }

    /// Returns a client.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], with the message that Cozy's clients look for, if it is unknown or was deleted.
    pub fn get(&self, instance: &Instance, id: &str) -> Result<Stored<OAuthClient>> {
        let not_found = || Error::NotFound("Client not found".to_owned());
        check_document_id(id).map_err(|_| not_found())?;
        self.context.core.load(&doc_ref(instance, id))?.ok_or_else(not_found)
    }

    /// Returns the client to which a registration token belongs.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown client, [`Error::OAuth`] with `invalid_token` for a token of another client.
    pub fn get_by_token(&self, instance: &Instance, id: &str, token: &str) -> Result<Stored<OAuthClient>> {
        let client = self.get(instance, id)?;
        match self.context.auth().verify_token(instance, token) {
            Ok(claims) if claims.aud == Audience::Registration && claims.sub == id => Ok(client),
            _ => Err(oauth_error("invalid_token", "this is not the registration_access_token of the client")),
        }
    }

    /// Returns all clients of an instance, oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self, instance: &Instance) -> Result<Vec<Stored<OAuthClient>>> {
        self.context.core.load_all(&instance.id, &OAUTH_CLIENTS)
    }

    /// Replaces a client's metadata. A client that sends its secret gets a new one.
    ///
    /// # Errors
    ///
    /// [`Error::OAuth`] for invalid metadata, including a wrong secret; [`Error::Conflict`] on a concurrent change.
    pub async fn update(
        &self,
        instance: &Instance,
        before: Stored<OAuthClient>,
        given: Object,
    ) -> Result<ClientRegistration> {
        let Stored { id, rev, value: before } = before;
        if given.get("client_id").is_some_and(|own| own.as_str() != Some(&id)) {
            return Err(oauth_error("invalid_client_id", "client_id is mandatory and must match the URL"));
        }
        let secret = match given.get("client_secret").and_then(Value::as_str) {
            None | Some("") => None,
            Some(secret) if before.verify_secret(secret) => Some(random_secret()?),
            Some(_) => return Err(oauth_error("invalid_client_secret", "client_secret is wrong")),
        };
        let secret_digest = secret.as_deref().map_or(before.secret, digest);
        let client = OAuthClient::parse(given, secret_digest)?;
        let mut changes = Changes::new();
        changes.put(doc_ref(instance, &id), &rev, to_object(&client)?);
        let rev = self.context.core.commit_one(changes).await?;
        self.registration(instance, Stored { id, rev, value: client }, secret)
    }

    /// Deletes a client. Its tokens become invalid.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] on a concurrent change.
    pub async fn delete(&self, instance: &Instance, id: &str, rev: &Rev) -> Result<()> {
        let mut changes = Changes::new();
        changes.delete(doc_ref(instance, id), rev);
        self.context.core.commit(changes).await?;
        Ok(())
    }
}
