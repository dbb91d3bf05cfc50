//! Changes to a permission set. Rules are added, replaced and removed by title (Cozy API, permissions, §8.4).

use chrono::{DateTime, Utc};
use konnector_manifest::Permissions;
use konnector_store::Changes;
use serde_json::Value;

use super::share::{LARGER_SET_MESSAGE, NOT_PARENT_MESSAGE};
use super::{PermissionSet, PermissionSetKind, check_size, doc_ref, not_found, parse_rules};
use crate::PermissionSets;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Principal};
use konnector_documents::stored::{Object, Stored, to_object};

/// Change of a permission set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionPatch {
    /// New list of the code holders.
    Codes(Vec<String>),
    /// Rules and expiry.
    Set {
        /// Rules by title; an empty object removes the rule with this title.
        rules: Object,
        /// When the share expires; `Some(None)` means never.
        expires_at: Option<Option<DateTime<Utc>>>,
    },
}

impl PermissionSets {
    /// Changes a set. Any caller that has the rules itself may add and remove rules; other changes are for the creator
    /// of the share only.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for rules that the caller does not have, for another caller's share, and for holders of a
    /// share; [`Error::NotFound`] if the set does not exist; as [`parse_rules`] for an invalid rule.
    pub async fn patch(
        &self,
        instance: &Instance,
        principal: &Principal,
        id: &str,
        patch: &PermissionPatch,
    ) -> Result<Stored<PermissionSet>> {
        if principal.claims.aud == Audience::Share {
            return Err(Error::Forbidden(NOT_PARENT_MESSAGE.to_owned()));
        }
        principal.check_may_outlive_run("change permissions")?;
        let at = doc_ref(instance, id);
        let Some(Stored { rev, value: mut set, .. }) = self.context.core.load::<PermissionSet>(&at)? else {
            // Only callers that could have changed something see this error.
            if let PermissionPatch::Set { rules, .. } = patch {
                check_subset(principal, &added_rules(rules)?)?;
            }
            return Err(not_found(id));
        };
        let mut changes = Changes::new();
        match patch {
            PermissionPatch::Codes(names) => {
                check_share_creator(principal, &set)?;
                self.stage_codes(instance, id, &mut set, names, &mut changes)?;
            }
            PermissionPatch::Set { rules, expires_at } => {
                check_subset(principal, &added_rules(rules)?)?;
                for (title, rule) in rules {
                    let before = set.permissions.get(title).map(|rule| (title.clone(), rule.clone()));
                    if let Some(before) = before
                        && !set.is_created_by(principal)
                    {
                        check_subset(principal, &Permissions::from_manifest(&Object::from_iter([before]))?)?;
                    }
                    if is_empty_rule(rule) {
                        set.permissions.shift_remove(title);
                    } else {
                        set.permissions.insert(title.clone(), rule.clone());
                    }
                }
                // Parsed in the same way as later, so that an invalid rule is not stored.
                let rules = set.rules()?;
                check_size(&rules)?;
                set.permissions = rules.to_manifest();
                if let Some(end) = expires_at {
                    check_share_creator(principal, &set)?;
                    set.expires_at = *end;
                }
            }
        }
        changes.put(at, &rev, to_object(&set)?);
        let revs = self.context.core.commit(changes).await?;
        Ok(Stored { id: id.to_owned(), rev: revs.into_iter().last().unwrap_or(rev), value: set })
    }
}

fn is_empty_rule(rule: &Value) -> bool {
    rule.as_object().is_some_and(Object::is_empty)
}

/// Returns the rules to add.
fn added_rules(rules: &Object) -> Result<Permissions> {
    let added = rules.iter().filter(|(_, rule)| !is_empty_rule(rule));
    let added = parse_rules(&added.map(|(title, rule)| (title.clone(), rule.clone())).collect())?;
    check_size(&added)?;
    Ok(added)
}

/// Checks that the caller has these rules itself.
fn check_subset(principal: &Principal, rules: &Permissions) -> Result<()> {
    if rules.is_subset_of(&principal.permissions) {
        Ok(())
    } else {
        Err(Error::Forbidden(LARGER_SET_MESSAGE.to_owned()))
    }
}

/// Checks that the caller created the share.
fn check_share_creator(principal: &Principal, set: &PermissionSet) -> Result<()> {
    if set.kind == PermissionSetKind::Share && set.is_created_by(principal) {
        Ok(())
    } else {
        Err(Error::Forbidden(NOT_PARENT_MESSAGE.to_owned()))
    }
}
