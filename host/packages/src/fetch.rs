//! Fetches a bundle from its source.

use std::time::Duration;

use konnector_manifest::Source;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Konnector;
use super::bundle::Bundle;
use crate::Konnectors;
use crate::{Error, Result};
use konnector_documents::offload::Offload;

/// Maximum number of bundles read at the same time, because each may take a few hundred MiB of memory while it is
/// unpacked and checked.
const MAX_INSTALL_TASKS: usize = 4;
/// Maximum number of requests that wait for one of them to end; people install one konnector at a time.
const MAX_QUEUED_INSTALL_TASKS: usize = 64;
/// Timeout for reading a bundle, from a disk or a network (cozy-stack, sources: 30 s).
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A bundle and the version under which it is installed.
pub(super) struct FetchedBundle {
    pub(super) bundle: Bundle,
    /// The manifest's version; for a repository, with the commit.
    pub(super) version: String,
}

impl From<Bundle> for FetchedBundle {
    fn from(bundle: Bundle) -> Self {
        Self { version: bundle.manifest.version.clone(), bundle }
    }
}

impl Konnectors {
    /// Fetches the bundle of a source.
    pub(super) async fn fetch_bundle(&self, source: &Source) -> Result<FetchedBundle> {
        match source {
            Source::File(folder) => {
                let folder = folder.clone();
                self.run_install_task(move || Bundle::from_folder(&folder)).await.map(FetchedBundle::from)
            }
            Source::Http { url, sha256 } => self.fetch_archive(url, sha256.as_ref()).await,
            Source::Registry { name, channel, version } => {
                let found = self.context.registries().resolve_version(name, channel, version.as_deref()).await?;
                self.fetch_archive(&found.url, Some(&found.sha256)).await
            }
            Source::Git { transport, url, branch } => self.fetch_repository(*transport, url, branch.as_deref()).await,
            Source::Oci { registry, repository, reference } => {
                self.fetch_artifact(registry, repository, reference).await
            }
        }
    }

    /// Fetches the bundle of a source for an update; `None` if it is already installed. Repositories and folders are
    /// always read again (cozy-stack, update rules).
    pub(super) async fn fetch_if_changed(
        &self,
        source: &Source,
        installed: &Konnector,
    ) -> Result<Option<FetchedBundle>> {
        let fetched = match source {
            Source::Registry { name, channel, version } => {
                let found = self.context.registries().resolve_version(name, channel, version.as_deref()).await?;
                if found.version == installed.version {
                    return Ok(None);
                }
                self.fetch_archive(&found.url, Some(&found.sha256)).await?
            }
            Source::Http { .. } | Source::Oci { .. } => {
                let fetched = self.fetch_bundle(source).await?;
                let component = hex::encode(Sha256::digest(&fetched.bundle.component));
                if (&fetched.version, &component) == (&installed.version, &installed.checksum) {
                    return Ok(None);
                }
                fetched
            }
            Source::File(_) | Source::Git { .. } => self.fetch_bundle(source).await?,
        };
        Ok(Some(fetched))
    }

    async fn fetch_archive(&self, url: &Url, sha256: Option<&[u8; 32]>) -> Result<FetchedBundle> {
        let bytes = self.download(url).await?;
        let (url, sha256) = (url.clone(), sha256.copied());
        let read = move || {
            let found: [u8; 32] = Sha256::digest(&bytes).into();
            match sha256.filter(|expected| *expected != found) {
                None => Bundle::from_archive(&bytes),
                Some(expected) => Err(Error::Unreachable(format!(
                    "the archive at {url} has the SHA-256 {}, but the source specifies {}; \
                     it was changed or tampered with",
                    hex::encode(found),
                    hex::encode(expected)
                ))),
            }
        };
        self.run_install_task(read).await.map(FetchedBundle::from)
    }
}

/// Creates the thread pool for bundles.
pub(crate) fn install_pool() -> Offload {
    Offload::new("installations", MAX_INSTALL_TASKS, MAX_QUEUED_INSTALL_TASKS, READ_TIMEOUT)
}

impl Konnectors {
    /// Runs blocking work on a bundle. It is abandoned after a timeout, because a folder may be on a remote disk that
    /// does not respond. Its thread then stays blocked and is not available to others.
    pub(super) async fn run_install_task<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::time::timeout(READ_TIMEOUT, self.context.state.source_offload.run(work)).await {
            Ok(done) => done,
            Err(_) => Err(Error::Unreachable(format!(
                "the source could not be read within {} s; try again, or copy it to a local disk",
                READ_TIMEOUT.as_secs()
            ))),
        }
    }
}
