//! Blobs as files: `blobs/<two digits>/<id>`, written under `tmp/` first.
//!
//! All access uses two cap-std directories, so no name can escape from them.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File};
use tokio::task::spawn_blocking;

use super::digests::Digests;
use super::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs, classify_read_error};
use crate::disk_space::DiskSpace;
use crate::error::{Error, Result};
use crate::failpoint;

/// Writes below this size are buffered, because each one is handed to another thread.
const WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// Blobs under a folder.
#[derive(Clone)]
pub(crate) struct DiskBlobs {
    folders: Arc<BlobDirs>,
}

struct BlobDirs {
    path: PathBuf,
    blobs: Dir,
    tmp: Dir,
    space: DiskSpace,
}

impl DiskBlobs {
    /// Opens the folders, which must exist, and removes files that unfinished writers of an earlier process left.
    pub(crate) fn open(blobs: &Path, tmp: &Path, space: DiskSpace) -> Result<Self> {
        let open = |path: &Path| Dir::open_ambient_dir(path, ambient_authority()).map_err(Error::io("open", path));
        let folders = BlobDirs { path: blobs.to_owned(), blobs: open(blobs)?, tmp: open(tmp)?, space };
        for entry in folders.tmp.entries().map_err(Error::io("list", tmp))? {
            let name = entry.map_err(Error::io("list", tmp))?.file_name();
            folders.tmp.remove_file(&name).map_err(Error::io("remove", tmp.join(&name)))?;
        }
        Ok(Self { folders: Arc::new(folders) })
    }

    /// Runs file operations on a thread where they may block.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BlobDirs) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folders = Arc::clone(&self.folders);
        // The task neither panics nor is aborted, unless the runtime itself shuts down.
        spawn_blocking(move || work(&folders)).await.unwrap_or(Err(Error::Closed))
    }
}

impl BlobDirs {
    fn io_error(&self, action: &'static str, id: BlobId) -> impl FnOnce(io::Error) -> Error {
        Error::io(action, self.path.join(blob_path(id)))
    }

    /// Like `io_error`, for a blob that should exist.
    fn read_error(&self, action: &'static str, id: BlobId) -> impl FnOnce(io::Error) -> Error {
        let failed = self.io_error(action, id);
        move |error| classify_read_error(id, error).unwrap_or_else(failed)
    }

    /// Returns the size of a blob, which must be a regular file, because opening any other kind may block, and a link
    /// may lead to another blob.
    fn size(&self, id: BlobId) -> Result<u64> {
        let metadata = self.blobs.symlink_metadata(blob_path(id)).map_err(self.read_error("read", id))?;
        if metadata.is_file() {
            return Ok(metadata.len());
        }
        let source = io::Error::other("it is not a regular file");
        Err(Error::BlobUnreadable { blob: id, source })
    }

    fn open(&self, id: BlobId) -> Result<File> {
        self.size(id)?;
        self.blobs.open(blob_path(id)).map_err(self.read_error("open", id))
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
        self.tmp.rename(id.to_string(), &self.blobs, blob_path(id))?;
        failpoint::hit("blob.renamed")?;
        self.blobs.open(shard)?.sync_all()?;
        failpoint::hit("blob.published")
    }
}

/// Returns the last two digits, because the first ones encode the time and would be the same for years.
fn shard(id: BlobId) -> String {
    id.to_string().split_off(30)
}

fn blob_path(id: BlobId) -> PathBuf {
    Path::new(&shard(id)).join(id.to_string())
}

#[async_trait]
impl Blobs for DiskBlobs {
    async fn create_as(&self, id: BlobId) -> Result<Box<dyn BlobWriter>> {
        let blobs = self.clone();
        let draft = self
            .run_blocking(move |folders| {
                let file = folders.tmp.create(id.to_string()).map_err(folders.io_error("create", id))?;
                Ok(BlobDraft { blobs, id, file, digests: Digests::default(), published: false })
            })
            .await?;
        Ok(Box::new(DiskBlobWriter { draft: Some(draft), buffer: BytesMut::new() }))
    }

    async fn duplicate(&self, id: &BlobId) -> Result<BlobId> {
        let (id, copy) = (*id, BlobId::new());
        self.run_blocking(move |folders| {
            let draft = copy.to_string();
            let _unpublished = TempFileGuard { folders, name: &draft };
            folders.size(id)?;
            // Blobs never change, so a hard link is enough if the file system supports it.
            if folders.blobs.hard_link(blob_path(id), &folders.tmp, &draft).is_err() {
                folders.space.check()?;
                folders.blobs.copy(blob_path(id), &folders.tmp, &draft).map_err(folders.read_error("copy", id))?;
                let synced = folders.tmp.open(&draft).and_then(|file| file.sync_all());
                synced.map_err(folders.io_error("write", copy))?;
            }
            folders.publish(copy).map_err(folders.io_error("write", copy))?;
            Ok(copy)
        })
        .await
    }

    async fn open(&self, id: &BlobId) -> Result<Box<dyn BlobReader>> {
        let id = *id;
        let file = self.run_blocking(move |folders| folders.open(id)).await?;
        Ok(Box::new(tokio::fs::File::from_std(file.into_std())))
    }

