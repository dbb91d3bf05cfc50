//! New access tokens for accounts, one request at a time for each account, even with many callers. The response is
//! stored before anyone uses it, because a provider that rotates refresh tokens revokes the old one (RFC 6749 §6, RFC
//! 9700 §4.14.2).

use parking_lot::Mutex;
use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use konnector_store::InstanceId;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Accounts;
use crate::account_type::AccountType;
use crate::{Account, OAUTH_FIELD, owning_konnector};
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, Stored};
use tracing::Instrument as _;

/// A token that expires within this many seconds is refreshed before a run.
const REFRESH_MARGIN_SECS: i64 = 300;

/// Result of a refresh, shared by all callers that waited for it.
#[derive(Debug, Clone)]
enum RefreshOutcome {
    Refreshed,
    Unrefreshable,
    ReconnectRequired,
    Failed(String),
}

type RefreshReceiver = watch::Receiver<Option<RefreshOutcome>>;

/// Refreshes in progress.
#[derive(Debug, Default)]
pub(crate) struct Singleflight(Mutex<HashMap<(InstanceId, String), RefreshReceiver>>);

impl Accounts {
    /// Gets a new access token for an account and stores it; returns the updated account. Callers that arrive during a
    /// refresh wait for it.
    ///
    /// Cancel safety: a refresh that has begun continues, and the new tokens are stored.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown account or one of another type, [`Error::BadRequest`] for one that has no
    /// OAuth, [`Error::ReconnectRequired`] if the provider rejects the refresh token, [`Error::Provider`] if it
    /// fails otherwise.
    pub async fn refresh(&self, instance: &Instance, account_type: &str, id: &str) -> Result<Account> {
        let kind = self.context.account_types().get(account_type)?;
        self.get_of_type(instance, &kind, id)?;
        let mut flight = self.join_refresh(instance, kind, id);
        let landed = match flight.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone(),
            Err(_) => None,
        };
        match landed {
            Some(RefreshOutcome::Refreshed) => self.get(instance, id),
            Some(RefreshOutcome::Unrefreshable) => {
                // Cozy's text.
                Err(Error::BadRequest("this account can not be refreshed".to_owned()))
            }
            Some(RefreshOutcome::ReconnectRequired) => Err(Error::ReconnectRequired),
            Some(RefreshOutcome::Failed(told)) => Err(Error::Provider(told)),
            None => Err(Error::Provider("the refresh was interrupted; try again".to_owned())),
        }
    }

    /// Joins the refresh of an account that is in progress, or starts one.
    fn join_refresh(&self, instance: &Instance, kind: Stored<AccountType>, id: &str) -> RefreshReceiver {
        let key = (instance.id.clone(), id.to_owned());
        let mut flights = self.context.state.token_refreshes.0.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        let (accounts, instance) = (self.clone(), instance.clone());
        self.context.core.tasks().spawn(
            async move {
                let guard = InFlightGuard { accounts: accounts.clone(), key: key.clone() };
                let landed = match accounts.refresh_token(&instance, &kind, &key.1).await {
                    Ok(landed) => landed,
                    Err(error) => RefreshOutcome::Failed(error.to_string()),
                };
                // Remove it from the list before notifying: later callers start a new refresh.
                drop(guard);
                landing.send_replace(Some(landed));
            }
            .in_current_span(),
        );
        flight
    }

    async fn refresh_token(&self, instance: &Instance, kind: &Stored<AccountType>, id: &str) -> Result<RefreshOutcome> {
        let account = self.get(instance, id)?;
        if !account.body.contains_key(OAUTH_FIELD) {
            return Ok(RefreshOutcome::Unrefreshable);
        }
        let token = self.open_secrets(instance, &account)?.into_iter().find(|(name, _)| name == "refresh_token");
        let mut fresh = Object::new();
        match (token, &kind.value.token_endpoint) {
            (Some((_, token)), Some(endpoint)) => {
                let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
                match self.request_tokens(kind, endpoint, &form).await? {
                    Ok(answer) => drop(self.set_tokens(answer, &mut fresh)?),
                    Err(refusal) if refusal.is_invalid_token() => return Ok(RefreshOutcome::ReconnectRequired),
                    Err(refusal) => return Err(refusal.to_error()),
                }
            }
            // The konnector gets its token itself, and needs the client's credentials for that (cozy-stack).
            (None, _) => {
                for (name, value) in [
                    ("client_id", kind.value.client_id.clone()),
                    ("client_secret", self.context.account_types().client_secret(kind)?),
                ] {
                    fresh.extend(value.map(|value| (name.to_owned(), json!(value))));
                }
            }
            (Some(_), None) => return Ok(RefreshOutcome::Unrefreshable),
        }
        let change = |body: &mut Object| {
            if owning_konnector(body) != owning_konnector(&account.body) {
                return Err(Error::Conflict(format!(
                    "the account '{id}' was assigned to another konnector in the meantime"
                )));
            }
            if let Some(oauth) = body.get_mut(OAUTH_FIELD).and_then(Value::as_object_mut) {
                oauth.extend(fresh.clone());
            }
            self.seal(instance, id, body)
        };
        self.update(instance, id, change).await?;
        Ok(RefreshOutcome::Refreshed)
    }

    /// Refreshes the token of an account that a run is about to use, if it expires soon and can be refreshed.
    ///
    /// # Errors
    ///
    /// As [`Accounts::refresh`].
    pub async fn ensure_fresh_token(&self, instance: &Instance, account: Account) -> Result<Account> {
        let end = account.body.get(OAUTH_FIELD).and_then(|oauth| oauth.get("expires_at")?.as_str());
        let end = end.and_then(|end| DateTime::parse_from_rfc3339(end).ok());
        let (Some(end), Some(slug)) = (end, account.account_type()) else { return Ok(account) };
        if end.with_timezone(&Utc) > self.context.core.clock().now() + Duration::seconds(REFRESH_MARGIN_SECS) {
            return Ok(account);
        }
        let types = self.context.account_types().list()?;
        match types.iter().find(|kind| kind.value.token_endpoint.is_some() && kind.value.konnector(&kind.id) == slug) {
            Some(kind) if has_refresh_token(&account) => self.refresh(instance, &kind.id, &account.id).await,
            _ => Ok(account),
        }
    }
}

fn has_refresh_token(account: &Account) -> bool {
    account.body.get(OAUTH_FIELD).is_some_and(|oauth| oauth.get("refresh_token_encrypted").is_some())
}

/// Removes a refresh from the list when it ends for any reason.
struct InFlightGuard {
    accounts: Accounts,
    key: (InstanceId, String),
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.accounts.context.state.token_refreshes.0.lock().remove(&self.key);
    }
}
