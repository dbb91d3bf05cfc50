//! Konnectors: installed programs with their manifest and permissions.

mod bundle;
mod fetch;
mod install;

use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use konnector_manifest::{Manifest, Slug, Source};
use konnector_store::{BlobId, Changes, ContentLink, DocRef, Links};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use konnector_sandbox::Cut;

pub use install::{InstallEvent, InstallRequest, Installing, UpdateRequest};

use crate::doctype::{ACCOUNTS, KONNECTORS};
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Object, Stored};
use crate::{Error, Platform, Result};

/// Where an installed konnector is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KonnectorState {
    /// Being installed; never stored.
    Installing,
    /// Being updated; never stored.
    Upgrading,
    /// Can run.
    Ready,
    /// Could not be installed or updated; never stored.
    Errored,
}

/// An installed konnector: the manifest as its author wrote it, with what the platform adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Konnector {
    /// Its name in URLs.
    pub slug: Slug,
    /// Where it is on its way.
    pub state: KonnectorState,
    /// Where it came from.
    pub source: String,
    /// Version that is installed.
    pub version: String,
    /// Version that waits for the user's consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_version: Option<String>,
    /// SHA-256 of the component, hexadecimal.
    pub checksum: String,
    /// When it was installed.
    pub created_at: DateTime<Utc>,
    /// When it was last updated.
    pub updated_at: DateTime<Utc>,
    /// Why it could not be installed; only in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it can read the account's passwords: it imports `reveal`.
    #[serde(default)]
    pub reads_secrets: bool,
    /// The component's bytes.
    #[serde(rename = "_component")]
    pub component: Option<BlobId>,
    /// The icon's bytes.
    #[serde(rename = "_icon", default, skip_serializing_if = "Option::is_none")]
    pub icon_content: Option<BlobId>,
    /// All other members of the manifest, as written.
    #[serde(flatten)]
    pub members: Object,
}

/// Members of a manifest that the platform sets.
const MANAGED: [&str; 11] = [
    "slug",
    "state",
    "source",
    "version",
    "available_version",
    "checksum",
    "created_at",
    "updated_at",
    "error",
    "reads_secrets",
    LIMITS_CUT,
];

/// What the API adds to a konnector that asks for more than the operator lets it use.
pub const LIMITS_CUT: &str = "limits_cut";

impl Konnector {
    /// The manifest, read again from what is stored.
    ///
    /// # Errors
    ///
    /// Cannot happen for what was installed by this version.
    pub fn manifest(&self) -> Result<Manifest> {
        let mut members = self.members.clone();
        members.insert("version".to_owned(), json!(self.version));
        members.insert("slug".to_owned(), json!(self.slug));
        let text = serde_json::to_vec(&members)
            .map_err(|error| Error::Stored { document: self.doc_id(), message: error.to_string() })?;
        Ok(Manifest::parse(&text)?)
    }

    /// Its id among documents.
    #[must_use]
    pub fn doc_id(&self) -> String {
        doc_id(&self.slug)
    }
}

/// The id of a konnector's document.
fn doc_id(slug: &Slug) -> String {
    format!("io.cozy.konnectors/{slug}")
}

fn at(instance: &Instance, slug: &Slug) -> DocRef {
    instance.doc(&KONNECTORS, doc_id(slug))
}

fn not_installed(slug: &Slug) -> Error {
    Error::NotFound(format!("Application is not installed: there is no konnector '{slug}'"))
}

/// What became of a request to delete a konnector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Now,
    /// It had accounts: they are deleted first, then it goes.
    AfterItsAccounts,
}

impl Konnector {
    /// What the document of a konnector refers to.
    pub(crate) fn links(&self) -> Links {
        let component =
            self.component.map(|blob| ContentLink { blob, size: None, sha256: Some(self.checksum.clone()) });
        let icon = self.icon_content.map(|blob| ContentLink { blob, size: None, sha256: None });
        Links { contents: component.into_iter().chain(icon).collect(), unique: Vec::new() }
    }
}

impl Platform {
    /// An installed konnector.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is not installed.
    pub fn konnector(&self, instance: &Instance, slug: &Slug) -> Result<Konnector> {
        Ok(self.stored_konnector(instance, slug)?.value)
    }

