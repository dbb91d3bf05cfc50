//! Settings of an instance, set at its creation and later.

use konnector_store::InstanceId;
use serde_json::Value;

use super::{DOMAINS, Instance, check_aliases, doc_ref};
use crate::handles::Instances;
use crate::stored::Object;
use crate::{Error, Result};

/// Settings of an instance. `None` leaves a setting as it is, or at its default for a new instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstancePatch {
    /// Language; `en` by default.
    pub locale: Option<String>,
    /// Time zone; UTC by default.
    pub time_zone: Option<chrono_tz::Tz>,
    /// Mail address of the owner.
    pub email: Option<String>,
    /// Name of the owner.
    pub public_name: Option<String>,
    /// Quota of the files in bytes; the server's limit by default.
    pub disk_quota: Option<u64>,
    /// Other host names, replacing the current ones.
    pub aliases: Option<Vec<String>>,
    /// Domain of the organisation that the instance belongs to.
    pub org_domain: Option<String>,
    /// Id of the organisation that the instance belongs to.
    pub org_id: Option<String>,
    /// Names of feature sets, replacing the current ones.
    pub feature_sets: Option<Vec<String>>,
}

fn set_if_some<T: Clone>(own: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        own.clone_from(new);
    }
}

impl InstancePatch {
    /// Sets everything except the aliases, which must be checked first.
    pub(super) fn apply(&self, own: &mut Instance) {
        set_if_some(&mut own.locale, self.locale.as_ref());
        set_if_some(&mut own.tz, self.time_zone.as_ref());
        own.email = self.email.clone().or_else(|| own.email.take());
        own.public_name = self.public_name.clone().or_else(|| own.public_name.take());
        own.disk_quota = self.disk_quota.or(own.disk_quota);
        own.org_domain = self.org_domain.clone().or_else(|| own.org_domain.take());
        own.org_id = self.org_id.clone().or_else(|| own.org_id.take());
        set_if_some(&mut own.feature_sets, self.feature_sets.as_ref());
    }
}

impl Instances {
    /// Changes an instance. A new time zone applies to schedules when they are planned next.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if an alias is not a host name, [`Error::Conflict`] if another instance has it,
    /// [`Error::NotFound`] if the instance was deleted.
    pub async fn update(&self, instance: &Instance, patch: &InstancePatch) -> Result<Instance> {
        let aliases = patch.aliases.as_ref().map(|names| check_aliases(names, &instance.domain)).transpose()?;
        let at = doc_ref(instance.id.as_str());
        let changed = self
            .core
            .modify::<Instance, _>(&at, |own, changes| {
                patch.apply(own);
                if let Some(aliases) = &aliases {
                    for gone in own.domain_aliases.iter().filter(|own| !aliases.contains(own)) {
                        changes.remove_unique(&InstanceId::global(), DOMAINS, gone);
                    }
                    for new in aliases.iter().filter(|new| !own.domain_aliases.contains(new)) {
                        changes.put_unique(&InstanceId::global(), DOMAINS, new, instance.id.as_str());
                    }
                    own.domain_aliases.clone_from(aliases);
                }
                Ok(true)
            })
            .await;
        match changed {
            Err(error) if error.is_conflict() && aliases.is_some() => {
                let names = aliases.as_deref().unwrap_or_default().join(", ");
                Err(Error::Conflict(format!("another instance already has one of the domain aliases {names}")))
            }
            changed => require_found(instance, changed?),
        }
    }

    /// Sets feature flags, and removes those that are null; returns all flags.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the instance was deleted.
    pub async fn update_feature_flags(&self, instance: &Instance, patch: &Object) -> Result<Object> {
        let at = doc_ref(instance.id.as_str());
        let changed = self
            .core
            .modify::<Instance, _>(&at, |own, _| {
                own.feature_flags.extend(patch.clone());
                own.feature_flags.retain(|_, value| *value != Value::Null);
                Ok(true)
            })
            .await?;
        Ok(require_found(instance, changed)?.feature_flags)
    }
}

fn require_found(instance: &Instance, changed: Option<Instance>) -> Result<Instance> {
    let changed = changed.ok_or_else(|| Error::NotFound("the instance was deleted".to_owned()))?;
    Ok(Instance { id: instance.id.clone(), ..changed })
}