    fn read(&self, id: &BlobId) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.folders.open(*id)?.read_to_end(&mut content).map_err(self.folders.read_error("read", *id))?;
        Ok(content)
    }

    async fn size(&self, id: &BlobId) -> Result<u64> {
        let id = *id;
        self.run_blocking(move |folders| folders.size(id)).await
    }

    async fn remove(&self, id: &BlobId) -> Result<()> {
        let id = *id;
        // No fsync is needed, because a removal that is lost in a power failure leaves an orphan, which a sweep finds.
        self.run_blocking(move |folders| match folders.blobs.remove_file(blob_path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(folders.io_error("remove", id)(error)),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        self.run_blocking(|folders| {
            let list = || -> io::Result<Vec<BlobId>> {
                let mut ids = Vec::new();
                for shard in folders.blobs.entries()? {
                    let shard = shard?;
                    if !shard.file_type()?.is_dir() {
                        continue;
                    }
                    for entry in shard.open_dir()?.entries()? {
                        let entry = entry?;
                        // This is not a blob, and `remove` could not remove it.
                        if entry.file_type()?.is_dir() {
                            continue;
                        }
                        // Files with other names are not ours, such as an operator's own file or a temporary file of a
                        // backup tool.
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

/// Removes a file under `tmp/` at the end; a published file no longer exists there.
struct TempFileGuard<'a> {
    folders: &'a BlobDirs,
    name: &'a str,
}

impl Drop for TempFileGuard<'_> {
    fn drop(&mut self) {
        // If even this fails, the next start cleans the folder.
        let _ = self.folders.tmp.remove_file(self.name);
    }
}

/// A file under `tmp/`, removed unless it is published.
struct BlobDraft {
    blobs: DiskBlobs,
    id: BlobId,
    file: File,
    digests: Digests,
    published: bool,
}

impl BlobDraft {
    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.blobs.folders.space.check()?;
        self.digests.update(chunk);
        self.file.write_all(chunk).map_err(self.blobs.folders.io_error("write", self.id))
    }

    fn publish(mut self) -> Result<BlobInfo> {
        self.file.sync_all().map_err(self.blobs.folders.io_error("write", self.id))?;
        self.blobs.folders.publish(self.id).map_err(self.blobs.folders.io_error("write", self.id))?;
        self.published = true;
        Ok(std::mem::take(&mut self.digests).finish(self.id))
    }
}

impl Drop for BlobDraft {
    fn drop(&mut self) {
        if !self.published {
            // If even this fails, the next start cleans the folder.
            let _ = self.blobs.folders.tmp.remove_file(self.id.to_string());
        }
    }
}

struct DiskBlobWriter {
    /// `None` after a failed or dropped write.
    draft: Option<BlobDraft>,
    buffer: BytesMut,
}

impl DiskBlobWriter {
    async fn flush(&mut self) -> Result<()> {
        let mut draft = self.take_draft()?;
        let chunk = self.buffer.split().freeze();
        let blobs = draft.blobs.clone();
        let draft = blobs.run_blocking(move |_| draft.write(&chunk).map(|()| draft)).await?;
        self.draft = Some(draft);
        Ok(())
    }

    fn take_draft(&mut self) -> Result<BlobDraft> {
        self.draft.take().ok_or(Error::Invalid {
            field: "blob writer",
            reason: "an earlier write failed or was abandoned; start a new writer".to_owned(),
        })
    }
}

#[async_trait]
impl BlobWriter for DiskBlobWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.buffer.extend_from_slice(&chunk);
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobInfo> {
        self.flush().await?;
        let draft = self.take_draft()?;
        draft.blobs.clone().run_blocking(move |_| draft.publish()).await
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
        let space = DiskSpace::new(dir.path(), None).unwrap();
        DiskBlobs::open(&dir.path().join("blobs"), &dir.path().join("tmp"), space).unwrap()
    }

    fn drafts(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count()
    }

    #[tokio::test]
    async fn a_dropped_writer_leaves_nothing() {
        let (dir, blobs) = folders();
        let mut writer = blobs.create().await.unwrap();
        writer.write(vec![1; 2 * WRITE_BUFFER_BYTES].into()).await.unwrap();
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
        assert!(dir.path().join("blobs").join(blob_path(info.id)).is_file());
    }

    /// Covers non-files in the place of a blob, and missing permissions to read it.
    #[tokio::test]
    async fn unreadable_blobs_are_reported_as_lost() {
        let (dir, blobs) = folders();
        let mut ids = Vec::new();
        for _ in 0..4 {
            let mut writer = blobs.create().await.unwrap();
            writer.write(Bytes::from_static(b"content")).await.unwrap();
            ids.push(writer.finish().await.unwrap().id);
        }
        let path_of = |id: BlobId| dir.path().join("blobs").join(blob_path(id));
        for id in &ids[1..] {
            std::fs::remove_file(path_of(*id)).unwrap();
        }
        std::fs::create_dir(path_of(ids[1])).unwrap();
        std::os::unix::fs::symlink(path_of(ids[0]), path_of(ids[2])).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(path_of(ids[3])).status().unwrap();
        assert!(fifo.success());
        for id in &ids[1..] {
            for error in [
                blobs.open(id).await.map(drop).unwrap_err(),
                blobs.size(id).await.map(drop).unwrap_err(),
                blobs.read(id).map(drop).unwrap_err(),
                blobs.duplicate(id).await.map(drop).unwrap_err(),
            ] {
                assert!(error.is_blob_lost(), "{error}");
                assert_eq!(error.to_string(), format!("blob {id} cannot be read: it is not a regular file"));
            }
        }
        let is_lost = |error: io::Error| classify_read_error(ids[0], error).map(|error| error.is_blob_lost());
        for lost in [rustix::io::Errno::IO, rustix::io::Errno::ACCESS, rustix::io::Errno::ISDIR] {
            assert!(is_lost(lost.into()).unwrap(), "{lost}");
        }
        for passing in [rustix::io::Errno::MFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::INTR] {
            assert!(is_lost(passing.into()).is_err(), "{passing}");
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
