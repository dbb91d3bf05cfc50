//! The permission set of an installed konnector: a document of its own, read at every request, so that a change counts at once.

use konnector_manifest::{Permissions, Slug};
use konnector_store::{Changes, DocRef};
use serde::{Deserialize, Serialize};

use crate::doctype::PERMISSIONS;
use crate::instance::Instance;
use crate::stored::{Object, object};
use crate::{Platform, Result};

/// A permission set, as its document holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PermissionSet {
    /// Always `konnector`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is: `io.cozy.konnectors/<slug>`.
    pub source_id: String,
    /// The rules, by title.
    pub permissions: Object,
}

fn at(instance: &Instance, slug: &Slug) -> DocRef {
    instance.doc(&PERMISSIONS, format!("konnector-{slug}"))
}

impl Platform {
    /// What a konnector may do now; nothing when it is not installed.
    ///
    /// # Errors
    ///
    /// When the stored rules cannot be read.
    pub fn konnector_permissions(&self, instance: &Instance, slug: &Slug) -> Result<Permissions> {
        match self.stored::<PermissionSet>(&at(instance, slug))? {
            Some(found) => Ok(Permissions::from_manifest(&found.value.permissions)?),
            None => Ok(Permissions::default()),
        }
    }

    /// Adds the permission set of a konnector to changes, in place of the one that may be there.
    pub(crate) fn stage_permissions(
        &self,
        instance: &Instance,
        slug: &Slug,
        permissions: &Permissions,
        changes: &mut Changes,
    ) -> Result<()> {
        let at = at(instance, slug);
        let body = object(&PermissionSet {
            kind: "konnector".to_owned(),
            source_id: format!("io.cozy.konnectors/{slug}"),
            permissions: permissions.to_manifest(),
        })?;
        match self.store.get(&at)? {
            Some(found) => changes.put(at, &found.rev, body),
            None => changes.create(at, body),
        };
        Ok(())
    }

    /// Adds the removal of a konnector's permission set to changes.
    pub(crate) fn stage_no_permissions(&self, instance: &Instance, slug: &Slug, changes: &mut Changes) -> Result<()> {
        let at = at(instance, slug);
        if let Some(found) = self.store.get(&at)? {
            changes.delete(at, &found.rev);
        }
        Ok(())
    }
}
