//! Konnectors: installed programs with their manifest and permissions.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

mod archive;
mod bundle;
mod bundle_directory;
mod confined_dir;
mod consent;
mod download;
mod fetch;
mod git;
mod gzip;
mod install;
pub mod maintenance;
mod oci;
mod program;
mod registry;
mod update;

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use konnector_manifest::{Manifest, Slug, Source};
use konnector_store::{BlobId, BlobLink, DocRef, Links};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

pub use konnector_sandbox::ClampedLimit;

pub use archive::pack;
pub use bundle::Bundle;
pub use bundle_directory::{App, BundleDirectory, PublishedVersion, SkippedEntry};
pub use confined_dir::ConfinedDir;
use fetch::install_pool;
pub use install::{InstallEvent, InstallProgress, InstallRequest};
use registry::RegistryCache;
pub use registry::{RegistryPage, RegistryResponse, RegistryVersion};
pub use update::UpdateRequest;
use update::UpdatesInProgress;

use konnector_auth::{AuthContext, AuthState, PermissionSets};
use konnector_documents::doctype::KONNECTORS;
use konnector_documents::instance::Instance;
use konnector_documents::offload::Offload;
use konnector_documents::stored::{Object, Stored};
use konnector_documents::{Core, handles};
pub use konnector_documents::{Error, Result};
use konnector_egress::Gate;
use konnector_sandbox::{LimitPolicy, Sandbox};
use ref_cast::RefCast;

/// Settings of the operator about konnectors.
#[derive(Debug, Clone)]
pub struct PackageSettings {
    /// Directory of compiled components; may be emptied at any time.
    pub cache_dir: PathBuf,
    /// Resource limits of runs.
    pub run_limits: LimitPolicy,
    /// Registries in which konnectors are looked up, in this order.
    pub registries: Vec<Url>,
    /// Installs updates that request more permissions without asking the user.
    pub permissions_skip_verification: bool,
    /// The program that reaches repositories over SSH.
    pub ssh_program: PathBuf,
}

/// State of this layer, shared by all its contexts.
pub struct PackageState {
    settings: PackageSettings,
    sandbox: Arc<Sandbox>,
    gate: Gate,
    auth: Arc<AuthState>,
    registry_cache: RegistryCache,
    refreshing_konnectors: UpdatesInProgress,
    /// Pool that reads the sources of konnectors.
    source_offload: Offload,
}

impl PackageState {
    /// Creates the state.
    #[must_use]
    pub fn new(settings: PackageSettings, sandbox: Arc<Sandbox>, gate: Gate, auth: Arc<AuthState>) -> Self {
        Self {
            settings,
            sandbox,
            gate,
            auth,
            registry_cache: RegistryCache::default(),
            refreshing_konnectors: UpdatesInProgress::default(),
            source_offload: install_pool(),
        }
    }
}

/// What the handles of this layer work with. Cheap to clone.
#[derive(Clone)]
pub struct PackageContext {
    core: Core,
    auth: AuthContext,
    state: Arc<PackageState>,
}

impl PackageContext {
    /// Creates a context over a core.
    #[must_use]
    pub fn new(core: Core, state: Arc<PackageState>) -> Self {
        Self { auth: AuthContext::new(core.clone(), Arc::clone(&state.auth)), core, state }
    }

    fn permissions(&self) -> &PermissionSets {
        self.auth.permissions()
    }
}

handles! {
    PackageContext, context;
    /// Installed konnectors: install, update, maintenance.
    konnectors: Konnectors;
    /// Registries in which konnectors are looked up.
    registries: Registries;
}

/// State of an installed konnector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KonnectorState {
    /// Being installed; never stored.
    Installing,
    /// Being updated; never stored.
    Upgrading,
    /// Can run, but has not run yet.
    Installed,
    /// Can run.
    Ready,
    /// Could not be installed or updated; never stored.
    Errored,
}

