//! Rules for writes to an account, and the data that is deleted with it. An account stays with its konnector; only the
//! owner of the account may change that.

use konnector_manifest::Slug;
use serde_json::Value;

use super::access::{SHARED_WITH, is_usable_by, owning_konnector};
use super::{OAUTH_FIELD, secret_sections_mut, unsealed_name};
use crate::Accounts;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Principal};
use konnector_documents::stored::Object;

/// Field that names the konnector of an account.
const ACCOUNT_TYPE_FIELD: &str = "account_type";
/// Field with the provider's response apart from its tokens.
const CALLBACK_RESULTS_FIELD: &str = "oauth_callback_results";
/// Maximum number of konnectors with which one account can be shared. No login needs more, and the list is read at each
/// use.
const MAX_SHARED_WITH: usize = 16;

/// Returns whether a principal acts for the owner of an account, as opposed to a konnector or a holder of a share's
/// code.
const fn acts_for_user(principal: &Principal) -> bool {
    matches!(principal.claims.aud, Audience::App | Audience::Cli | Audience::Access)
}

/// Rejects a konnector that touches an account of another one.
fn check_konnector_access(principal: &Principal, id: &str, body: &Object, verb: &str) -> Result<()> {
    match principal.konnector() {
        Some(slug) if !is_usable_by(body, slug) => Err(Error::Forbidden(format!(
            "account_type: the account '{id}' belongs to the konnector '{}', so '{slug}' cannot {verb} it",
            owning_konnector(body)
        ))),
        _ => Ok(()),
    }
}

/// Restores a missing field that only the owner of an account may change, and rejects a changed one.
fn require_unchanged(name: &str, before: &Object, body: &mut Object) -> Result<()> {
    match (before.get(name), body.get(name)) {
        (before, given) if before == given => Ok(()),
        (Some(before), None) => {
            body.insert(name.to_owned(), before.clone());
            Ok(())
        }
        _ => Err(Error::Forbidden(format!(
            "{name}: only the owner of the account may change it, not a konnector or the holder of a share; send it back unchanged"
        ))),
    }
}

impl Accounts {
    /// Checks the account that a principal creates.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if a konnector creates an account for another one, or shares one; [`Error::BadRequest`] for
    /// an invalid list of konnectors.
    pub fn check_creation(&self, instance: &Instance, principal: &Principal, body: &mut Object) -> Result<()> {
        if let Some(slug) = principal.konnector() {
            let given = body.entry(ACCOUNT_TYPE_FIELD).or_insert_with(|| Value::from(slug));
            if given.as_str() != Some(slug) {
                return Err(Error::Forbidden(format!(
                    "account_type: a konnector may create only its own accounts; omit the field, or set it to '{slug}'"
                )));
            }
        }
        if !acts_for_user(principal) {
            return require_unchanged(SHARED_WITH, &Object::new(), body);
        }
        self.check_shared_with(instance, &Object::new(), body)
    }

    /// Checks a principal's change of an account. If the account changes to another konnector, it loses the secrets of
    /// the former one; returns whether it does.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if a konnector changes an account of another one, or moves an account to another konnector;
    /// [`Error::BadRequest`] for an invalid list of konnectors.
    pub fn check_update(
        &self,
        instance: &Instance,
        principal: &Principal,
        (id, before): (&str, &Object),
        body: &mut Object,
    ) -> Result<bool> {
        check_konnector_access(principal, id, before, "change")?;
        if !acts_for_user(principal) {
            require_unchanged(ACCOUNT_TYPE_FIELD, before, body)?;
            require_unchanged(SHARED_WITH, before, body)?;
            return Ok(false);
        }
        let changes_hands = owning_konnector(before) != owning_konnector(body);
        if changes_hands {
            remove_secrets(before, body);
        }
        self.check_shared_with(instance, before, body)?;
        Ok(changes_hands)
    }

    /// Checks whether a principal may have the token of an account refreshed.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if it is a konnector and the account belongs to another one, [`Error::NotFound`] if none
    /// has this id.
    pub fn check_refresh(&self, instance: &Instance, principal: &Principal, id: &str) -> Result<()> {
        check_konnector_access(principal, id, &self.get(instance, id)?.body, "refresh")
    }

    /// Checks whether a principal may delete an account.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if it is a konnector and the account belongs to another one.
    pub fn check_deletion(principal: &Principal, id: &str, before: &Object) -> Result<()> {
        check_konnector_access(principal, id, before, "delete")
    }

    /// Checks the konnectors that an account is shared with. New ones must be installed, because consent to a name that
    /// anyone may take later is not consent.
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
        let example = || malformed(r#"expected a list of konnector slugs, such as ["bank101"]"#.to_owned());
        let listed = given.as_array().ok_or_else(example)?;
        if listed.len() > MAX_SHARED_WITH {
            return Err(malformed(format!("an account can be shared with at most {MAX_SHARED_WITH} konnectors")));
        }
        for slug in listed {
            let slug: Slug = slug.as_str().and_then(|slug| slug.parse().ok()).ok_or_else(example)?;
            if is_usable_by(before, slug.as_ref()) {
                continue;
            }
            match self.context.konnectors().get(instance, &slug) {
                Ok(_) => {}
                Err(Error::NotFound(_)) => {
                    return Err(malformed(format!("the konnector '{slug}' is not installed; install it first")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Revokes the consent to share accounts with a konnector.
    pub async fn revoke_sharing(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        for account in self.list(instance, None)? {
            if account.account_type() == Some(slug.as_ref()) || !account.is_usable_by(slug) {
                continue;
            }
            let withdraw = |body: &mut Object| {
                if let Some(listed) = body.get_mut(SHARED_WITH).and_then(Value::as_array_mut) {
                    listed.retain(|other| other.as_str() != Some(slug.as_ref()));
                }
                super::secrets::remove_unusable_private_fields(body);
                Ok(())
            };
            match self.update(instance, &account.id, withdraw).await {
                Err(Error::NotFound(_)) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

/// Removes the former konnector's data from an account that changes to another konnector: sealed fields, tokens, and
/// the consent to share it. Values that the same write sets again stay.
fn remove_secrets(before: &Object, body: &mut Object) {
    for name in [OAUTH_FIELD, CALLBACK_RESULTS_FIELD, SHARED_WITH] {
        if body.get(name) == before.get(name) {
            body.shift_remove(name);
        }
    }
    for members in secret_sections_mut(body) {
        members.retain(|name, _| unsealed_name(name).is_none());
    }
}
