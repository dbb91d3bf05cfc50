//! A file that is open. All descriptors and streams of a file that is open for writing share one content; the last one that is closed
//! commits it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::failure::{Failure, Result};
use super::Mount;
use super::body::Body;
use crate::capability::{Destination, Node, Place, Quota, TreeError, Written};
use crate::host::Slot;

/// A file that is open, once for each descriptor and stream.
#[derive(Clone)]
pub(crate) struct File(pub(super) Arc<Shared>);

/// What the descriptors and streams of a file share.
pub(crate) struct Shared {
    core: Arc<Core>,
    /// A write that goes on although its stream is not being waited for: a guest may wait for several things at once, and then all but
    /// the first to come are asked again from the beginning.
    work: tokio::sync::Mutex<Option<BoxFuture<'static, Result<()>>>>,
}

struct Core {
    mount: Arc<Mount>,
    /// Tells it from the other files of the run while it has no id.
    number: u64,
    about: Mutex<About>,
    body: tokio::sync::Mutex<Body>,
    _open: Arc<()>,
    _uploading: Option<Slot>,
}

/// What can be said of the file without its content.
struct About {
    /// `None` for a file that was removed before it was committed.
    destination: Option<Destination>,
    /// For texts.
    path: String,
    modified: SystemTime,
    /// The guest was told that it could not be saved.
    failure_told: bool,
}

impl Core {
    fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self) -> Result<()> {
        let mut body = self.body.lock().await;
        let destination = self.about().destination.clone();
        let Some(destination) = destination.filter(|_| body.changed) else { return Ok(()) };
        self.mount.count_change()?;
        let (node, written) = body.commit(&self.mount, &destination).await?;
        self.mount.context.meter.files.count(written);
        let mut about = self.about();
        about.modified = node.modified;
        if written == Written::Created {
            about.path.clone_from(&node.path);
        }
        about.destination = Some(Destination::Existing(node.id));
        Ok(())
    }
}

impl Shared {
    /// Waits for the write that is going on. Cancel-safe.
    async fn settle(&self) -> Result<()> {
        let mut work = self.work.lock().await;
        let Some(going_on) = work.as_mut() else { return Ok(()) };
        let done = going_on.await;
        *work = None;
        done
    }
}

impl Mount {
    fn open_file(self: &Arc<Self>, about: About, body: Body, uploading: Option<Slot>) -> Result<File> {
        let core = Core {
            mount: Arc::clone(self),
            number: self.opened.fetch_add(1, Ordering::Relaxed),
            about: Mutex::new(about),
            body: tokio::sync::Mutex::new(body),
            _open: self.take_open()?,
            _uploading: uploading,
        };
        Ok(File(Arc::new(Shared { core: Arc::new(core), work: tokio::sync::Mutex::new(None) })))
    }

    fn uploading(&self) -> Result<Slot> {
        self.context.begin_uploading().map_err(|_| self.refused(TreeError::Full(Quota::Uploads)))
    }

    /// A file for reading.
    pub(super) async fn open_for_reading(self: &Arc<Self>, node: Node) -> Result<File> {
        let body = Body::stored(self.ask(self.tree.open(&node.id)).await?);
        self.open_file(About::existing(node), body, None)
    }

    /// A file for writing. Whoever has it open for writing already shares its content.
    pub(super) async fn open_for_writing(self: &Arc<Self>, node: Node, truncate: bool) -> Result<File> {
        let id = node.id.clone();
        let open = self.written().get(&id).and_then(std::sync::Weak::upgrade);
        if let Some(shared) = open {
            let file = File(shared);
            if truncate {
                file.set_len(0).await?;
            }
            return Ok(file);
        }
        self.ask(self.tree.check_write(&Destination::Existing(id.clone()))).await?;
        self.count_change()?;
        let uploading = Some(self.uploading()?);
        let body = if truncate { Body::empty() } else { Body::stored(self.ask(self.tree.open(&id)).await?) };
        let file = self.open_file(About::existing(node), body, uploading)?;
        let mut written = self.written();
        written.retain(|_, open| open.strong_count() > 0);
        written.insert(id, Arc::downgrade(&file.0));
        Ok(file)
    }

    /// A file that is not there yet.
    pub(super) async fn create(self: &Arc<Self>, directory: &Node, name: &str) -> Result<File> {
        let destination = Destination::New { directory: directory.id.clone(), name: name.to_owned() };
        self.ask(self.tree.check_write(&destination)).await?;
        self.count_change()?;
        let about = About {
            destination: Some(destination),
            path: below(&directory.path, name),
            modified: SystemTime::now(),
            failure_told: false,
        };
        let file = self.open_file(about, Body::empty(), Some(self.uploading()?))?;
        let mut unborn = self.unborn();
        unborn.retain(|_, open| open.strong_count() > 0);
        unborn.insert((directory.id.clone(), name.to_owned()), Arc::downgrade(&file.0));
        Ok(file)
    }

