//! An open file. All descriptors and streams of a file that is open for writing share one content; closing the last one
//! commits it.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use konnector_manifest::Limit;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::error::{FilesystemError, Result};
use super::Mount;
use super::file_content::FileContent;
use crate::capability::{ChildRef, Destination, Node, QuotaKind, SaveOutcome, TreeError};
use crate::host::HandlePermit;

/// An open file; one per descriptor and stream.
#[derive(Clone)]
pub(crate) struct UserFile(pub(super) Arc<SharedFile>);

/// State shared by the descriptors and streams of a file.
pub(crate) struct SharedFile {
    core: Arc<FileCore>,
    /// A write that continues although nothing polls its stream. A guest may wait for several events at once, and then
    /// all futures but the first to complete are dropped and started again.
    pending_write: tokio::sync::Mutex<Option<BoxFuture<'static, Result<()>>>>,
}

struct FileCore {
    mount: Arc<Mount>,
    /// Distinguishes the file from others of the run while it has no id.
    number: u64,
    description: Mutex<FileDescription>,
    content: tokio::sync::Mutex<FileContent>,
    _open_permit: Arc<()>,
    _upload_permit: Option<HandlePermit>,
}

/// Attributes of the file other than its content.
struct FileDescription {
    /// `None` for a file that was removed before it was committed.
    destination: Option<Destination>,
    /// Path shown in messages.
    path: String,
    modified: SystemTime,
    /// Whether the guest already received the failure to save the file.
    failure_reported: bool,
}

impl FileCore {
    fn description(&self) -> MutexGuard<'_, FileDescription> {
        self.description.lock()
    }

    async fn commit(&self) -> Result<()> {
        let mut body = self.content.lock().await;
        let destination = self.description().destination.clone();
        let Some(destination) = destination.filter(|_| body.is_dirty) else { return Ok(()) };
        self.mount.check_change_quota()?;
        let (node, written) = body.commit(&self.mount, &destination).await?;
        self.mount.context.meter.files.record(written);
        let mut description = self.description();
        description.modified = node.modified;
        if written == SaveOutcome::Created {
            description.path.clone_from(&node.path);
        }
        description.destination = Some(Destination::Existing(node.id));
        Ok(())
    }
}

impl SharedFile {
    /// Waits for the pending write. Cancel-safe.
    async fn wait_for_write(&self) -> Result<()> {
        let mut work = self.pending_write.lock().await;
        let Some(pending) = work.as_mut() else { return Ok(()) };
        let result = pending.await;
        *work = None;
        result
    }
}

impl Mount {
    fn open_file(
        self: &Arc<Self>,
        description: FileDescription,
        body: FileContent,
        upload_permit: Option<HandlePermit>,
    ) -> Result<UserFile> {
        let core = FileCore {
            mount: Arc::clone(self),
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            description: Mutex::new(description),
            content: tokio::sync::Mutex::new(body),
            _open_permit: self.acquire_open_permit()?,
            _upload_permit: upload_permit,
        };
        Ok(UserFile(Arc::new(SharedFile { core: Arc::new(core), pending_write: tokio::sync::Mutex::new(None) })))
    }

    fn acquire_upload_permit(&self) -> Result<HandlePermit> {
        let value = self.context.capabilities.limits.uploads.into();
        let quota = QuotaKind::Limit { limit: Limit::Uploads, value };
        self.context.acquire_upload_permit().map_err(|_| self.log_error(TreeError::QuotaExceeded(quota)))
    }

    /// Opens a file for reading.
    pub(super) async fn open_for_reading(self: &Arc<Self>, node: Node) -> Result<UserFile> {
        let body = FileContent::stored(self.unless_cancelled(self.tree.open(&node.id)).await?);
        self.open_file(FileDescription::from_node(node), body, None)
    }

    /// Opens a file for writing. It shares its content with the descriptors that already have it open for writing.
    pub(super) async fn open_for_writing(self: &Arc<Self>, node: Node, truncate: bool) -> Result<UserFile> {
        let id = node.id.clone();
        let open = self.open_for_writing_by_id().get(&id).and_then(std::sync::Weak::upgrade);
        if let Some(shared) = open {
            let file = UserFile(shared);
            if truncate {
                file.set_len(0).await?;
            }
            return Ok(file);
        }
        self.unless_cancelled(self.tree.check_write(&Destination::Existing(id.clone()))).await?;
        self.check_change_quota()?;
        let upload_permit = Some(self.acquire_upload_permit()?);
        let body = if truncate {
            FileContent::empty()
        } else {
            FileContent::stored(self.unless_cancelled(self.tree.open(&id)).await?)
        };
        let file = self.open_file(FileDescription::from_node(node), body, upload_permit)?;
        let mut written = self.open_for_writing_by_id();
        written.retain(|_, open| open.strong_count() > 0);
        written.insert(id, Arc::downgrade(&file.0));
        Ok(file)
    }

    /// Creates a new file, which is not committed yet.
    pub(super) async fn create(self: &Arc<Self>, directory: &Node, name: &str) -> Result<UserFile> {
        let destination = Destination::New { directory: directory.id.clone(), name: name.to_owned() };
        self.unless_cancelled(self.tree.check_write(&destination)).await?;
        self.check_change_quota()?;
        let description = FileDescription {
            destination: Some(destination),
            path: join_path(&directory.path, name),
            modified: SystemTime::now(),
            failure_reported: false,
        };
        let file = self.open_file(description, FileContent::empty(), Some(self.acquire_upload_permit()?))?;
        let mut uncommitted = self.uncommitted();
        uncommitted.retain(|_, open| open.strong_count() > 0);
        uncommitted.insert((directory.id.clone(), name.to_owned()), Arc::downgrade(&file.0));
        Ok(file)
    }

