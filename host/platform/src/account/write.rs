//! What may be written to an account, and what is forgotten with it: an account stays its konnector's, and its owner alone says otherwise.

use konnector_manifest::Slug;
use serde_json::Value;

use super::access::{SHARED_WITH, admits, owner};
use super::{OAUTH, clear_name, places_mut};
use crate::instance::Instance;
use crate::stored::Object;
use crate::token::{Audience, Principal};
use crate::{Error, Platform, Result};

/// The member that names the konnector of an account.
const ACCOUNT_TYPE: &str = "account_type";
/// Member with what a provider answered beside its tokens.
const CALLBACK_RESULTS: &str = "oauth_callback_results";
/// Konnectors that one account can be shared with. Nobody has more konnectors for one login, and the list is read at each use.
const MAX_SHARED_WITH: usize = 16;

/// Whether a principal speaks for the owner of an account, and not for a konnector or for whoever was given the code of a share.
const fn speaks_for_owner(principal: &Principal) -> bool {
    matches!(principal.claims.aud, Audience::App | Audience::Cli | Audience::Access)
}

/// Refuses a konnector that touches an account of another one.
fn check_konnector(principal: &Principal, id: &str, body: &Object, verb: &str) -> Result<()> {
    match principal.konnector() {
        Some(slug) if !admits(body, slug) => Err(Error::Forbidden(format!(
            "account_type: the account '{id}' belongs to the konnector '{}', so '{slug}' cannot {verb} it",
            owner(body)
        ))),
        _ => Ok(()),
    }
}

/// Keeps a member that only the owner of an account may change.
fn keep(name: &str, before: &Object, body: &mut Object) -> Result<()> {
    match (before.get(name), body.get(name)) {
        (before, given) if before == given => Ok(()),
        (Some(before), None) => {
            body.insert(name.to_owned(), before.clone());
            Ok(())
        }
        _ => Err(Error::Forbidden(format!(
            "{name}: only the owner of the account can change it, neither a konnector nor a share; send it back as it was"
        ))),
    }
}

impl Platform {
    /// Checks the account that a principal creates.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when a konnector makes an account for another one, or shares one; [`Error::BadRequest`] for a list of konnectors
    /// that is none.
    pub(crate) fn check_new_account(
        &self,
        instance: &Instance,
        principal: &Principal,
        body: &mut Object,
    ) -> Result<()> {
        if let Some(slug) = principal.konnector() {
            let given = body.entry(ACCOUNT_TYPE).or_insert_with(|| Value::from(slug));
            if given.as_str() != Some(slug) {
                return Err(Error::Forbidden(format!(
                    "account_type: a konnector creates accounts of its own only; leave it out, or write '{slug}'"
                )));
            }
        }
        if !speaks_for_owner(principal) {
            return keep(SHARED_WITH, &Object::new(), body);
        }
        self.check_shared_with(instance, &Object::new(), body)
    }

    /// Checks what a principal makes of an account. Where that is another konnector's account, it loses the secrets of the former one;
    /// answers whether it is.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when a konnector changes an account of another one, or whose it is; [`Error::BadRequest`] for a list of konnectors
    /// that is none.
    pub(crate) fn check_changed_account(
        &self,
        instance: &Instance,
        principal: &Principal,
        (id, before): (&str, &Object),
        body: &mut Object,
    ) -> Result<bool> {
        check_konnector(principal, id, before, "change")?;
        if !speaks_for_owner(principal) {
            keep(ACCOUNT_TYPE, before, body)?;
            keep(SHARED_WITH, before, body)?;
            return Ok(false);
        }
        let changes_hands = owner(before) != owner(body);
        if changes_hands {
            forget_secrets(before, body);
        }
        self.check_shared_with(instance, before, body)?;
        Ok(changes_hands)
    }

    /// Checks whether a principal may have the token of an account refreshed.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when it is a konnector and the account is another one's, [`Error::NotFound`] when there is none with this id.
    pub fn check_refreshed_account(&self, instance: &Instance, principal: &Principal, id: &str) -> Result<()> {
        check_konnector(principal, id, &self.account(instance, id)?.body, "refresh")
    }

    /// Checks whether a principal may delete an account.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when it is a konnector and the account is another one's.
    pub(crate) fn check_deleted_account(principal: &Principal, id: &str, before: &Object) -> Result<()> {
        check_konnector(principal, id, before, "delete")
    }

    /// Checks the konnectors that an account is shared with. Those that are new are installed: consent to a name that anybody may
    /// take later is none.
    fn check_shared_with(&self, instance: &Instance, before: &Object, body: &mut Object) -> Result<()> {
        let given = match body.get(SHARED_WITH) {
            None => return Ok(()),
            Some(Value::Null) => {
                body.shift_remove(SHARED_WITH);
                return Ok(());
            }
            Some(given) if Some(given) == before.get(SHARED_WITH) => return Ok(()),
            Some(given) => given,
        };
        let malformed = |reason: String| Error::BadRequest(format!("{SHARED_WITH}: {reason}"));
        let example = || malformed(r#"expected is a list of slugs of konnectors, such as ["bank101"]"#.to_owned());
        let listed = given.as_array().ok_or_else(example)?;
        if listed.len() > MAX_SHARED_WITH {
            return Err(malformed(format!("an account can be shared with at most {MAX_SHARED_WITH} konnectors")));
        }
        for slug in listed {
            let slug: Slug = slug.as_str().and_then(|slug| slug.parse().ok()).ok_or_else(example)?;
            if admits(before, slug.as_ref()) {
                continue;
            }
            match self.konnector(instance, &slug) {
                Ok(_) => {}
                Err(Error::NotFound(_)) => {
                    return Err(malformed(format!("the konnector '{slug}' is not installed; install it first")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the consent that accounts are shared with a konnector.
    pub(crate) async fn end_sharing(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        for account in self.accounts(instance, None)? {
            if account.account_type() == Some(slug.as_ref()) || !account.admits(slug) {
                continue;
            }
            let withdraw = |body: &mut Object| {
                if let Some(listed) = body.get_mut(SHARED_WITH).and_then(Value::as_array_mut) {
                    listed.retain(|other| other.as_str() != Some(slug.as_ref()));
                }
                super::secrets::forget_former_users(body);
                Ok(())
            };
            match self.change_account(instance, &account.id, withdraw).await {
                Err(Error::NotFound(_)) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

/// Takes from an account that becomes another konnector's what the former one was given: sealed members, tokens, and the consent to share
/// it. What is written anew in the same breath stays.
fn forget_secrets(before: &Object, body: &mut Object) {
    for name in [OAUTH, CALLBACK_RESULTS, SHARED_WITH] {
        if body.get(name) == before.get(name) {
            body.shift_remove(name);
        }
    }
    for members in places_mut(body) {
        members.retain(|name, _| clear_name(name).is_none());
    }
}
