//! Instances, each of which is one person's space, reached under a domain.

mod update;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use konnector_manifest::Doctype;
use konnector_store::{Changes, DocRef, DocumentStamp, InstanceId, Links};
use serde::{Deserialize, Serialize};

use crate::doctype::{FILES, INSTANCES};
use crate::handles::Instances;
use crate::revalidating_cache::RevalidatingCache;
use crate::stored::{Object, Stored, to_object};
use crate::{Error, Result};

pub use update::InstancePatch;

/// Maximum length of a host in bytes: a DNS name has at most 253, and a port may follow.
const MAX_HOST_SIZE: usize = 259;

/// Index from a domain or alias to the instance's id.
const DOMAINS: &str = "instances.domains";
/// Number of hosts whose instances are cached, the most recently used ones.
const INSTANCE_CACHE_SIZE: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// The indexes of instances.
pub const INDEXES: [&str; 1] = [DOMAINS];

/// Cache of instances by host, with their ids and the stamps of their documents.
#[derive(Debug)]
pub struct InstanceCache(RevalidatingCache<String, (String, DocumentStamp), Instance>);

impl Default for InstanceCache {
    fn default() -> Self {
        Self(RevalidatingCache::new(INSTANCE_CACHE_SIZE))
    }
}

/// Returns the reference to the document of an instance.
pub fn doc_ref(id: &str) -> DocRef {
    DocRef::new(&InstanceId::global(), &INSTANCES, id)
}

/// Makes a commit that creates documents or writes files require its instance. This way, a concurrent removal of the
/// instance leaves no data.
pub fn stage_instance_requirement(changes: &mut Changes) {
    let brings = changes.document_writes().filter(|written| {
        let is_new = written.previous_rev.is_none() || written.document.doctype == *FILES;
        is_new && written.body.is_some() && !written.document.instance.is_global()
    });
    let instances: BTreeSet<String> = brings.map(|written| written.document.instance.as_str().to_owned()).collect();
    for instance in instances {
        changes.require(doc_ref(&instance));
    }
}

/// Maps the error of a commit whose instance was deleted.
pub fn map_missing_instance(error: Error) -> Error {
    match error {
        Error::Store(konnector_store::Error::NotFound { document }) if document.doctype == *INSTANCES => {
            Error::NotFound("the instance was removed".to_owned())
        }
        other => other,
    }
}

/// A person's space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// Document id, and prefix of all data of the instance.
    #[serde(skip)]
    pub id: InstanceId,
    /// Host name, with the port unless it is the scheme's default.
    pub domain: String,
    /// Further host names of the instance.
    #[serde(default)]
    pub domain_aliases: Vec<String>,
    /// Two-letter language code.
    pub locale: String,
    /// IANA time zone.
    #[serde(default = "utc")]
    pub tz: chrono_tz::Tz,
    /// Mail address of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Name of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_name: Option<String>,
    /// Name of the operator's set of settings.
    #[serde(default = "default_context")]
    pub context: String,
    /// Whether the owner has set up the instance.
    pub onboarding_finished: bool,
    /// Quota of the files in bytes; the server's default if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_quota: Option<u64>,
    /// Domain of the organisation that the instance belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_domain: Option<String>,
    /// Id of the organisation that the instance belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Names of feature sets that the operator assigned; only the operator knows their contents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_sets: Vec<String>,
    /// Feature flags by name, which clients read.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub feature_flags: Object,
    /// Time of creation.
    pub created_at: DateTime<Utc>,
}

const fn utc() -> chrono_tz::Tz {
    chrono_tz::Tz::UTC
}

fn default_context() -> String {
    "default".to_owned()
}

impl Instance {
    /// Returns the links of an instance's document.
    pub fn links(&self) -> Links {
        let names = std::iter::once(&self.domain).chain(&self.domain_aliases);
        Links { blobs: Vec::new(), unique_keys: names.map(|name| (DOMAINS, name.clone())).collect() }
    }

    /// Releases the host names of an instance, with its deletion.
    pub fn stage_release_of_domains(&self, changes: &mut Changes) {
        for name in std::iter::once(&self.domain).chain(&self.domain_aliases) {
            changes.remove_unique(&InstanceId::global(), DOMAINS, name);
        }
    }

    /// Parses the document of an instance.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptDocument`] if it is not the document of an instance.
    pub fn from_body(id: &str, body: Object) -> Result<Self> {
        let corrupt = |message: String| Error::CorruptDocument { document: format!("{}/{id}", *INSTANCES), message };
        let parsed: Self = serde_json::from_value(body.into()).map_err(|error| corrupt(error.to_string()))?;
        let id = id.parse().map_err(|_| corrupt("its id is not a valid instance id".to_owned()))?;
        Ok(Self { id, ..parsed })
    }

    /// Returns the reference to a document of this instance.
    #[must_use]
    pub fn doc(&self, doctype: &Doctype, id: impl Into<String>) -> DocRef {
        DocRef::new(&self.id, doctype, id)
    }
}