/// An installed konnector: the manifest as its author wrote it, plus the platform's fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Konnector {
    /// Slug, which is its name in URLs.
    pub slug: Slug,
    /// State of the installation.
    pub state: KonnectorState,
    /// Source from which it was installed.
    pub source: String,
    /// Installed version.
    pub version: String,
    /// Version that waits for the user's consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_version: Option<String>,
    /// Additions of that version over the installed one, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub available_changes: Vec<String>,
    /// Additions over the previous version that this update accepted, a sentence each; only in its events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_changes: Vec<String>,
    /// SHA-256 of the component, hexadecimal.
    pub checksum: String,
    /// Installation time.
    pub created_at: DateTime<Utc>,
    /// Time of the last update.
    pub updated_at: DateTime<Utc>,
    /// Error message of a failed installation; only in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the program sees the account's passwords in plain text.
    #[serde(default)]
    pub reads_secrets: bool,
    /// Blob of the component.
    #[serde(rename = "_component")]
    pub component: Option<BlobId>,
    /// Size of the component in bytes; `None` if an older version installed it.
    #[serde(rename = "_component_size", default, skip_serializing_if = "Option::is_none")]
    pub component_size: Option<u64>,
    /// Blob of the icon.
    #[serde(rename = "_icon", default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<BlobId>,
    /// SHA-256 of the icon, hexadecimal.
    #[serde(rename = "_icon_checksum", default, skip_serializing_if = "Option::is_none")]
    pub icon_checksum: Option<String>,
    /// All other fields of the manifest, as written.
    #[serde(flatten)]
    pub manifest_fields: Object,
}

/// Fields of a manifest that the platform sets.
const MANAGED_FIELDS: [&str; 13] = [
    "slug",
    "state",
    "source",
    "version",
    "available_version",
    "available_changes",
    "accepted_changes",
    "checksum",
    "created_at",
    "updated_at",
    "error",
    "reads_secrets",
    CLAMPED_LIMITS_FIELD,
];

/// Field that the API adds to a konnector whose manifest requests more than the operator's limits.
pub const CLAMPED_LIMITS_FIELD: &str = "limits_cut";

impl Konnector {
    /// Parses the manifest from the stored fields.
    ///
    /// # Errors
    ///
    /// If the stored fields are not a valid manifest, which does not occur for konnectors that this version installed.
    pub fn manifest(&self) -> Result<Manifest> {
        let mut members = self.manifest_fields.clone();
        members.insert("version".to_owned(), json!(self.version));
        members.insert("slug".to_owned(), json!(self.slug));
        let text = serde_json::to_vec(&members)
            .map_err(|error| Error::CorruptDocument { document: self.doc_id(), message: error.to_string() })?;
        Ok(Manifest::parse(&text)?)
    }

    /// Returns the id of the konnector's document.
    #[must_use]
    pub fn doc_id(&self) -> String {
        doc_id(&self.slug)
    }
}

/// Download of a konnector's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Download {
    /// URL of the archive.
    Redirect(Url),
    /// Bytes of the archive.
    Archive(Vec<u8>),
}

/// Returns the id of a konnector's document.
#[must_use]
pub fn doc_id(slug: &Slug) -> String {
    format!("io.cozy.konnectors/{slug}")
}

pub fn doc_ref(instance: &Instance, slug: &Slug) -> DocRef {
    instance.doc(&KONNECTORS, doc_id(slug))
}

fn not_installed(slug: &Slug) -> Error {
    Error::NotFound(format!("Application is not installed: there is no konnector '{slug}'"))
}

impl Konnector {
    /// Returns the links of a konnector's document.
    pub fn links(&self) -> Links {
        Links { blobs: self.component_link().into_iter().chain(self.icon_link()).collect(), unique_keys: Vec::new() }
    }

    /// Returns the blobs of the component and the icon.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> + Send + use<> {
        self.component.into_iter().chain(self.icon)
    }

    /// Returns the link to the component.
    pub(crate) fn component_link(&self) -> Option<BlobLink> {
        self.component.map(|blob| BlobLink { blob, size: self.component_size, sha256: Some(self.checksum.clone()) })
    }

    /// Returns the link to the icon.
    fn icon_link(&self) -> Option<BlobLink> {
        self.icon.map(|blob| BlobLink { blob, size: None, sha256: self.icon_checksum.clone() })
    }
}

