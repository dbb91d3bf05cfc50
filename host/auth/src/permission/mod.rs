//! Permission sets, which are separate documents, read at every request, so that a change takes effect at once. A
//! konnector has one from its installation to its removal; a share has one as long as a code for it exists.

mod patch;
pub mod share;

use chrono::{DateTime, Utc};
use konnector_manifest::{Permissions, Slug};
use konnector_store::{Changes, DocRef, Links};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use patch::PermissionPatch;

use crate::PermissionSets;
use crate::{Error, Result};
use konnector_documents::doctype::{FILES, PERMISSIONS};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Principal};
use konnector_documents::stored::{Object, Stored, to_object};

/// Index from a short code to the permission set of its share.
pub(crate) const SHORTCODES: &str = "permissions.shortcodes";
/// Title of the rule that lets a konnector work in its folders; a number is appended if the manifest has a rule with
/// this title.
const REFERENCED_FOLDERS_TITLE: &str = "referenced folders";
/// Maximum number of rules in a set that clients write.
const MAX_RULES: usize = 200;
/// Maximum number of values in all rules of such a set.
const MAX_VALUES: usize = 2_000;
/// The indexes of permission sets.
pub const INDEXES: [&str; 1] = [SHORTCODES];

/// Owner of a permission set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionSetKind {
    /// An installed konnector, from its installation to its removal.
    Konnector,
    /// The holder of a share's code.
    Share,
}

/// A permission set, as stored in its document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PermissionSet {
    /// Kind of its owner.
    #[serde(rename = "type")]
    pub kind: PermissionSetKind,
    /// Source, such as `io.cozy.konnectors/<slug>`; for a share, its creator.
    pub source_id: String,
    /// Rules of the set, by title.
    pub permissions: Object,
    /// For a share, the codes by the names of their holders.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub codes: Object,
    /// For a share, the short codes by the same names.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub shortcodes: Object,
    /// For a share, the time at which it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

impl PermissionSet {
    /// Parses the rules.
    ///
    /// # Errors
    ///
    /// If the stored rules cannot be read.
    pub fn rules(&self) -> Result<Permissions> {
        Ok(Permissions::from_manifest(&self.permissions)?)
    }

    /// Returns the links of a set's document.
    pub fn links(&self) -> Links {
        let codes = self.shortcodes.values().filter_map(|code| code.as_str());
        Links { blobs: Vec::new(), unique_keys: codes.map(|code| (SHORTCODES, code.to_owned())).collect() }
    }
}

/// Parses the rules of a request.
///
/// # Errors
///
/// [`Error::Forbidden`] for a doctype that no rule may name, as for a manifest; [`Error::BadRequest`] otherwise. The
/// message names the field.
pub fn parse_rules(rules: &Object) -> Result<Permissions> {
    Permissions::from_manifest(rules).map_err(|error| {
        let message = error.to_string();
        if error.is_doctype() { Error::Forbidden(message) } else { Error::BadRequest(message) }
    })
}

/// Rejects a set that is too large, because the whole set is read at each request that uses it.
fn check_size(rules: &Permissions) -> Result<()> {
    let (count, values) = (rules.rules().len(), rules.rules().iter().map(|rule| rule.values.len()).sum::<usize>());
    if count > MAX_RULES {
        return Err(Error::BadRequest(format!("permissions: there are {count} rules; a set has at most {MAX_RULES}")));
    }
    if values > MAX_VALUES {
        return Err(Error::BadRequest(format!(
            "permissions: the rules have {values} values, but at most {MAX_VALUES} are allowed in total; use a selector, such as referenced_by"
        )));
    }
    Ok(())
}

fn doc_ref(instance: &Instance, id: &str) -> DocRef {
    instance.doc(&PERMISSIONS, id)
}

/// Returns the id of a konnector's permission set.
#[must_use]
pub fn konnector_set_id(slug: &str) -> String {
    format!("konnector-{slug}")
}

/// Returns the rule that lets a konnector work in the folders that refer to it.
fn referenced_folders_rule(slug: &Slug) -> Value {
    json!({
        "type": FILES.as_str(),
        "description": "Works in the folders that refer to this konnector",
        "selector": "referenced_by",
        "values": [Principal::konnector_source(slug)],
    })
}

/// Returns whether `rule` is the rule on referenced folders, under any title, and not a rule of the manifest.
fn is_referenced_folders_rule(rule: &Value, slug: &Slug) -> bool {
    let own = referenced_folders_rule(slug);
    ["type", "description", "selector", "values"].iter().all(|name| rule.get(*name) == own.get(*name))
}

impl PermissionSet {
    /// Returns whether the share was made by this principal, or by one with the same source; the owner counts as the
    /// creator of every share.
    fn is_created_by(&self, principal: &Principal) -> bool {
        principal.permissions.is_everything()
            || (principal.claims.aud != Audience::Share
                && self.kind == PermissionSetKind::Share
                && self.source_id == principal.source().1)
    }
}

