//! Blobs as files: `blobs/<two digits>/<id>`, written under `tmp/` first.
//!
//! All access goes through two cap-std directories, so that no name can lead out of them.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File};
use tokio::task::spawn_blocking;

use super::digests::Digests;
use super::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs, unread};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::space::Space;

/// Writes below this size are gathered, because each goes through another thread.
const GATHER: usize = 128 * 1024;

/// Blobs under a folder.
#[derive(Clone)]
pub(crate) struct DiskBlobs {
    folders: Arc<Folders>,
}

struct Folders {
    path: PathBuf,
    blobs: Dir,
    tmp: Dir,
    space: Space,
}

impl DiskBlobs {
    /// Opens the folders, which exist, and removes what unfinished writers of an earlier process left.
    pub(crate) fn open(blobs: &Path, tmp: &Path, space: Space) -> Result<Self> {
        let open = |path: &Path| Dir::open_ambient_dir(path, ambient_authority()).map_err(Error::io("open", path));
        let folders = Folders { path: blobs.to_owned(), blobs: open(blobs)?, tmp: open(tmp)?, space };
        for entry in folders.tmp.entries().map_err(Error::io("list", tmp))? {
            let name = entry.map_err(Error::io("list", tmp))?.file_name();
            folders.tmp.remove_file(&name).map_err(Error::io("remove", tmp.join(&name)))?;
        }
        Ok(Self { folders: Arc::new(folders) })
    }

    /// Runs file operations where they may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folders) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folders = Arc::clone(&self.folders);
        // The task neither panics nor is aborted, unless the runtime itself shuts down.
        spawn_blocking(move || work(&folders)).await.unwrap_or(Err(Error::Closed))
    }
}

impl Folders {
    fn failed(&self, action: &'static str, id: BlobId) -> impl FnOnce(io::Error) -> Error {
        Error::io(action, self.path.join(location(id)))
    }

    /// Like `failed`, for a blob that should be there.
    fn missing_or_failed(&self, action: &'static str, id: BlobId) -> impl FnOnce(io::Error) -> Error {
        let failed = self.failed(action, id);
        move |error| unread(id, error).unwrap_or_else(failed)
    }

    /// The size of a blob, which is a regular file: to open anything else may block, and to follow a link may lead to another blob.
    fn size(&self, id: BlobId) -> Result<u64> {
        let metadata = self.blobs.symlink_metadata(location(id)).map_err(self.missing_or_failed("read", id))?;
        if metadata.is_file() {
            return Ok(metadata.len());
        }
        let source = io::Error::other("it is not a regular file");
        Err(Error::BlobUnreadable { blob: id, source })
    }

    fn open(&self, id: BlobId) -> Result<File> {
        self.size(id)?;
        self.blobs.open(location(id)).map_err(self.missing_or_failed("open", id))
    }

    /// Moves a synced file to its place, durably.
    fn publish(&self, id: BlobId) -> io::Result<()> {
        let shard = shard(id);
        match self.blobs.create_dir(&shard) {
            Ok(()) => self.blobs.open(".")?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        failpoint::hit("blob.synced")?;
        self.tmp.rename(id.to_string(), &self.blobs, location(id))?;
        failpoint::hit("blob.renamed")?;
        self.blobs.open(shard)?.sync_all()?;
        failpoint::hit("blob.published")
    }
}

/// The last two digits: the first ones tell the time and would be the same for years.
fn shard(id: BlobId) -> String {
    id.to_string().split_off(30)
}

fn location(id: BlobId) -> PathBuf {
    Path::new(&shard(id)).join(id.to_string())
}

#[async_trait]
impl Blobs for DiskBlobs {
    async fn create_as(&self, id: BlobId) -> Result<Box<dyn BlobWriter>> {
        let blobs = self.clone();
        let draft = self
            .blocking(move |folders| {
                let file = folders.tmp.create(id.to_string()).map_err(folders.failed("create", id))?;
                Ok(Draft { blobs, id, file, digests: Digests::default(), published: false })
            })
            .await?;
        Ok(Box::new(Writer { draft: Some(draft), gathered: BytesMut::new() }))
    }

