//! Permission sets: documents of their own, read at every request, so that a change counts at once. A konnector has one from its
//! installation to its removal; a share has one as long as somebody holds a code of it.

mod check;
mod patch;
pub mod share;

use chrono::{DateTime, Utc};
use konnector_manifest::{Permissions, Slug};
use konnector_store::{Changes, DocRef, Links};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use check::{HIDDEN_FROM_KONNECTORS_MESSAGE, is_hidden_from_konnectors};
pub use patch::PermissionPatch;

use crate::doctype::{FILES, PERMISSIONS};
use crate::instance::Instance;
use crate::stored::{Object, Stored, to_object};
use crate::token::{Audience, Principal};
use crate::{Error, Platform, Result};

/// Index from a short code to the permission set of its share.
pub(crate) const SHORTCODES: &str = "permissions.shortcodes";
/// Title of the rule that lets a konnector work in its folders; a number is added where the manifest has one of that title.
const REFERENCED_FOLDERS_TITLE: &str = "referenced folders";
/// Rules of a set that clients write.
const MAX_RULES: usize = 200;
/// Values of all its rules.
const MAX_VALUES: usize = 2_000;
/// The indexes of permission sets.
pub(crate) const INDEXES: [&str; 1] = [SHORTCODES];

/// Whose a permission set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionSetKind {
    /// An installed konnector's.
    Konnector,
    /// That of whoever holds a code.
    Share,
}

/// A permission set, as its document holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PermissionSet {
    /// Whose it is.
    #[serde(rename = "type")]
    pub kind: PermissionSetKind,
    /// Who it comes from, such as `io.cozy.konnectors/<slug>`: of a share, who made it.
    pub source_id: String,
    /// The rules, by title.
    pub permissions: Object,
    /// Of a share: the codes, by the name of who has them.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub codes: Object,
    /// Of a share: the same as short codes.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub shortcodes: Object,
    /// Of a share: when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

impl PermissionSet {
    /// The rules.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn rules(&self) -> Result<Permissions> {
        Ok(Permissions::from_manifest(&self.permissions)?)
    }

    /// What the document of a set refers to.
    pub(crate) fn links(&self) -> Links {
        let codes = self.shortcodes.values().filter_map(|code| code.as_str());
        Links { blobs: Vec::new(), unique_keys: codes.map(|code| (SHORTCODES, code.to_owned())).collect() }
    }
}

/// Refuses a set that is too large: all of it is read at every request under it.
fn check_size(rules: &Permissions) -> Result<()> {
    let (count, values) = (rules.rules().len(), rules.rules().iter().map(|rule| rule.values.len()).sum::<usize>());
    if count > MAX_RULES {
        return Err(Error::BadRequest(format!("permissions: {count} rules; a set has at most {MAX_RULES}")));
    }
    if values > MAX_VALUES {
        return Err(Error::BadRequest(format!(
            "permissions: {values} values; the rules of a set have at most {MAX_VALUES} in all. Use a selector, such as referenced_by"
        )));
    }
    Ok(())
}

fn doc_ref(instance: &Instance, id: &str) -> DocRef {
    instance.doc(&PERMISSIONS, id)
}

/// The id of the permission set of a konnector.
#[must_use]
pub fn konnector_set_id(slug: &str) -> String {
    format!("konnector-{slug}")
}

/// The rule that lets a konnector work in the folders that refer to it.
fn referenced_folders_rule(slug: &Slug) -> Value {
    json!({
        "type": FILES.as_str(),
        "description": "Works in the folders that refer to this konnector",
        "selector": "referenced_by",
        "values": [Principal::konnector_source(slug)],
    })
}

/// Whether it is this rule, and none of the manifest, under whatever title.
fn is_referenced_folders_rule(rule: &Value, slug: &Slug) -> bool {
    let own = referenced_folders_rule(slug);
    ["type", "description", "selector", "values"].iter().all(|name| rule.get(*name) == own.get(*name))
}

impl Principal {
    /// The source of what a konnector has and makes.
    pub(crate) fn konnector_source(slug: &(impl std::fmt::Display + ?Sized)) -> String {
        format!("io.cozy.konnectors/{slug}")
    }

    /// The type and the source of the set that it acts under, as Cozy names them. A share has those of its document.
    #[must_use]
    pub fn source(&self) -> (&'static str, String) {
        let subject = &self.claims.sub;
        match self.claims.aud {
            Audience::App => ("app", format!("io.cozy.apps/{subject}")),
            Audience::Konnector => ("konnector", Self::konnector_source(subject)),
            Audience::Cli => ("cli", String::new()),
            Audience::Access | Audience::Refresh | Audience::Registration => {
                ("oauth", format!("io.cozy.oauth.clients/{subject}"))
            }
            Audience::Share => ("share", String::new()),
        }
    }

