//! Which konnectors may use an account: the account's own, whose slug is its `account_type`, and those with which the
//! owner shares it.
//!
//! [`is_usable_by`] is the only rule. Every entry point applies it: [`Accounts::check`] when a person or
//! program names an account for a konnector, [`Account::authorize`] when a run begins. Secrets open for a konnector
//! only through an [`AccountAccess`].

use std::ops::Deref;

use konnector_manifest::Slug;
use serde_json::Value;

use super::Account;
use crate::Accounts;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Principal};
use konnector_documents::stored::Object;
use konnector_documents::{AccountLocation, ForeignAccount};

/// Field of an account with the slugs of the konnectors that its owner shares it with.
pub(crate) const SHARED_WITH: &str = "shared_with";

/// Returns the slug of the konnector that an account belongs to; empty, which is not a valid slug, if the account names
/// none.
pub(crate) fn owning_konnector(body: &Object) -> &str {
    body.get("account_type").and_then(Value::as_str).unwrap_or_default()
}

fn shared_with(body: &Object) -> impl Iterator<Item = &str> {
    body.get(SHARED_WITH).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns whether a konnector may use an account.
pub fn is_usable_by(body: &Object, slug: &str) -> bool {
    !slug.is_empty() && (owning_konnector(body) == slug || shared_with(body).any(|other| other == slug))
}

/// Returns whether a principal sees the secrets of an account: a konnector that may use the account, and
/// during a run only for the run's account; an app that requests them.
#[must_use]
pub fn can_read_secrets(principal: &Principal, id: &str, account: &Object) -> bool {
    match principal.claims.aud {
        Audience::Konnector => {
            is_usable_by(account, &principal.claims.sub)
                && principal.claims.account.as_deref().is_none_or(|own| own == id)
        }
        Audience::App => principal.wants_credentials,
        _ => false,
    }
}

/// Returns whether the message of a job asks its konnector to clean up after a deleted account (Cozy API,
/// account-deletion runs, §6.6).
#[must_use]
pub fn is_clean_up(message: &Value) -> bool {
    message.get("account_deleted") == Some(&Value::Bool(true))
}

/// An account together with a konnector that may use it.
#[derive(Debug, Clone)]
pub struct AccountAccess {
    account: Account,
    konnector: Slug,
}

impl AccountAccess {
    /// Returns the konnector that may use the account.
    #[must_use]
    pub const fn konnector(&self) -> &Slug {
        &self.konnector
    }
}

impl Deref for AccountAccess {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

impl Account {
    /// Returns whether a konnector may use the account.
    #[must_use]
    pub fn is_usable_by(&self, slug: &Slug) -> bool {
        is_usable_by(&self.body, slug.as_ref())
    }

    fn to_foreign_account(&self, slug: &Slug, place: AccountLocation) -> ForeignAccount {
        let owner = Some(owning_konnector(&self.body)).filter(|owner| !owner.is_empty());
        ForeignAccount {
            location: place,
            account: self.id.clone(),
            konnector: slug.to_string(),
            owning_konnector: owner.map(str::to_owned),
        }
    }

    /// Lets a konnector use the account.
    ///
    /// # Errors
    ///
    /// [`ForeignAccount`] if the konnector may not use the account.
    pub fn authorize(self, slug: &Slug) -> Result<AccountAccess, ForeignAccount> {
        if self.is_usable_by(slug) {
            Ok(AccountAccess { konnector: slug.clone(), account: self })
        } else {
            Err(self.to_foreign_account(slug, AccountLocation::Arguments))
        }
    }
}

impl Accounts {
    /// Returns the account that the message of a job names, or the deleted account for a job that cleans up after one.
    /// Returns `None` if the message names no account.
    pub fn resolve_message<'a>(&self, instance: &Instance, message: &'a Value) -> Option<(&'a str, Result<Account>)> {
        let id = message.get("account").and_then(Value::as_str)?;
        let found = if is_clean_up(message) { self.get_deleted(instance, id) } else { self.get(instance, id) };
        Some((id, found))
    }

    /// Rejects the message of a job or trigger if it names a konnector and an account that this konnector may not use.
    /// The run itself detects an account that does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignAccount`] for an account that the konnector may not use.
    pub fn check(&self, instance: &Instance, message: &Value, place: AccountLocation) -> Result<()> {
        let slug = message.get("konnector").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
        let (Some(slug), Some((_, found))) = (slug, self.resolve_message(instance, message)) else {
            return Ok(());
        };
        match found {
            Ok(account) if account.is_usable_by(&slug) => Ok(()),
            Ok(account) => Err(account.to_foreign_account(&slug, place).into()),
            Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Rejects the message of a job or trigger if the konnector logs into an account and the message names none. The
    /// run itself detects a konnector that is not installed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAttribute`], or [`Error::InvalidParameter`] if the account would have been a parameter.
    pub fn check_given(&self, instance: &Instance, message: &Value, place: AccountLocation) -> Result<()> {
        let slug = message.get("konnector").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
        let (Some(slug), None) = (slug, self.resolve_message(instance, message)) else { return Ok(()) };
        match self.context.konnectors().get(instance, &slug) {
            Ok(konnector) if konnector.manifest()?.fields.is_empty() => Ok(()),
            Ok(_) => {
                let advice = format!(
                    "list its accounts with `konnector accounts ls`, or add one with `konnector accounts add {slug}`"
                );
                let sentence = |what: &str| format!("the konnector '{slug}' needs an account, but {what}; {advice}");
                Err(match place {
                    AccountLocation::Arguments => Error::InvalidAttribute {
                        name: "arguments/account",
                        message: sentence("the arguments do not name one"),
                    },
                    AccountLocation::Message => Error::InvalidAttribute {
                        name: "message/account",
                        message: sentence("the message does not name one"),
                    },
                    AccountLocation::Parameter => {
                        Error::InvalidParameter { name: "AccountID", message: sentence("none was given") }
                    }
                })
            }
            Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes fields of an account on behalf of a konnector's run, as long as the konnector may use the account.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if the konnector may no longer use the account, [`Error::NotFound`] if it was deleted.
    pub async fn update_authorized(
        &self,
        instance: &Instance,
        grant: &AccountAccess,
        change: impl Fn(&mut Object) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let change = |body: &mut Object| {
            if is_usable_by(body, grant.konnector.as_ref()) { change(body) } else { Err(access_revoked(grant)) }
        };
        self.update(instance, &grant.id, change).await
    }

    /// Reloads the account of a run.
    ///
    /// # Errors
    ///
    /// As [`Accounts::update_authorized`].
    pub fn reload_access(&self, instance: &Instance, grant: &AccountAccess) -> Result<AccountAccess> {
        self.get(instance, &grant.id)?.authorize(&grant.konnector).map_err(|_| access_revoked(grant))
    }
}

fn access_revoked(grant: &AccountAccess) -> Error {
    let AccountAccess { account, konnector } = grant;
    Error::Forbidden(format!("the konnector '{konnector}' may no longer use the account '{}'", account.id))
}
