//! Deletion of an account (Cozy API, accounts, deletion, §7.3). Its konnector may have to clean up at the vendor, and
//! still needs to log in for that, so a copy of the account outlives it until the konnector has cleaned up. Without a
//! konnector that cleans up there is no copy, because no account data is stored without a use.

use konnector_manifest::Slug;
use konnector_store::{Changes, DocRef, Document};
use serde_json::{Value, json};

use super::Account;
use crate::Accounts;
use crate::{Error, Result};
use konnector_documents::doctype::DELETED_ACCOUNTS;
use konnector_documents::instance::Instance;
use konnector_documents::stored::Object;

/// Field of the copy for the revision that the account had.
pub const SOFT_DELETED_REV_FIELD: &str = "soft_deleted_rev";
/// Field of an account whose client cleans up itself.
const MANUAL_CLEANING_FIELD: &str = "manual_cleaning";

fn deleted_account_ref(instance: &Instance, id: &str) -> DocRef {
    instance.doc(&DELETED_ACCOUNTS, id)
}

impl Accounts {
    /// Adds to the deletion of an account the copy that its konnector needs to clean up; returns the konnector, or
    /// `None` if there is nothing to clean up.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn stage_deleted_copy(
        &self,
        instance: &Instance,
        account: &Document,
        changes: &mut Changes,
    ) -> Result<Option<Slug>> {
        let Document { id, rev, body } = account;
        let Some(slug) = self.clean_up_konnector(instance, body)? else { return Ok(None) };
        let mut copy = body.clone();
        copy.insert(SOFT_DELETED_REV_FIELD.to_owned(), json!(rev));
        let at = deleted_account_ref(instance, id);
        let earlier = self.context.core.store().get(&at)?;
        changes.upsert(at, earlier.as_ref().map(|earlier| &earlier.rev), copy);
        Ok(Some(slug))
    }

    /// Returns the accounts after which a konnector cleans up.
    pub fn accounts_to_clean(&self, instance: &Instance) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for account in self.list(instance, None)? {
            if self.clean_up_konnector(instance, &account.body)?.is_some() {
                ids.push(account.id);
            }
        }
        Ok(ids)
    }

    /// Returns the copies of deleted accounts that wait for this konnector, or for any konnector, to clean up.
    pub fn list_deleted(&self, instance: &Instance, of: Option<&Slug>) -> Result<Vec<Document>> {
        let mut copies = self.context.core.store().list(&instance.id, &DELETED_ACCOUNTS, None, usize::MAX)?;
        if let Some(slug) = of {
            copies.retain(|copy| copy.body.get("account_type").and_then(Value::as_str) == Some(slug.as_ref()));
        }
        Ok(copies)
    }

    /// Returns the konnector of an account if it cleans up after it.
    pub fn clean_up_konnector(&self, instance: &Instance, account: &Object) -> Result<Option<Slug>> {
        if account.get(MANUAL_CLEANING_FIELD) == Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let slug = account.get("account_type").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
        let Some(slug) = slug else { return Ok(None) };
        match self.context.konnectors().get(instance, &slug) {
            Ok(konnector) => Ok(konnector.manifest()?.on_delete_account.map(|_| slug)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a deleted account whose konnector has not cleaned up yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no deleted account has this id.
    pub fn get_deleted(&self, instance: &Instance, id: &str) -> Result<Account> {
        let not_found = || Error::NotFound(format!("there is no deleted account '{id}'"));
        let Document { id, mut body, .. } =
            self.context.core.store().get(&deleted_account_ref(instance, id))?.ok_or_else(not_found)?;
        let unreadable = || Error::CorruptDocument {
            document: format!("{}/{id}", *DELETED_ACCOUNTS),
            message: "it has no revision".to_owned(),
        };
        let rev =
            body.shift_remove(SOFT_DELETED_REV_FIELD).as_ref().and_then(Value::as_str).and_then(|rev| rev.parse().ok());
        Ok(Account { rev: rev.ok_or_else(unreadable)?, id, body })
    }

    /// Adds to `changes` the removal of the copy of a deleted account that is no longer needed.
    pub fn stage_purge_deleted(&self, instance: &Instance, id: &str, changes: &mut Changes) -> Result<()> {
        if let Some(copy) = self.context.core.store().get(&deleted_account_ref(instance, id))? {
            changes.purge(deleted_account_ref(instance, id), &copy.rev);
        }
        Ok(())
    }
}
