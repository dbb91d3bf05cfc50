//! Tickets: secrets that are good for one thing, once, and for a short time: the code of a session, the code that an OAuth client exchanges
//! for tokens (RFC 6749 §4.1.2), the state of an account's OAuth (§10.12). The store knows only their digests.

use chrono::{DateTime, Duration, Utc};
use konnector_store::{Changes, DocRef, InstanceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::account::oauth::OAuthLogin;
use crate::doctype::ONE_TIME_TOKENS;
use crate::grant::AuthorizationGrant;
use crate::instance::Instance;
use crate::random::random_secret;
use crate::stored::{Stored, to_object};
use crate::{Error, Platform, Result};

/// Tickets of one instance that are good at one time: what is started and never ended does not fill the disk.
const MAX_ACTIVE_TOKENS: usize = 1_000;

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum OneTimeToken {
    /// Whoever shows it was sent by the owner of the instance; five minutes.
    Session,
    /// An OAuth client gets its tokens for it; five minutes.
    #[serde(rename = "code")]
    AuthorizationCode(AuthorizationGrant),
    /// A provider sends the user back with it; 15 minutes.
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

impl Platform {
    /// Issues a ticket; its text begins with the id of the instance, so that it also leads back from an address that all instances share.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] while there are a thousand that are still good.
    pub async fn issue_one_time_token(&self, instance: &Instance, ticket: OneTimeToken) -> Result<String> {
        let now = self.clock.now();
        let text = format!("{}{}", instance.id, random_secret()?);
        let mut changes = Changes::new();
        let mut good = Vec::new();
        for Stored { id, rev, value } in self.load_all::<IssuedToken>(&instance.id, &ONE_TIME_TOKENS)? {
            if value.expires_at <= now {
                changes.purge(instance.doc(&ONE_TIME_TOKENS, id), &rev);
            } else {
                good.push(value.expires_at);
            }
        }
        if good.len() >= MAX_ACTIVE_TOKENS {
            let until = good.into_iter().min().unwrap_or(now);
            let message =
                format!("{MAX_ACTIVE_TOKENS} logins and authorizations have begun and did not end; try again later");
            return Err(Error::RetryLater { until, message });
        }
        // What has expired goes on its own: somebody else may be removing it too.
        if !changes.is_empty()
            && let Err(error) = self.commit(changes).await
            && !error.is_conflict()
        {
            return Err(error);
        }
        let issued = IssuedToken { expires_at: now + ticket.lifetime(), token: ticket };
        let mut changes = Changes::new();
        changes.create(doc_ref(instance, &text), to_object(&issued)?);
        self.commit(changes).await?;
        Ok(text)
    }

    /// Takes a ticket: it is gone then. `None` when it is unknown, too old, or was taken before.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn redeem_one_time_token(&self, instance: &Instance, text: &str) -> Result<Option<OneTimeToken>> {
        let at = doc_ref(instance, text);
        let Some(found) = self.load::<IssuedToken>(&at)? else { return Ok(None) };
        let mut changes = Changes::new();
        changes.purge(at, &found.rev);
        match self.commit(changes).await {
            Ok(_) => Ok((found.value.expires_at > self.clock.now()).then_some(found.value.token)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The instance whose ticket this may be.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub fn instance_of_one_time_token(&self, text: &str) -> Result<Instance> {
        let unknown = || Error::NotFound("no instance issued this".to_owned());
        let id: InstanceId = text.get(..32).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        self.instance_by_id(id.as_str())
    }

    /// Takes a session's code: the honest counterpart of a browser session, which this server does not have.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when it is good for nothing.
    pub async fn redeem_session_code(&self, instance: &Instance, code: Option<&str>) -> Result<()> {
        let refused = |what: &str| {
            Error::Forbidden(format!(
                "{what}; get a session code with `konnector instances session-code {}` or POST /auth/session_code, and give it as session_code",
                instance.domain
            ))
        };
        let Some(code) = code else { return Err(refused("this needs a session code")) };
        match self.redeem_one_time_token(instance, code).await? {
            Some(OneTimeToken::Session) => Ok(()),
            _ => Err(refused("the session code is unknown, was used before, or is older than five minutes")),
        }
    }
}
