//! Gets a bundle from where a source says.

use konnector_manifest::Source;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Konnector;
use super::bundle::Bundle;
use crate::{Error, Platform, Result};

/// A bundle and what it is installed as.
pub(super) struct Fetched {
    pub(super) bundle: Bundle,
    /// The manifest's version; with that of the commit where the source is a repository.
    pub(super) version: String,
}

impl From<Bundle> for Fetched {
    fn from(bundle: Bundle) -> Self {
        Self { version: bundle.manifest.version.clone(), bundle }
    }
}

impl Platform {
    /// The bundle of a source.
    pub(super) async fn fetch(&self, source: &Source) -> Result<Fetched> {
        match source {
            Source::File(folder) => {
                let folder = folder.clone();
                blocking(move || Bundle::from_folder(&folder)).await.map(Fetched::from)
            }
            Source::Http { url, sha256 } => self.fetch_archive(url, sha256.as_ref()).await,
            Source::Registry { name, channel, version } => {
                let found = self.look_up(name, channel, version.as_deref()).await?;
                self.fetch_archive(&found.url, Some(&found.sha256)).await
            }
            Source::Git { transport, url, branch } => self.fetch_repository(*transport, url, branch.as_deref()).await,
            Source::Oci { registry, repository, reference } => {
                self.fetch_artifact(registry, repository, reference).await
            }
        }
    }

    /// The bundle of a source for an update; `None` where it is what is installed. Repositories and folders are always read anew
    /// (cozy-stack, update rules).
    pub(super) async fn fetch_newer(&self, source: &Source, installed: &Konnector) -> Result<Option<Fetched>> {
        let fetched = match source {
            Source::Registry { name, channel, version } => {
                let found = self.look_up(name, channel, version.as_deref()).await?;
                if found.version == installed.version {
                    return Ok(None);
                }
                self.fetch_archive(&found.url, Some(&found.sha256)).await?
            }
            Source::Http { .. } | Source::Oci { .. } => {
                let fetched = self.fetch(source).await?;
                let component = hex::encode(Sha256::digest(&fetched.bundle.component));
                if (&fetched.version, &component) == (&installed.version, &installed.checksum) {
                    return Ok(None);
                }
                fetched
            }
            Source::File(_) | Source::Git { .. } => self.fetch(source).await?,
        };
        Ok(Some(fetched))
    }

    async fn fetch_archive(&self, url: &Url, sha256: Option<&[u8; 32]>) -> Result<Fetched> {
        let bytes = self.download(url).await?;
        if let Some(expected) = sha256 {
            let found = Sha256::digest(&bytes);
            if found.as_slice() != expected {
                return Err(Error::Unreachable(format!(
                    "the archive behind {url} has the SHA-256 {}, but the source names {}; it was changed or tampered with",
                    hex::encode(found),
                    hex::encode(expected)
                )));
            }
        }
        blocking(move || Bundle::from_archive(&bytes)).await.map(Fetched::from)
    }
}

/// Work that would hold up others.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unreachable(format!("reading the bundle failed: {error}"))),
    }
}