impl Konnectors {
    /// Returns an installed konnector.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not installed.
    pub fn get(&self, instance: &Instance, slug: &Slug) -> Result<Konnector> {
        Ok(self.get_stored(instance, slug)?.value)
    }

    /// Returns an installed konnector with its revision.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not installed.
    pub fn get_stored(&self, instance: &Instance, slug: &Slug) -> Result<Stored<Konnector>> {
        self.context.core.load(&doc_ref(instance, slug))?.ok_or_else(|| not_installed(slug))
    }

    /// Returns the limits that the operator lowers below the manifest's request.
    ///
    /// # Errors
    ///
    /// If the manifest cannot be read.
    pub fn clamped_limits(&self, konnector: &Konnector) -> Result<Vec<ClampedLimit>> {
        Ok(self.context.state.settings.run_limits.clamped_limits(&konnector.manifest()?.limits))
    }

    /// Returns all installed konnectors, sorted by slug.
    pub fn list(&self, instance: &Instance) -> Result<Vec<Konnector>> {
        Ok(self.list_stored(instance)?.into_iter().map(|found| found.value).collect())
    }

    /// Like [`Konnectors::list`], with revisions.
    pub fn list_stored(&self, instance: &Instance) -> Result<Vec<Stored<Konnector>>> {
        self.context.core.load_all(&instance.id, &KONNECTORS)
    }

    /// Returns the icon of a konnector and its media type.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the konnector is not installed or has no icon.
    pub async fn icon(&self, instance: &Instance, slug: &Slug) -> Result<(Vec<u8>, String)> {
        let konnector = self.get(instance, slug)?;
        let none = || Error::NotFound(format!("the konnector '{slug}' has no icon"));
        let icon = konnector.icon_link().ok_or_else(none)?;
        let name = konnector.manifest_fields.get("icon").and_then(Value::as_str).ok_or_else(none)?;
        Ok((self.context.core.store().read_blob(&icon).await?, konnector_media_type::from_name(name).to_owned()))
    }

    /// Returns the program of a konnector as installed: a redirect if it came from a registry, else an archive of the
    /// stored parts.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] if its registry does not respond.
    pub async fn bundle(&self, konnector: &Konnector) -> Result<Download> {
        if let Source::Registry { name, channel, .. } = Self::installed_source(konnector)? {
            return Ok(Download::Redirect(
                self.context.registries().resolve_version(&name, &channel, Some(&konnector.version)).await?.url,
            ));
        }
        let component = konnector.component_link().ok_or_else(|| not_installed(&konnector.slug))?;
        let icon = match &konnector.icon_link() {
            Some(icon) => Some(self.context.core.store().read_blob(icon).await?),
            None => None,
        };
        let bundle = Bundle {
            manifest: konnector.manifest()?,
            component: self.context.core.store().read_blob(&component).await?,
            icon,
        };
        self.run_install_task(move || bundle.to_archive()).await.map(Download::Archive)
    }

    /// Reads a blob that is known to be small and whose checksum is not stored.
    pub async fn read_blob(&self, blob: &BlobId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.context.core.store().blobs().open(blob).await?;
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.map_err(Error::io("reading a blob"))?;
        Ok(bytes)
    }

    /// Returns a konnector that is about to run. The first run changes a konnector that was installed deactivated to
    /// ready.
    pub async fn activate(&self, instance: &Instance, slug: &Slug) -> Result<Konnector> {
        let konnector = self.get(instance, slug)?;
        if konnector.state != KonnectorState::Installed {
            return Ok(konnector);
        }
        let promoted = self
            .context
            .core
            .modify::<Konnector, _>(&doc_ref(instance, slug), |konnector, _| {
                konnector.state = KonnectorState::Ready;
                Ok(true)
            })
            .await?;
        promoted.ok_or_else(|| not_installed(slug))
    }

    /// Parses the source from which a konnector was installed.
    fn installed_source(konnector: &Konnector) -> Result<Source> {
        Ok(Source::from_str(&konnector.source)?)
    }
}