/// Parses the name of a time zone.
///
/// # Errors
///
/// [`Error::InvalidParameter`] with the parameter's name, if it is not a time zone.
pub fn parse_time_zone(name: &str, parameter: &'static str) -> Result<chrono_tz::Tz> {
    name.parse().map_err(|_| Error::InvalidParameter {
        name: parameter,
        message: format!("the time zone '{name}' is unknown; use an IANA name, for example Europe/Paris"),
    })
}

fn check_domain(domain: &str) -> Result<String> {
    let domain = domain.to_ascii_lowercase();
    let (host, port) = domain.split_once(':').unwrap_or((&domain, ""));
    let labels = host.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
    });
    if labels && host.len() <= 253 && (port.is_empty() || port.parse::<u16>().is_ok()) {
        return Ok(domain);
    }
    Err(Error::InvalidParameter {
        name: "domain",
        message: format!(
            "the domain '{domain}' is not a host name; use for example alice.example.com or localhost:8080"
        ),
    })
}

/// Returns each alias once, without the domain itself.
fn check_aliases(aliases: &[String], domain: &str) -> Result<Vec<String>> {
    let mut checked = Vec::new();
    for alias in aliases {
        let alias = check_domain(alias)?;
        if alias != domain && !checked.contains(&alias) {
            checked.push(alias);
        }
    }
    Ok(checked)
}

impl Instances {
    /// Creates an instance. The host name includes a port if clients use one.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the domain or an alias is taken, [`Error::InvalidParameter`] if one is not a host name.
    pub async fn create(&self, domain: &str, given: &InstancePatch) -> Result<Instance> {
        let domain = check_domain(domain)?;
        let mut instance = Instance {
            id: InstanceId::new(),
            domain_aliases: check_aliases(given.aliases.as_deref().unwrap_or_default(), &domain)?,
            domain,
            locale: "en".to_owned(),
            tz: utc(),
            email: None,
            public_name: None,
            context: default_context(),
            onboarding_finished: true,
            disk_quota: None,
            org_domain: None,
            org_id: None,
            feature_sets: Vec::new(),
            feature_flags: Object::new(),
            created_at: self.core.clock().now(),
        };
        given.apply(&mut instance);
        let mut changes = Changes::new();
        changes.create(doc_ref(instance.id.as_str()), to_object(&instance)?);
        for name in std::iter::once(&instance.domain).chain(&instance.domain_aliases) {
            changes.put_unique(&InstanceId::global(), DOMAINS, name, instance.id.as_str());
        }
        match self.core.commit(changes).await {
            Ok(_) => Ok(instance),
            Err(error) if error.is_conflict() => {
                let mut names = std::iter::once(&instance.domain).chain(&instance.domain_aliases);
                let taken = names.find(|name| self.get(name).is_ok()).unwrap_or(&instance.domain);
                Err(Error::Conflict(format!("the domain '{taken}' already belongs to an instance; choose another one")))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the instance with a host name (with port), or with the host name alone if no instance names the port.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no instance has this host name.
    pub fn get(&self, host: &str) -> Result<Arc<Instance>> {
        if host.len() > MAX_HOST_SIZE {
            return Err(Error::NotFound(format!("no instance has a domain that is {} bytes long", host.len())));
        }
        let look = || -> Result<Option<(String, DocumentStamp)>> {
            let Some(id) = self.resolve_host(&host.to_ascii_lowercase())? else { return Ok(None) };
            Ok(self.core.store().stamp(&doc_ref(&id))?.map(|stamp| (id, stamp)))
        };
        let found = self
            .core
            .instance_cache()
            .0
            .get(self.core.store().write_count(), host, look, |(id, _)| self.get_by_id(id))?;
        found.ok_or_else(|| Error::NotFound(format!("no instance has the domain '{}'", host.to_ascii_lowercase())))
    }

    fn resolve_host(&self, host: &str) -> Result<Option<String>> {
        let lookup = |name| self.core.store().lookup(&InstanceId::global(), DOMAINS, name);
        Ok(match (lookup(host)?, host.rsplit_once(':')) {
            (None, Some((name, _))) => lookup(name)?,
            (found, _) => found,
        })
    }

    /// Returns the instance with an id.
    pub fn get_by_id(&self, id: &str) -> Result<Instance> {
        let found = self.core.load::<Instance>(&doc_ref(id))?.map(with_id).transpose()?;
        found.ok_or_else(|| Error::NotFound(format!("no instance has the id '{id}'")))
    }

    /// Lists all instances, oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self) -> Result<Vec<Instance>> {
        self.core.load_all::<Instance>(&InstanceId::global(), &INSTANCES)?.into_iter().map(with_id).collect()
    }
}

fn with_id(stored: Stored<Instance>) -> Result<Instance> {
    let id = stored.id.parse().map_err(|_| Error::CorruptDocument {
        document: format!("{}/{}", *INSTANCES, stored.id),
        message: "its id is not a valid instance id".to_owned(),
    })?;
    Ok(Instance { id, ..stored.value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_checked_and_lowered() {
        assert_eq!(check_domain("Alice.Example.COM:8080").expect("valid"), "alice.example.com:8080");
        for bad in ["", "a..b", "-a.b", "a b", "a.b:port", "a/b", "a.b:70000"] {
            let error = check_domain(bad).expect_err(bad);
            assert!(error.to_string().contains("is not a host name"), "{error}");
        }
    }
}
