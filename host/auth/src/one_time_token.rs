//! One-time tokens: short-lived secrets for a single use. Each is the code of a session, the code that an OAuth client
//! exchanges for tokens (RFC 6749 §4.1.2), or the state of an account's OAuth login (§10.12). The store holds only
//! their digests.

use chrono::{DateTime, TimeDelta, Utc};
use konnector_store::{Changes, DocRef, InstanceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Auth;
use crate::{Error, Result};
use konnector_documents::doctype::ONE_TIME_TOKENS;
use konnector_documents::instance::Instance;
use konnector_documents::random::random_secret;
use konnector_documents::stored::{Object, Stored, to_object};

/// Maximum number of valid tokens of one instance, so that abandoned logins do not fill the disk.
const MAX_ACTIVE_TOKENS: usize = 1_000;

/// Payload of a one-time token: what its redemption permits.
pub trait OneTimeToken: Serialize + DeserializeOwned + Send + Sync {
    /// Name of the purpose, as stored. A token opens only as the payload for which it was issued.
    const PURPOSE: &'static str;
    /// How long the token is valid after it was issued.
    const LIFETIME: TimeDelta;
}

/// Proves that its bearer was sent by the owner of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCode {}

impl OneTimeToken for SessionCode {
    const PURPOSE: &'static str = "session";
    const LIFETIME: TimeDelta = TimeDelta::minutes(5);
}

#[derive(Serialize, Deserialize)]
struct IssuedToken {
    expires_at: DateTime<Utc>,
    purpose: String,
    #[serde(flatten)]
    payload: Object,
}

fn doc_ref(instance: &Instance, text: &str) -> DocRef {
    instance.doc(&ONE_TIME_TOKENS, hex::encode(Sha256::digest(text)))
}

impl Auth {
    /// Issues a one-time token. It begins with the id of the instance, so that a URL shared by all instances can find
    /// the instance.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] while a thousand tokens are still valid.
    pub async fn issue_one_time_token<T: OneTimeToken>(&self, instance: &Instance, payload: &T) -> Result<String> {
        let now = self.context.core.clock().now();
        let text = format!("{}{}", instance.id, random_secret()?);
        let mut changes = Changes::new();
        let mut good = Vec::new();
        for Stored { id, rev, value } in self.context.core.load_all::<IssuedToken>(&instance.id, &ONE_TIME_TOKENS)? {
            if value.expires_at <= now {
                changes.purge(instance.doc(&ONE_TIME_TOKENS, id), &rev);
            } else {
                good.push(value.expires_at);
            }
        }
        if good.len() >= MAX_ACTIVE_TOKENS {
            let until = good.into_iter().min().unwrap_or(now);
            let message =
                format!("there are too many pending logins and authorizations ({MAX_ACTIVE_TOKENS}); try again later");
            return Err(Error::RetryLater { until, message });
        }
        // Expired tokens are purged in their own commit, because another request may be purging them, too.
        if !changes.is_empty()
            && let Err(error) = self.context.core.commit(changes).await
            && !error.is_conflict()
        {
            return Err(error);
        }
        let issued =
            IssuedToken { expires_at: now + T::LIFETIME, purpose: T::PURPOSE.to_owned(), payload: to_object(payload)? };
        let mut changes = Changes::new();
        changes.create(doc_ref(instance, &text), to_object(&issued)?);
        self.context.core.commit(changes).await?;
        Ok(text)
    }

    /// Redeems a one-time token, deleting it. Returns `None` if it is unknown, expired, already redeemed, or was issued
    /// for another purpose.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn redeem_one_time_token<T: OneTimeToken>(&self, instance: &Instance, text: &str) -> Result<Option<T>> {
        let at = doc_ref(instance, text);
        let Some(found) = self.context.core.load::<IssuedToken>(&at)? else { return Ok(None) };
        let mut changes = Changes::new();
        changes.purge(at, &found.rev);
        match self.context.core.commit(changes).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => return Ok(None),
            Err(error) => return Err(error),
        }
        let IssuedToken { expires_at, purpose, payload } = found.value;
        if expires_at <= self.context.core.clock().now() || purpose != T::PURPOSE {
            return Ok(None);
        }
        serde_json::from_value(Value::Object(payload)).map(Some).map_err(|error| Error::CorruptDocument {
            document: format!("{}/{}", *ONE_TIME_TOKENS, found.id),
            message: error.to_string(),
        })
    }

    /// Returns the instance that may have issued this token.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the token names no existing instance.
    pub fn instance_of_one_time_token(&self, text: &str) -> Result<Instance> {
        let unknown = || Error::NotFound("no instance issued this token".to_owned());
        let id: InstanceId = text.get(..32).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        self.context.core.instances().get_by_id(id.as_str())
    }

    /// Redeems a session code, the counterpart of a browser session, which this server does not have.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if the code is not valid.
    pub async fn redeem_session_code(&self, instance: &Instance, code: Option<&str>) -> Result<()> {
        let refused = |what: &str| {
            Error::Forbidden(format!(
                "{what}; get a session code with `konnector instances session-code {}` or POST /auth/session_code, and pass it as session_code",
                instance.domain
            ))
        };
        let Some(code) = code else { return Err(refused("the session code is missing")) };
        match self.redeem_one_time_token::<SessionCode>(instance, code).await? {
            Some(SessionCode {}) => Ok(()),
            None => Err(refused("the session code is unknown, already used, or older than five minutes")),
        }
    }
}