    /// Whether a share was made by this principal, or by one with the same source; the owner counts as every one's maker.
    fn is_creator_of(&self, set: &PermissionSet) -> bool {
        self.permissions.is_everything()
            || (self.claims.aud != Audience::Share
                && set.kind == PermissionSetKind::Share
                && set.source_id == self.source().1)
    }
}

impl Platform {
    fn konnector_permission_set(&self, instance: &Instance, slug: &Slug) -> Result<Option<PermissionSet>> {
        Ok(self.load::<PermissionSet>(&doc_ref(instance, &konnector_set_id(slug.as_ref())))?.map(|found| found.value))
    }

    /// What a konnector may do now; nothing when it is not installed.
    ///
    /// # Errors
    ///
    /// When the stored rules cannot be read.
    pub fn konnector_permissions(&self, instance: &Instance, slug: &Slug) -> Result<Permissions> {
        self.konnector_permission_set(instance, slug)?.map_or_else(|| Ok(Permissions::default()), |set| set.rules())
    }

    /// What the capabilities of a run are held to: the rules without the one on referenced folders. That one is for the API, as at Cozy; the
    /// interface `files` and the directory `/files` are what the manifest says.
    ///
    /// # Errors
    ///
    /// When the stored rules cannot be read.
    pub(crate) fn capability_permissions(&self, instance: &Instance, slug: &Slug) -> Result<Permissions> {
        let Some(mut set) = self.konnector_permission_set(instance, slug)? else { return Ok(Permissions::default()) };
        set.permissions.retain(|_, rule| !is_referenced_folders_rule(rule, slug));
        set.rules()
    }

    /// Lets a konnector work in the folders that refer to it, wherever the user moves them (Cozy API, permission top-up, §6.5). Nothing
    /// happens when it may already, or is not installed.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn allow_referenced_folders(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        self.modify::<PermissionSet, _>(&doc_ref(instance, &konnector_set_id(slug.as_ref())), |set, _| {
            if set.permissions.values().any(|rule| is_referenced_folders_rule(rule, slug)) {
                return Ok(false);
            }
            // The author of the manifest may have given a rule the same title.
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

    /// The set that a principal acts under, where it has a document.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn own_permission_set(
        &self,
        instance: &Instance,
        principal: &Principal,
    ) -> Result<Option<Stored<PermissionSet>>> {
        let claims = &principal.claims;
        match (claims.aud, &claims.share) {
            (Audience::Konnector, _) => self.load(&doc_ref(instance, &konnector_set_id(&claims.sub))),
            (Audience::Share, Some(id)) => self.load(&doc_ref(instance, id)),
            _ => Ok(None),
        }
    }

    /// A set, for whoever acts under it or made it.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for everybody else, [`Error::NotFound`] when there is none.
    pub fn permission_set(
        &self,
        instance: &Instance,
        principal: &Principal,
        id: &str,
    ) -> Result<Stored<PermissionSet>> {
        let found: Option<Stored<PermissionSet>> = self.load(&doc_ref(instance, id))?;
        let own = self.own_permission_set(instance, principal)?.is_some_and(|own| own.id == id);
        let may = own
            || match &found {
                Some(found) => principal.is_creator_of(&found.value),
                None => principal.permissions.is_everything(),
            };
        if !may {
            return Err(Error::Forbidden("a permission set is shown to whoever acts under it or made it".to_owned()));
        }
        found.ok_or_else(|| not_found(id))
    }

    /// Adds the permission set of a konnector to changes, in place of the one that may be there.
    pub(crate) fn stage_permissions(
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
        match self.store.get(&at)? {
            Some(found) => changes.put(at, &found.rev, body),
            None => changes.create(at, body),
        };
        Ok(())
    }

    /// Adds the removal of a konnector's permission set to changes.
    pub(crate) fn stage_delete_permissions(
        &self,
        instance: &Instance,
        slug: &Slug,
        changes: &mut Changes,
    ) -> Result<()> {
        let at = doc_ref(instance, &konnector_set_id(slug.as_ref()));
        if let Some(found) = self.store.get(&at)? {
            changes.delete(at, &found.rev);
        }
        Ok(())
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound(format!("there is no permission set '{id}'"))
}