    async fn duplicate(&self, id: &BlobId) -> Result<BlobId> {
        let (id, copy) = (*id, BlobId::new());
        self.blocking(move |folders| {
            let draft = copy.to_string();
            let _unpublished = Unpublished { folders, name: &draft };
            folders.size(id)?;
            // Blobs never change, so two names of one file will do, where the file system knows such.
            if folders.blobs.hard_link(location(id), &folders.tmp, &draft).is_err() {
                folders.space.check()?;
                folders
                    .blobs
                    .copy(location(id), &folders.tmp, &draft)
                    .map_err(folders.missing_or_failed("copy", id))?;
                let synced = folders.tmp.open(&draft).and_then(|file| file.sync_all());
                synced.map_err(folders.failed("write", copy))?;
            }
            folders.publish(copy).map_err(folders.failed("write", copy))?;
            Ok(copy)
        })
        .await
    }

    async fn open(&self, id: &BlobId) -> Result<Box<dyn BlobReader>> {
        let id = *id;
        let file = self.blocking(move |folders| folders.open(id)).await?;
        Ok(Box::new(tokio::fs::File::from_std(file.into_std())))
    }

    fn read(&self, id: &BlobId) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.folders.open(*id)?.read_to_end(&mut content).map_err(self.folders.missing_or_failed("read", *id))?;
        Ok(content)
    }

    async fn size(&self, id: &BlobId) -> Result<u64> {
        let id = *id;
        self.blocking(move |folders| folders.size(id)).await
    }

    async fn remove(&self, id: &BlobId) -> Result<()> {
        let id = *id;
        // No fsync: a removal that is lost in a power cut leaves an orphan, which a sweep finds.
        self.blocking(move |folders| match folders.blobs.remove_file(location(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(folders.failed("remove", id)(error)),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        self.blocking(|folders| {
            let list = || -> io::Result<Vec<BlobId>> {
                let mut ids = Vec::new();
                for shard in folders.blobs.entries()? {
                    let shard = shard?;
                    if !shard.file_type()?.is_dir() {
                        continue;
                    }
                    for entry in shard.open_dir()?.entries()? {
                        let entry = entry?;
                        // Not a content, and `remove` could not remove it.
                        if entry.file_type()?.is_dir() {
                            continue;
                        }
                        // Other names are not ours: an operator's own file, a temporary file of a backup tool.
                        ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<BlobId>().ok()));
                    }
                }
                Ok(ids)
            };
            list().map_err(Error::io("list", &folders.path))
        })
        .await
    }
}

/// Removes a file under `tmp/` in the end; one that was published is there no more.
struct Unpublished<'a> {
    folders: &'a Folders,
    name: &'a str,
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        // Where even this fails, the next start sweeps the folder.
        let _ = self.folders.tmp.remove_file(self.name);
    }
}

/// A file under `tmp/`, removed unless it is published.
struct Draft {
    blobs: DiskBlobs,
    id: BlobId,
    file: File,
    digests: Digests,
    published: bool,
}

impl Draft {
    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.blobs.folders.space.check()?;
        self.digests.update(chunk);
        self.file.write_all(chunk).map_err(self.blobs.folders.failed("write", self.id))
    }

    fn publish(mut self) -> Result<BlobInfo> {
        self.file.sync_all().map_err(self.blobs.folders.failed("write", self.id))?;
        self.blobs.folders.publish(self.id).map_err(self.blobs.folders.failed("write", self.id))?;
        self.published = true;
        Ok(std::mem::take(&mut self.digests).finish(self.id))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Where even this fails, the next start sweeps the folder.
            let _ = self.blobs.folders.tmp.remove_file(self.id.to_string());
        }
    }
}

struct Writer {
    /// `None` after a failed or dropped write.
    draft: Option<Draft>,
    gathered: BytesMut,
}

impl Writer {
    async fn flush(&mut self) -> Result<()> {
        let mut draft = self.take()?;
        let chunk = self.gathered.split().freeze();
        let blobs = draft.blobs.clone();
        let draft = blobs.blocking(move |_| draft.write(&chunk).map(|()| draft)).await?;
        self.draft = Some(draft);
        Ok(())
    }