    /// Renames an uncommitted file. With `None` it loses its name, and will never be committed.
    pub(super) fn rename_uncommitted(&self, file: &Arc<SharedFile>, from: ChildRef<'_>, to: Option<(&Node, &str)>) {
        let mut uncommitted = self.uncommitted();
        uncommitted.remove(&(from.directory.to_owned(), from.name.to_owned()));
        let mut description = file.core.description();
        description.destination = to.map(|(directory, name)| {
            description.path = join_path(&directory.path, name);
            uncommitted.insert((directory.id.clone(), name.to_owned()), Arc::downgrade(file));
            Destination::New { directory: directory.id.clone(), name: name.to_owned() }
        });
    }

    /// Makes an uncommitted file replace an existing one when it is committed.
    pub(super) fn replace_with_uncommitted(&self, file: &Arc<SharedFile>, from: ChildRef<'_>, existing: Node) {
        self.uncommitted().remove(&(from.directory.to_owned(), from.name.to_owned()));
        let mut description = file.core.description();
        description.path = existing.path;
        self.open_for_writing_by_id().insert(existing.id.clone(), Arc::downgrade(file));
        description.destination = Some(Destination::Existing(existing.id));
    }
}

impl FileDescription {
    fn from_node(node: Node) -> Self {
        Self {
            destination: Some(Destination::Existing(node.id)),
            path: node.path,
            modified: node.modified,
            failure_reported: false,
        }
    }
}

fn join_path(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

impl UserFile {
    /// Returns an identity that does not change while the file is open, which is the id of the file if it has one. The
    /// identity depends only on the actions of the run.
    pub(crate) fn identity(&self) -> String {
        match &self.0.core.description().destination {
            Some(Destination::Existing(id)) => id.clone(),
            Some(Destination::New { .. }) | None => format!("not committed, number {}", self.0.core.number),
        }
    }

    pub(crate) fn modified(&self) -> SystemTime {
        self.0.core.description().modified
    }

    pub(crate) async fn len(&self) -> Result<u64> {
        self.0.wait_for_write().await?;
        Ok(self.0.core.content.lock().await.len())
    }

    pub(crate) async fn read(&self, offset: u64, max: usize) -> Result<Bytes> {
        self.0.wait_for_write().await?;
        let core = &self.0.core;
        core.content.lock().await.read(&core.mount, offset, max).await
    }

    /// Returns whether a write would be accepted immediately.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.pending_write.try_lock().is_ok_and(|work| work.is_none())
    }

    /// Begins a write at `offset`, or at the end; [`wait_for_write`](Self::wait_for_write) waits for it. No other write
    /// may be pending.
    pub(crate) fn begin_write(&self, offset: Option<u64>, bytes: Bytes) -> Result<()> {
        let mut work = self.0.pending_write.try_lock().map_err(|_| ErrorCode::WouldBlock)?;
        if work.is_some() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let core = Arc::clone(&self.0.core);
        *work = Some(Box::pin(async move {
            core.description().modified = SystemTime::now();
            let mut body = core.content.lock().await;
            let offset = offset.unwrap_or_else(|| body.len());
            body.write(&core.mount, offset, bytes).await
        }));
        Ok(())
    }

    /// Waits for the pending write. Cancel-safe.
    pub(crate) async fn wait_for_write(&self) -> Result<()> {
        self.0.wait_for_write().await
    }

    pub(crate) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.wait_for_write().await?;
        self.begin_write(Some(offset), bytes)?;
        self.wait_for_write().await
    }

    pub(crate) async fn set_len(&self, length: u64) -> Result<()> {
        self.wait_for_write().await?;
        let core = &self.0.core;
        core.description().modified = SystemTime::now();
        core.content.lock().await.set_len(&core.mount, length).await
    }

    /// Commits the content written so far.
    pub(crate) async fn sync(&self) -> Result<()> {
        let result = async {
            self.wait_for_write().await?;
            let before = self.0.core.description().destination.clone();
            self.0.core.commit().await?;
            self.register_committed(before);
            Ok(())
        };
        let result = result.await;
        if result.is_err() {
            self.0.core.description().failure_reported = true;
        }
        result
    }

    /// Registers a new file, after its first commit, among the existing files that are open for writing.
    fn register_committed(&self, before: Option<Destination>) {
        let mount = &self.0.core.mount;
        if let (Some(Destination::New { directory, name }), Some(Destination::Existing(id))) =
            (before, self.0.core.description().destination.clone())
        {
            mount.uncommitted().remove(&(directory, name));
            mount.open_for_writing_by_id().insert(id, Arc::downgrade(&self.0));
        }
    }

    /// Closes the file; the last one to do so commits it. If the value is dropped instead, as after a crash of the run,
    /// the file is not committed.
    pub(crate) async fn close(self) -> Result<()> {
        // A pending write counts even if its stream is closed.
        let mut closed = self.0.wait_for_write().await;
        let Some(shared) = Arc::into_inner(self.0) else { return closed };
        let core = shared.core;
        if closed.is_ok() {
            closed = core.commit().await;
        }
        let (path, is_reported) = {
            let description = core.description();
            (description.path.clone(), description.failure_reported)
        };
        match closed {
            Ok(()) => Ok(()),
            Err(failure @ FilesystemError::Trap(_)) => {
                core.mount.report_unsaved(&path, &failure);
                Err(failure)
            }
            Err(failure) => {
                if !is_reported {
                    core.mount.report_unsaved(&path, &failure);
                }
                Ok(())
            }
        }
    }
}
