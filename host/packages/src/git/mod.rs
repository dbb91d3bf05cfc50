//! Bundles in git repositories: the newest commit of a branch, without its history. Nothing is checked out and nothing
//! in the repository is executed; the fetched objects are stored in a temporary folder until the bundle has been read.

mod http;
mod transport;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gix::bstr::ByteSlice as _;
use gix::progress::Discard;
use gix::remote::fetch::{Shallow, Tags};
use gix::{ObjectId, Repository};
use konnector_manifest::GitTransport;
use url::Url;

use super::archive::{MAX_FILE_SIZE, check_size};
use super::bundle::{Bundle, MANIFEST_FILE};
use super::fetch::FetchedBundle;
use crate::Konnectors;
use crate::{Error, Result};
use transport::GitRemote;

/// Timeout for a whole fetch (cozy-stack, sources).
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Branches that are tried in this order if the source does not name one.
const DEFAULT_BRANCHES: [&str; 2] = ["main", "master"];
/// Settings of the repository: objects larger than the maximum size of a bundle file are not decompressed, and only
/// one thread decompresses objects at the same time.
const GIT_CONFIG: [&str; 3] =
    ["gitoxide.objects.allocLimit=33554432", "pack.threads=1", "core.deltaBaseCacheLimit=33554432"];
/// Maximum size in bytes of a commit or a directory, which are small compared to the files of a bundle.
const MAX_HEADER_SIZE: u64 = 1 << 20;

/// Stops the fetch when its caller no longer waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Konnectors {
    /// Fetches the bundle in the newest commit of a branch. The commit becomes a part of its version.
    pub(super) async fn fetch_repository(
        &self,
        transport: GitTransport,
        url: &Url,
        branch: Option<&str>,
    ) -> Result<FetchedBundle> {
        let unreachable = |reason: &dyn std::fmt::Display| {
            Error::Unreachable(format!("the repository {} cannot be fetched: {reason}", without_password(url)))
        };
        let source = self.resolve_git_remote(transport, url).await.map_err(|error| unreachable(&error))?;
        let branches: Vec<String> = match branch {
            Some(branch) => vec![branch.to_owned()],
            None => DEFAULT_BRANCHES.map(str::to_owned).to_vec(),
        };
        let cache = self.context.state.settings.cache_dir.clone();
        let stop = StopOnDrop(Arc::default());
        let (stopped, shown_url) = (Arc::clone(&stop.0), without_password(url));
        let fetching = self.context.state.source_offload.run(move || {
            std::fs::create_dir_all(&cache).map_err(Error::io("creating a directory for the repository"))?;
            let folder = tempfile::tempdir_in(&cache).map_err(Error::io("creating a directory for the repository"))?;
            let failed =
                |reason: String| Error::Unreachable(format!("the repository {shown_url} cannot be fetched: {reason}"));
            let repository = BareClone::new(folder.path()).map_err(failed)?;
            for branch in &branches {
                if let Some(commit) = repository.fetch(&source, branch, &stopped).map_err(failed)? {
                    return repository.read_bundle(commit);
                }
            }
            Err(failed(format!("it has no branch {}", branches.join(" or "))))
        });
        match tokio::time::timeout(FETCH_TIMEOUT, fetching).await {
            Ok(fetched) => fetched,
            Err(_) => Err(unreachable(&format!("it took longer than {} seconds", FETCH_TIMEOUT.as_secs()))),
        }
    }
}

/// Returns a URL without its password, so that it can be shown.
fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that cannot have a password.
    let _ = url.set_password(None);
    url.to_string()
}

/// Formats an error with its causes; the library puts the actual reason into the last of them.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// A repository that is being fetched.
struct BareClone(Repository);

impl BareClone {
    fn new(folder: &Path) -> Result<Self, String> {
        let options = gix::open::Options::isolated().config_overrides(GIT_CONFIG);
        let repository = gix::ThreadSafeRepository::init_opts(
            folder,
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            options,
        );
        repository.map(|repository| Self(repository.to_thread_local())).map_err(|error| error_chain(&error))
    }

    /// Fetches the newest commit of a branch; `None` if the branch does not exist.
    fn fetch(&self, source: &GitRemote, branch: &str, stopped: &AtomicBool) -> Result<Option<ObjectId>, String> {
        let spec = format!("+refs/heads/{branch}:refs/heads/{branch}");
        let remote = self.0.remote_at(source.url()).map_err(|error| error_chain(&error))?;
        let remote = remote
            .with_fetch_tags(Tags::None)
            .with_refspecs([spec.as_str()], gix::remote::Direction::Fetch)
            .map_err(|error| error_chain(&error))?;
        let connection = remote.to_connection_with_transport(source.connect()?);
        // No credentials, because no user is present to enter them.
        let connection = connection.with_credentials(|_| Ok(None));
        let prepared = connection
            .prepare_fetch(Discard, gix::remote::ref_map::Options::default())
            .map_err(|error| error_chain(&error))?;
        let wanted = format!("refs/heads/{branch}");
        let is_wanted = |mapping: &&gix::remote::fetch::refmap::Mapping| {
            mapping.remote.as_name().is_some_and(|name| name.as_bstr() == wanted.as_bytes().as_bstr())
        };
        let mapping = prepared.ref_map().mappings.iter().find(is_wanted);
        let Some(commit) = mapping.and_then(|mapping| mapping.remote.as_id()).map(ToOwned::to_owned) else {
            return Ok(None);
        };
        let shallow = Shallow::DepthAtRemote(NonZeroU32::MIN);
        prepared.with_shallow(shallow).receive(Discard, stopped).map_err(|error| error_chain(&error))?;
        Ok(Some(commit))
    }

    fn read_bundle(&self, commit: ObjectId) -> Result<FetchedBundle> {
        let broken = |error: &dyn std::error::Error| {
            Error::Unreachable(format!("the commit {commit} cannot be read: {}", error_chain(error)))
        };
        let small = |id: ObjectId| -> Result<()> {
            let header = self.0.find_header(id).map_err(|error| broken(&error))?;
            if header.size() <= MAX_HEADER_SIZE {
                return Ok(());
            }
            Err(Error::TooLarge(format!("the {} {id} is larger than {MAX_HEADER_SIZE} bytes", header.kind())))
        };
        small(commit)?;
        let tree = self.0.find_commit(commit).map_err(|error| broken(&error))?.tree_id();
        let tree = tree.map_err(|error| broken(&error))?.detach();
        small(tree)?;
        let tree = self.0.find_tree(tree).map_err(|error| broken(&error))?;
        let file = |name: &str| -> Result<Option<Vec<u8>>> {
            let entry = tree.lookup_entry_by_path(Path::new(name)).map_err(|error| broken(&error))?;
            let Some(entry) = entry.filter(|entry| entry.mode().is_blob()) else { return Ok(None) };
            let header = self.0.find_header(entry.object_id()).map_err(|error| broken(&error))?;
            check_size(name, header.size(), MAX_FILE_SIZE)?;
            let object = entry.object().map_err(|error| broken(&error))?;
            Ok(Some(object.detach().data))
        };
        let manifest = file(MANIFEST_FILE)?.ok_or_else(|| {
            Error::Unreachable(format!("the commit {commit} has no {MANIFEST_FILE} at its top level"))
        })?;
        let bundle = Bundle::from_files(&manifest, file)?;
        Ok(FetchedBundle { version: format!("{}-{commit}", bundle.manifest.version), bundle })
    }
}