    fn take(&mut self) -> Result<Draft> {
        self.draft.take().ok_or(Error::Invalid {
            field: "blob writer",
            reason: "an earlier write failed or was given up: start a new one".to_owned(),
        })
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.gathered.extend_from_slice(&chunk);
        if self.gathered.len() >= GATHER { self.flush().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobInfo> {
        self.flush().await?;
        let draft = self.take()?;
        draft.blobs.clone().blocking(move |_| draft.publish()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, DiskBlobs) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        let blobs = reopen(&dir);
        (dir, blobs)
    }

    fn reopen(dir: &tempfile::TempDir) -> DiskBlobs {
        let space = Space::watch(dir.path(), None).unwrap();
        DiskBlobs::open(&dir.path().join("blobs"), &dir.path().join("tmp"), space).unwrap()
    }

    fn drafts(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count()
    }

    #[tokio::test]
    async fn a_dropped_writer_leaves_nothing() {
        let (dir, blobs) = folders();
        let mut writer = blobs.create().await.unwrap();
        writer.write(vec![1; 2 * GATHER].into()).await.unwrap();
        assert_eq!(drafts(&dir), 1);
        drop(writer);
        assert_eq!(drafts(&dir), 0);
        assert!(blobs.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn drafts_of_a_killed_process_are_swept_and_blobs_stay() {
        let (dir, blobs) = folders();
        let mut writer = blobs.create().await.unwrap();
        writer.write(Bytes::from_static(b"content")).await.unwrap();
        let info = writer.finish().await.unwrap();
        std::fs::write(dir.path().join("tmp/left"), b"half").unwrap();
        let blobs = reopen(&dir);
        assert_eq!(drafts(&dir), 0);
        assert_eq!(blobs.read(&info.id).unwrap(), b"content");
        assert!(dir.path().join("blobs").join(location(info.id)).is_file());
    }

    /// Whatever lies where a blob should be, and whatever forbids to read it.
    #[tokio::test]
    async fn what_cannot_be_read_is_lost() {
        let (dir, blobs) = folders();
        let mut ids = Vec::new();
        for _ in 0..4 {
            let mut writer = blobs.create().await.unwrap();
            writer.write(Bytes::from_static(b"content")).await.unwrap();
            ids.push(writer.finish().await.unwrap().id);
        }
        let place = |id: BlobId| dir.path().join("blobs").join(location(id));
        for id in &ids[1..] {
            std::fs::remove_file(place(*id)).unwrap();
        }
        std::fs::create_dir(place(ids[1])).unwrap();
        std::os::unix::fs::symlink(place(ids[0]), place(ids[2])).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(place(ids[3])).status().unwrap();
        assert!(fifo.success());
        for id in &ids[1..] {
            for error in [
                blobs.open(id).await.map(drop).unwrap_err(),
                blobs.size(id).await.map(drop).unwrap_err(),
                blobs.read(id).map(drop).unwrap_err(),
                blobs.duplicate(id).await.map(drop).unwrap_err(),
            ] {
                assert!(error.is_content_lost(), "{error}");
                assert_eq!(error.to_string(), format!("blob {id} cannot be read: it is not a regular file"));
            }
        }
        let told = |error: io::Error| unread(ids[0], error).map(|error| error.is_content_lost());
        for lost in [rustix::io::Errno::IO, rustix::io::Errno::ACCESS, rustix::io::Errno::ISDIR] {
            assert!(told(lost.into()).unwrap(), "{lost}");
        }
        for passing in [rustix::io::Errno::MFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::INTR] {
            assert!(told(passing.into()).is_err(), "{passing}");
        }
    }

    #[tokio::test]
    async fn foreign_files_are_not_listed() {
        let (dir, blobs) = folders();
        blobs.create().await.unwrap().finish().await.unwrap();
        std::fs::write(dir.path().join("blobs/README"), b"mine").unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/zz")).unwrap();
        std::fs::write(dir.path().join("blobs/zz/.backup"), b"mine").unwrap();
        assert_eq!(blobs.list().await.unwrap().len(), 1);
    }
}
