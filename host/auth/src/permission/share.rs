//! Shares: permissions for people without an account here, by codes that they send in requests (Cozy API, permissions,
//! §8.4).

use chrono::{DateTime, Duration, Utc};
use konnector_manifest::{Doctype, Permissions, RuleKind, Verb};
use konnector_store::{Changes, DocRef};
use serde_json::Value;

use super::{PermissionSet, PermissionSetKind, SHORTCODES, check_size, doc_ref, not_found};
use crate::PermissionSets;
use crate::{Error, Result};
use konnector_documents::doctype::PERMISSIONS;
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Claims, Principal};
use konnector_documents::random::random_secret;
use konnector_documents::stored::{Object, Stored, new_id, to_object};

/// Length of a short code. It is too long to be guessed, because a short code opens a share like the long code.
const SHORTCODE_LENGTH: usize = 12;
/// Maximum number of codes of one share.
const MAX_CODES: usize = 100;
/// Maximum size of the name of a code, in bytes.
const MAX_NAME_SIZE: usize = 200;

/// Error for rules that exceed the caller's (cozy-stack's wording).
pub(super) const LARGER_SET_MESSAGE: &str = "Attempt to create a larger permission set";
/// Error for changing a share of another creator (cozy-stack's wording).
pub(super) const NOT_PARENT_MESSAGE: &str = "Permissions can be updated only by its parent";

/// Parses the lifetime of a share: numbers with a unit, `1Y2M3W4D5h6m7s`; a year has 365 days and a month 30.
///
/// # Errors
///
/// [`Error::InvalidParameter`] for an invalid string, and for more than a hundred years.
pub fn parse_ttl(text: &str) -> Result<Duration> {
    let wrong = || Error::InvalidParameter {
        name: "ttl",
        message: format!(
            "'{text}' is not a valid duration; write numbers with units (Y, M, W, D, h, m, s), for example 30D or 1h30m"
        ),
    };
    let (mut seconds, mut number) = (0_i64, String::new());
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            'Y' => 365 * 86_400,
            'M' => 30 * 86_400,
            'W' => 7 * 86_400,
            'D' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: i64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        seconds = count.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
    }
    if !number.is_empty() || seconds == 0 || seconds > 100 * 366 * 86_400 {
        return Err(wrong());
    }
    Ok(Duration::seconds(seconds))
}

impl PermissionSet {
    /// Returns whether a share has expired.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

impl PermissionSets {
    /// Creates a share of some of the caller's permissions, with a code for each name.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for more than the caller's permissions, and for holders of a share; [`Error::BadRequest`]
    /// without a rule or a name.
    pub async fn create_share(
        &self,
        instance: &Instance,
        principal: &Principal,
        rules: &Permissions,
        names: &[String],
        lasts: Option<Duration>,
    ) -> Result<Stored<PermissionSet>> {
        if principal.claims.aud == Audience::Share {
            return Err(Error::Forbidden("the holder of a share cannot share it further".to_owned()));
        }
        principal.check_may_outlive_run("share anything")?;
        if rules.rules().is_empty() {
            return Err(Error::BadRequest("permissions: the set has no rule; add at least one".to_owned()));
        }
        check_size(rules)?;
        if !rules.is_subset_of(&principal.permissions) {
            return Err(Error::Forbidden(LARGER_SET_MESSAGE.to_owned()));
        }
        let id = new_id();
        let mut set = PermissionSet {
            kind: PermissionSetKind::Share,
            source_id: principal.source().1,
            permissions: rules.to_manifest(),
            codes: Object::new(),
            shortcodes: Object::new(),
            expires_at: lasts.map(|lasts| self.context.core.clock().now() + lasts),
        };
        let mut changes = Changes::new();
        self.stage_codes(instance, &id, &mut set, names, &mut changes)?;
        changes.create(doc_ref(instance, &id), to_object(&set)?);
        let rev = self.context.core.commit_one(changes).await?;
        Ok(Stored { id, rev, value: set })
    }

    /// Sets the codes of a share to exactly these names; existing codes of these names remain.
    pub(super) fn stage_codes(
        &self,
        instance: &Instance,
        id: &str,
        set: &mut PermissionSet,
        names: &[String],
        changes: &mut Changes,
    ) -> Result<()> {
        if names.is_empty() || names.len() > MAX_CODES {
            return Err(Error::BadRequest(format!(
                "codes: there are {} names; a share has 1 to {MAX_CODES}",
                names.len()
            )));
        }
        if let Some(name) = names.iter().find(|name| name.len() > MAX_NAME_SIZE) {
            let message =
                format!("codes: a name is {} bytes long; at most {MAX_NAME_SIZE} bytes are allowed", name.len());
            return Err(Error::BadRequest(message));
        }
        for (name, code) in &set.shortcodes {
            if let Some(code) = code.as_str().filter(|_| !names.contains(name)) {
                changes.remove_unique(&instance.id, SHORTCODES, code);
            }
        }
        set.codes.retain(|name, _| names.contains(name));
        set.shortcodes.retain(|name, _| names.contains(name));
        for name in names {
            if set.codes.contains_key(name) {
                continue;
            }
            let mut short: String = random_secret()?.chars().filter(char::is_ascii_alphanumeric).collect();
            short.truncate(SHORTCODE_LENGTH);
            changes.put_unique(&instance.id, SHORTCODES, &short, id);
            set.codes.insert(name.clone(), Value::String(self.context.auth().issue_share_code(instance, name, id)?));
            set.shortcodes.insert(name.clone(), Value::String(short));
        }
        Ok(())
    }