impl PermissionSets {
    fn konnector_set(&self, instance: &Instance, slug: &Slug) -> Result<Option<PermissionSet>> {
        Ok(self
            .context
            .core
            .load::<PermissionSet>(&doc_ref(instance, &konnector_set_id(slug.as_ref())))?
            .map(|found| found.value))
    }

    /// Returns the current permissions of a konnector; none when it is not installed.
    ///
    /// # Errors
    ///
    /// If the stored rules cannot be read.
    pub fn of_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Permissions> {
        self.konnector_set(instance, slug)?.map_or_else(|| Ok(Permissions::default()), |set| set.rules())
    }

    /// Returns the rules for the capabilities of a run: all except the rule on referenced folders, which is for the
    /// API, as in Cozy; the interface `files` and the directory `/files` follow the manifest.
    ///
    /// # Errors
    ///
    /// If the stored rules cannot be read.
    pub fn of_capabilities(&self, instance: &Instance, slug: &Slug) -> Result<Permissions> {
        let Some(mut set) = self.konnector_set(instance, slug)? else { return Ok(Permissions::default()) };
        set.permissions.retain(|_, rule| !is_referenced_folders_rule(rule, slug));
        set.rules()
    }

    /// Lets a konnector work in the folders that refer to it, even if the user moves them (Cozy API, permission top-up,
    /// §6.5). Does nothing if the rule exists, or the konnector is not installed.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn allow_referenced_folders(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        self.context
            .core
            .modify::<PermissionSet, _>(&doc_ref(instance, &konnector_set_id(slug.as_ref())), |set, _| {
                if set.permissions.values().any(|rule| is_referenced_folders_rule(rule, slug)) {
                    return Ok(false);
                }
                // The manifest may have a rule with the same title.
                let numbered = (2..).map(|number| format!("{REFERENCED_FOLDERS_TITLE} ({number})"));
                let mut titles = std::iter::once(REFERENCED_FOLDERS_TITLE.to_owned()).chain(numbered);
                if let Some(title) = titles.find(|title| !set.permissions.contains_key(title)) {
                    set.permissions.insert(title, referenced_folders_rule(slug));
                }
                Ok(true)
            })
            .await
            .map(drop)
    }

    /// Returns the set that applies to a principal, if it has a document.
    ///
    /// # Errors
    ///
    /// If the set cannot be read.
    pub fn get_own(&self, instance: &Instance, principal: &Principal) -> Result<Option<Stored<PermissionSet>>> {
        let claims = &principal.claims;
        match (claims.aud, &claims.share) {
            (Audience::Konnector, _) => self.context.core.load(&doc_ref(instance, &konnector_set_id(&claims.sub))),
            (Audience::Share, Some(id)) => self.context.core.load(&doc_ref(instance, id)),
            _ => Ok(None),
        }
    }

    /// Returns a permission set, to principals that use or created it.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for other callers, [`Error::NotFound`] if it does not exist.
    pub fn get(&self, instance: &Instance, principal: &Principal, id: &str) -> Result<Stored<PermissionSet>> {
        let found: Option<Stored<PermissionSet>> = self.context.core.load(&doc_ref(instance, id))?;
        let own = self.get_own(instance, principal)?.is_some_and(|own| own.id == id);
        let may = own
            || match &found {
                Some(found) => found.value.is_created_by(principal),
                None => principal.permissions.is_everything(),
            };
        if !may {
            return Err(Error::Forbidden("only the holder and the creator of a permission set may read it".to_owned()));
        }
        found.ok_or_else(|| not_found(id))
    }

    /// Stages the permission set of a konnector, replacing an existing one.
    pub fn stage(
        &self,
        instance: &Instance,
        slug: &Slug,
        permissions: &Permissions,
        changes: &mut Changes,
    ) -> Result<()> {
        let at = doc_ref(instance, &konnector_set_id(slug.as_ref()));
        let body = to_object(&PermissionSet {
            kind: PermissionSetKind::Konnector,
            source_id: Principal::konnector_source(slug),
            permissions: permissions.to_manifest(),
            codes: Object::new(),
            shortcodes: Object::new(),
            expires_at: None,
        })?;
        let found = self.context.core.store().get(&at)?;
        changes.upsert(at, found.as_ref().map(|found| &found.rev), body);
        Ok(())
    }

    /// Stages the deletion of a konnector's permission set.
    pub fn stage_delete(&self, instance: &Instance, slug: &Slug, changes: &mut Changes) -> Result<()> {
        let at = doc_ref(instance, &konnector_set_id(slug.as_ref()));
        if let Some(found) = self.context.core.store().get(&at)? {
            changes.delete(at, &found.rev);
        }
        Ok(())
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound(format!("there is no permission set '{id}'"))
}