    /// Gives a file that is not committed yet another name, or with `None` none at all: then it never will be.
    pub(super) fn rename_unborn(&self, file: &Arc<Shared>, from: Place<'_>, to: Option<(&Node, &str)>) {
        let mut unborn = self.unborn();
        unborn.remove(&(from.directory.to_owned(), from.name.to_owned()));
        let mut about = file.core.about();
        about.destination = to.map(|(directory, name)| {
            about.path = below(&directory.path, name);
            unborn.insert((directory.id.clone(), name.to_owned()), Arc::downgrade(file));
            Destination::New { directory: directory.id.clone(), name: name.to_owned() }
        });
    }

    /// Makes a file that is not committed yet replace one that is there, once it is.
    pub(super) fn replace_by_unborn(&self, file: &Arc<Shared>, from: Place<'_>, there: Node) {
        self.unborn().remove(&(from.directory.to_owned(), from.name.to_owned()));
        let mut about = file.core.about();
        about.path = there.path;
        self.written().insert(there.id.clone(), Arc::downgrade(file));
        about.destination = Some(Destination::Existing(there.id));
    }
}

impl About {
    fn existing(node: Node) -> Self {
        Self {
            destination: Some(Destination::Existing(node.id)),
            path: node.path,
            modified: node.modified,
            failure_told: false,
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

impl File {
    /// What stays as long as the file is open, and is the file's id where it has one. It depends on nothing but what the run did.
    pub(crate) fn identity(&self) -> String {
        match &self.0.core.about().destination {
            Some(Destination::Existing(id)) => id.clone(),
            Some(Destination::New { .. }) | None => format!("not committed, number {}", self.0.core.number),
        }
    }

    pub(crate) fn modified(&self) -> SystemTime {
        self.0.core.about().modified
    }

    pub(crate) async fn len(&self) -> Result<u64> {
        self.0.settle().await?;
        Ok(self.0.core.body.lock().await.len())
    }

    pub(crate) async fn read(&self, offset: u64, max: usize) -> Result<Bytes> {
        self.0.settle().await?;
        let core = &self.0.core;
        core.body.lock().await.read(&core.mount, offset, max).await
    }

    /// Whether a write would be taken at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.work.try_lock().is_ok_and(|work| work.is_none())
    }

    /// Begins a write at `offset`, or at the end; [`settle`](Self::settle) waits for it. There must be none going on.
    pub(crate) fn begin_write(&self, offset: Option<u64>, bytes: Bytes) -> Result<()> {
        let mut work = self.0.work.try_lock().map_err(|_| ErrorCode::WouldBlock)?;
        if work.is_some() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let core = Arc::clone(&self.0.core);
        *work = Some(Box::pin(async move {
            core.about().modified = SystemTime::now();
            let mut body = core.body.lock().await;
            let offset = offset.unwrap_or_else(|| body.len());
            body.write(&core.mount, offset, bytes).await
        }));
        Ok(())
    }

    /// Waits for the write that is going on. Cancel-safe.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.0.settle().await
    }

    pub(crate) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.settle().await?;
        self.begin_write(Some(offset), bytes)?;
        self.settle().await
    }

    pub(crate) async fn set_len(&self, length: u64) -> Result<()> {
        self.settle().await?;
        let core = &self.0.core;
        core.about().modified = SystemTime::now();
        core.body.lock().await.set_len(&core.mount, length).await
    }

    /// Commits what was written so far.
    pub(crate) async fn sync(&self) -> Result<()> {
        let done = async {
            self.settle().await?;
            let before = self.0.core.about().destination.clone();
            self.0.core.commit().await?;
            self.was_committed(before);
            Ok(())
        };
        let done = done.await;
        if done.is_err() {
            self.0.core.about().failure_told = true;
        }
        done
    }

    /// A new file is one like the others from its first commit on.
    fn was_committed(&self, before: Option<Destination>) {
        let mount = &self.0.core.mount;
        if let (Some(Destination::New { directory, name }), Some(Destination::Existing(id))) =
            (before, self.0.core.about().destination.clone())
        {
            mount.unborn().remove(&(directory, name));
            mount.written().insert(id, Arc::downgrade(&self.0));
        }
    }

    /// Lets go of the file; the last one to do so commits it. When this is dropped instead, as all is when a run falls over, it is not.
    pub(crate) async fn close(self) -> Result<()> {
        // A write whose stream is gone still counts.
        let mut closed = self.0.settle().await;
        let Some(shared) = Arc::into_inner(self.0) else { return closed };
        let core = shared.core;
        if closed.is_ok() {
            closed = core.commit().await;
        }
        let (path, told) = {
            let about = core.about();
            (about.path.clone(), about.failure_told)
        };
        match closed {
            Ok(()) => Ok(()),
            Err(failure @ Failure::End(_)) => {
                core.mount.not_saved(&path, &failure);
                Err(failure)
            }
            Err(failure) => {
                if !told {
                    core.mount.not_saved(&path, &failure);
                }
                Ok(())
            }
        }
    }
}
