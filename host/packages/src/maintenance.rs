//! Maintenance of konnectors. While a konnector is known not to work, no schedule starts it. Maintenance is declared by
//! the operator for the whole server, or by the konnector's registry (Cozy API, konnector worker policy, §5.7).

use konnector_manifest::Slug;
use konnector_store::{Changes, DocRef, InstanceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Konnectors;
use crate::{Error, Result};
use konnector_documents::doctype::MAINTENANCES;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, to_object};

/// Option that prevents users from starting the konnector manually.
const DISALLOW_MANUAL_FLAG: &str = "flag_disallow_manual_exec";
/// Option that clients interpret as maintenance by the operator; always true.
const INFRA_MAINTENANCE_FLAG: &str = "flag_infra_maintenance";
/// Feature flag whose `list` names the konnectors that an instance runs despite maintenance.
const SKIP_MAINTENANCE_FLAG: &str = "harvest.skip-maintenance-for";

/// A konnector in maintenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Slug of the konnector. It need not be installed.
    pub slug: String,
    /// Message to users, and whether they may start it manually: `flag_short_maintenance`, `flag_disallow_manual_exec`,
    /// `flag_infra_maintenance`, `messages`.
    #[serde(rename = "maintenance_options")]
    pub options: Object,
}

impl Maintenance {
    /// Creates a maintenance from a registry's options.
    pub fn from_registry(slug: &Slug, options: &Value) -> Self {
        Self { slug: slug.to_string(), options: options.as_object().cloned().unwrap_or_default() }
    }

    fn forbids_manual(&self) -> bool {
        self.options.get(DISALLOW_MANUAL_FLAG) == Some(&Value::Bool(true))
    }

    /// Rejects a job, unless a person requested it and manual starts are allowed.
    pub fn check_start(&self, manual: bool) -> Result<()> {
        if manual && !self.forbids_manual() {
            return Ok(());
        }
        Err(Error::Unavailable(format!(
            "The konnector '{}' is in maintenance. Try again when the maintenance is over.",
            self.slug
        )))
    }
}

/// Returns whether an instance runs a konnector despite its maintenance.
pub(super) fn is_exempt(instance: &Instance, slug: &Slug) -> bool {
    let listed = instance.feature_flags.get(SKIP_MAINTENANCE_FLAG).and_then(|switch| switch.get("list")?.as_array());
    listed.is_some_and(|listed| listed.iter().any(|name| name == slug.as_ref()))
}

fn doc_ref(slug: &Slug) -> DocRef {
    DocRef::new(&InstanceId::global(), &MAINTENANCES, slug.as_ref())
}

impl Konnectors {
    /// Returns the konnectors that the operator has put into maintenance, sorted by slug.
    pub fn maintenances(&self) -> Result<Vec<Maintenance>> {
        let all = self.context.core.load_all::<Maintenance>(&InstanceId::global(), &MAINTENANCES)?;
        Ok(all.into_iter().map(|found| found.value).collect())
    }

    /// Returns the operator's maintenance of a konnector.
    pub fn maintenance(&self, slug: &Slug) -> Result<Option<Maintenance>> {
        Ok(self.context.core.load::<Maintenance>(&doc_ref(slug))?.map(|found| found.value))
    }

    /// Returns whether any instance has the konnector. Maintenance may precede its installation, but a slug that nobody
    /// has installed may also be mistyped.
    pub fn is_installed_anywhere(&self, slug: &Slug) -> Result<bool> {
        for instance in self.context.core.instances().list()? {
            match self.get(&instance, slug) {
                Ok(_) => return Ok(true),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Returns the maintenance of the konnector named in a job's message, if it applies to the instance.
    pub fn maintenance_for_job(&self, instance: &Instance, message: &Value) -> Result<Option<Maintenance>> {
        let slug = message.get("konnector").and_then(Value::as_str).and_then(|slug| slug.parse().ok());
        let slug = slug.filter(|slug| !is_exempt(instance, slug));
        slug.map_or(Ok(None), |slug| self.maintenance(&slug))
    }

    /// Puts a konnector into maintenance, on all instances; replaces its previous options.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] on a concurrent change.
    pub async fn begin_maintenance(&self, slug: &Slug, mut options: Object) -> Result<()> {
        options.insert(INFRA_MAINTENANCE_FLAG.to_owned(), Value::Bool(true));
        let body = to_object(&Maintenance { slug: slug.to_string(), options })?;
        let mut changes = Changes::new();
        let found = self.context.core.load::<Maintenance>(&doc_ref(slug))?;
        changes.upsert(doc_ref(slug), found.as_ref().map(|found| &found.rev), body);
        self.context.core.commit(changes).await?;
        Ok(())
    }

    /// Ends the maintenance of a konnector.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not in maintenance.
    pub async fn end_maintenance(&self, slug: &Slug) -> Result<()> {
        let Some(found) = self.context.core.load::<Maintenance>(&doc_ref(slug))? else {
            return Err(Error::NotFound(format!("the konnector '{slug}' is not in maintenance")));
        };
        let mut changes = Changes::new();
        changes.purge(doc_ref(slug), &found.rev);
        self.context.core.commit(changes).await?;
        Ok(())
    }
}