    /// Returns the permissions of the holder of a share's code.
    pub(crate) fn of_share(&self, instance: &Instance, claims: &Claims, code: &str) -> Result<Permissions> {
        let id = claims.share.as_deref().ok_or(Error::InvalidToken)?;
        let found: Stored<PermissionSet> =
            self.context.core.load(&doc_ref(instance, id))?.ok_or(Error::InvalidToken)?;
        if !found.value.codes.values().any(|own| own.as_str() == Some(code)) {
            return Err(Error::InvalidToken);
        }
        if found.value.is_expired(self.context.core.clock().now()) {
            return Err(Error::ExpiredToken);
        }
        found.value.rules()
    }

    /// Returns the long code for a short one.
    pub(crate) fn resolve_shortcode(&self, instance: &Instance, short: &str) -> Result<Option<String>> {
        if short.len() != SHORTCODE_LENGTH {
            return Ok(None);
        }
        let Some(id) = self.context.core.store().lookup(&instance.id, SHORTCODES, short)? else { return Ok(None) };
        let Some(found) = self.context.core.load::<PermissionSet>(&doc_ref(instance, &id))? else { return Ok(None) };
        let name = found.value.shortcodes.iter().find(|(_, own)| own.as_str() == Some(short)).map(|(name, _)| name);
        Ok(name.and_then(|name| found.value.codes.get(name)?.as_str()).map(str::to_owned))
    }

    /// Revokes a share.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for callers that did not create it, [`Error::NotFound`] if it does not exist.
    pub async fn revoke_share(&self, instance: &Instance, principal: &Principal, id: &str) -> Result<()> {
        let found: Option<Stored<PermissionSet>> = self.context.core.load(&doc_ref(instance, id))?;
        let Some(found) =
            found.filter(|found| found.value.kind == PermissionSetKind::Share && found.value.is_created_by(principal))
        else {
            let denial = if principal.permissions.is_everything() {
                not_found(id)
            } else {
                Error::Forbidden(NOT_PARENT_MESSAGE.to_owned())
            };
            return Err(denial);
        };
        self.delete_share(instance, &found).await
    }

    /// Revokes all shares of a creator. Konnectors cannot create shares; this also ends those that older servers
    /// allowed.
    pub async fn revoke_shares_by_source(&self, instance: &Instance, source: &str) -> Result<()> {
        for found in self.context.core.load_all::<PermissionSet>(&instance.id, &PERMISSIONS)? {
            if found.value.kind == PermissionSetKind::Share && found.value.source_id == source {
                self.delete_share(instance, &found).await?;
            }
        }
        Ok(())
    }

    async fn delete_share(&self, instance: &Instance, share: &Stored<PermissionSet>) -> Result<()> {
        let mut changes = Changes::new();
        for code in share.value.shortcodes.values().filter_map(Value::as_str) {
            changes.remove_unique(&instance.id, SHORTCODES, code);
        }
        changes.delete(doc_ref(instance, &share.id), &share.rev);
        self.context.core.commit(changes).await.map(drop)
    }

    /// Returns the unexpired shares that have a rule for a doctype, ordered by id.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without GET on the whole doctype.
    pub fn list_shares(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
    ) -> Result<Vec<Stored<PermissionSet>>> {
        if !principal.permissions.allows_type(Verb::Get, doctype) {
            let denial = "You need GET permission on whole type to list its permissions";
            return Err(Error::Forbidden(denial.to_owned()));
        }
        self.active_shares(instance, doctype)
    }

    fn active_shares(&self, instance: &Instance, doctype: &Doctype) -> Result<Vec<Stored<PermissionSet>>> {
        let now = self.context.core.clock().now();
        let mut shares = self.context.core.load_all::<PermissionSet>(&instance.id, &PERMISSIONS)?;
        shares.retain(|share| share.value.kind == PermissionSetKind::Share && !share.value.is_expired(now));
        let mut found = Vec::new();
        for share in shares {
            let about = |kind: &RuleKind| matches!(kind, RuleKind::Doctype(pattern) if pattern.matches(doctype));
            if share.value.rules()?.rules().iter().any(|rule| about(&rule.kind)) {
                found.push(share);
            }
        }
        Ok(found)
    }

    /// Returns the verbs that shares allow on the documents that they name by id; none for a document that no share
    /// names.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if the caller may read no document of the doctype.
    pub fn shared_verbs(
        &self,
        instance: &Instance,
        principal: &Principal,
        documents: &[DocRef],
    ) -> Result<Vec<(DocRef, Vec<Verb>)>> {
        let mut shared = Vec::new();
        for document in documents {
            principal.check_any(Verb::Get, &document.doctype)?;
            let mut verbs: Vec<Verb> = Vec::new();
            for share in self.active_shares(instance, &document.doctype)? {
                for rule in share.value.rules()?.rules() {
                    if rule.selector.is_none() && rule.values.contains(&document.id) {
                        verbs.extend(Verb::ALL.iter().filter(|verb| rule.applies_to(**verb, &document.doctype)));
                    }
                }
            }
            if !verbs.is_empty() {
                verbs.sort_unstable();
                verbs.dedup();
                shared.push((document.clone(), verbs));
            }
        }
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lasts_as_long_as_its_text_says() {
        for (text, seconds) in [("1s", 1), ("1h30m", 5_400), ("2D", 172_800), ("1Y2M3W4D5h6m7s", 38_898_367)] {
            assert_eq!(parse_ttl(text).expect(text), Duration::seconds(seconds), "{text}");
        }
        for wrong in
            ["", "0s", "10", "h", "1d", "-1h", "1.5h", "1 h", "101Y", "99999999999999999999s", "9223372036854775807Y"]
        {
            assert!(parse_ttl(wrong).is_err(), "{wrong}");
        }
    }
}
