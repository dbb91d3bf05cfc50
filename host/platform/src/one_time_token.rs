//! One-time tokens: short-lived secrets for a single use. Each is the code of a session, the code that an OAuth client
//! exchanges for tokens (RFC 6749 §4.1.2), or the state of an account's OAuth login (§10.12). The store holds only
//! their digests.

use chrono::{DateTime, Duration, Utc};
use konnector_store::{Changes, DocRef, InstanceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::account::oauth::OAuthLogin;
use crate::doctype::ONE_TIME_TOKENS;
use crate::grant::AuthorizationGrant;
use crate::handles::Auth;
use crate::instance::Instance;
use crate::random::random_secret;
use crate::stored::{Stored, to_object};
use crate::{Error, Result};

/// Maximum number of valid tokens of one instance, so that abandoned logins do not fill the disk.
const MAX_ACTIVE_TOKENS: usize = 1_000;

/// Purpose of a one-time token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum OneTimeToken {
    /// Proves that its bearer was sent by the owner of the instance; valid for five minutes.
    Session,
    /// Exchanged for tokens by an OAuth client; valid for five minutes.
    #[serde(rename = "code")]
    AuthorizationCode(AuthorizationGrant),
    /// Sent back by a provider with the user; valid for 15 minutes.
    #[serde(rename = "start")]
    AccountOAuth(OAuthLogin),
}

impl OneTimeToken {
    fn lifetime(&self) -> Duration {
        match self {
            Self::Session | Self::AuthorizationCode(_) => Duration::minutes(5),
            Self::AccountOAuth(_) => Duration::minutes(15),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct IssuedToken {
    expires_at: DateTime<Utc>,
    #[serde(flatten)]
    token: OneTimeToken,
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
    pub async fn issue_one_time_token(&self, instance: &Instance, ticket: OneTimeToken) -> Result<String> {
        let now = self.platform.clock().now();
        let text = format!("{}{}", instance.id, random_secret()?);
        let mut changes = Changes::new();
        let mut good = Vec::new();
        for Stored { id, rev, value } in self.platform.load_all::<IssuedToken>(&instance.id, &ONE_TIME_TOKENS)? {
            if value.expires_at <= now {
                changes.purge(instance.doc(&ONE_TIME_TOKENS, id), &rev);
            } else {
                good.push(value.expires_at);
            }
        }
        if good.len() >= MAX_ACTIVE_TOKENS {
            let until = good.into_iter().min().unwrap_or(now);
            let message = format!("too many pending logins and authorizations ({MAX_ACTIVE_TOKENS}); try again later");
            return Err(Error::RetryLater { until, message });
        }
        // Expired tokens are purged in their own commit, because another request may be purging them, too.
        if !changes.is_empty()
            && let Err(error) = self.platform.commit(changes).await
            && !error.is_conflict()
        {
            return Err(error);
        }
        let issued = IssuedToken { expires_at: now + ticket.lifetime(), token: ticket };
        let mut changes = Changes::new();
        changes.create(doc_ref(instance, &text), to_object(&issued)?);
        self.platform.commit(changes).await?;
        Ok(text)
    }

    /// Redeems a one-time token, deleting it. Returns `None` if it is unknown, expired, or already redeemed.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn redeem_one_time_token(&self, instance: &Instance, text: &str) -> Result<Option<OneTimeToken>> {
        let at = doc_ref(instance, text);
        let Some(found) = self.platform.load::<IssuedToken>(&at)? else { return Ok(None) };
        let mut changes = Changes::new();
        changes.purge(at, &found.rev);
        match self.platform.commit(changes).await {
            Ok(_) => Ok((found.value.expires_at > self.platform.clock().now()).then_some(found.value.token)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the instance that may have issued this token.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the token names no existing instance.
    pub fn instance_of_one_time_token(&self, text: &str) -> Result<Instance> {
        let unknown = || Error::NotFound("no instance issued this token".to_owned());
        let id: InstanceId = text.get(..32).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        self.platform.instances().get_by_id(id.as_str())
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
        let Some(code) = code else { return Err(refused("a session code is required")) };
        match self.redeem_one_time_token(instance, code).await? {
            Some(OneTimeToken::Session) => Ok(()),
            _ => Err(refused("the session code is unknown, already used, or older than five minutes")),
        }
    }
}