    /// An installed konnector with its revision.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is not installed.
    pub fn stored_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Stored<Konnector>> {
        self.stored(&at(instance, slug))?.ok_or_else(|| not_installed(slug))
    }

    /// Where the runs of a konnector get less than its manifest asks for.
    ///
    /// # Errors
    ///
    /// When its manifest cannot be read.
    pub fn limits_cut(&self, konnector: &Konnector) -> Result<Vec<Cut>> {
        Ok(self.config.limits.cuts(&konnector.manifest()?.limits))
    }

    /// All installed konnectors, by slug.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn konnectors(&self, instance: &Instance) -> Result<Vec<Konnector>> {
        Ok(self.all::<Konnector>(&instance.id, &KONNECTORS)?.into_iter().map(|found| found.value).collect())
    }

    /// The icon of a konnector and its media type.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is not installed or has none.
    pub async fn konnector_icon(&self, instance: &Instance, slug: &Slug) -> Result<(Vec<u8>, String)> {
        let konnector = self.konnector(instance, slug)?;
        let none = || Error::NotFound(format!("the konnector '{slug}' has no icon"));
        let blob = konnector.icon_content.as_ref().ok_or_else(none)?;
        let name = konnector.members.get("icon").and_then(Value::as_str).ok_or_else(none)?;
        let mime = mime_guess::from_path(name).first_or_octet_stream().to_string();
        Ok((self.read_blob(blob).await?, mime))
    }

    /// All bytes of a blob that is known to be small.
    pub(crate) async fn read_blob(&self, blob: &BlobId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.store.blobs().open(blob).await?;
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.map_err(Error::io("reading a blob"))?;
        Ok(bytes)
    }

    /// Uninstalls a konnector. Where accounts use it, they and their triggers are deleted first, in the background.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is not installed.
    pub async fn delete_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Deleted> {
        self.konnector(instance, slug)?;
        let mut accounts = Vec::new();
        for trigger in self.triggers(instance)?.into_iter().filter(|trigger| trigger.runs(slug.as_ref(), None)) {
            if let Some(account) = trigger.account()
                && self.account(instance, account).is_ok()
            {
                accounts.push(account.to_owned());
            }
        }
        if accounts.is_empty() {
            self.uninstall(instance, slug).await?;
            return Ok(Deleted::Now);
        }
        let (platform, instance, slug) = (self.clone(), instance.clone(), slug.clone());
        self.tasks().spawn(async move {
            if let Err(error) = platform.clean_and_uninstall(&instance, &slug, &accounts).await {
                tracing::error!(%slug, %error, "the konnector stays installed: its accounts could not be cleaned");
            }
        });
        Ok(Deleted::AfterItsAccounts)
    }

    async fn clean_and_uninstall(&self, instance: &Instance, slug: &Slug, accounts: &[String]) -> Result<()> {
        for id in accounts {
            self.delete_triggers_of_account(instance, id).await?;
            let Ok(account) = self.account(instance, id) else { continue };
            let at = instance.doc(&ACCOUNTS, id.as_str());
            let mut changes = Changes::new();
            changes.delete(at.clone(), &account.rev);
            self.commit(changes).await?;
            self.publish(&at, Happened::Deleted, account.body);
        }
        self.uninstall(instance, slug).await
    }

    async fn uninstall(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let found = self.stored_konnector(instance, slug)?;
        for trigger in self.triggers(instance)?.into_iter().filter(|trigger| trigger.runs(slug.as_ref(), None)) {
            self.delete_trigger(instance, &trigger.id).await?;
        }
        let at = at(instance, slug);
        let mut changes = Changes::new();
        changes.delete(at.clone(), &found.rev);
        self.stage_no_permissions(instance, slug, &mut changes)?;
        self.commit(changes).await?;
        for blob in found.value.component.iter().chain(&found.value.icon_content) {
            self.store.blobs().remove(blob).await?;
        }
        self.publish(&at, Happened::Deleted, crate::stored::object(&found.value)?);
        Ok(())
    }

    /// Where a konnector was installed from.
    fn installed_source(konnector: &Konnector) -> Result<Source> {
        Ok(Source::from_str(&konnector.source)?)
    }
}
