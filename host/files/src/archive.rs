//! Zip archives of several files and directories. An archive is built while it is sent, and is not stored.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{Datelike as _, Timelike as _};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{File, FileKind, TRASH_ID, link, sanitize_name, with_number_suffix};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::ARCHIVES;
use konnector_documents::instance::Instance;
use konnector_documents::offload::Offload;
use konnector_documents::stored::to_object;

/// Size in bytes of the parts in which content is packed.
const CHUNK_SIZE: usize = 64 << 10;
/// Maximum number of chunks that wait for the client.
const CHANNEL_CAPACITY: usize = 2;
/// Maximum number of files and directories in an archive, because each is held in memory until the archive ends.
const MAX_ENTRIES: usize = 100_000;
/// Content of at least this size is packed with 64-bit sizes. A little less than 4 GiB, because compression may enlarge
/// incompressible data.
const ZIP64_THRESHOLD: u64 = (4 << 30) - (64 << 20);

/// Maximum number of archives that are packed at the same time, because each uses a CPU core while its client reads.
const MAX_CONCURRENT_ARCHIVES: usize = 8;
/// Maximum number of requests that wait for a free slot, and how long they wait.
const MAX_QUEUED_ARCHIVES: usize = 32;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of files and directories that one archive may name; the contents of directories are not counted.
pub const MAX_ARCHIVE_IDS: usize = 10_000;

/// Pool of threads that pack archives.
pub(super) fn archive_pool() -> Offload {
    Offload::new("archives", MAX_CONCURRENT_ARCHIVES, MAX_QUEUED_ARCHIVES, QUEUE_TIMEOUT)
}

/// Content of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveSpec {
    /// Name without `.zip`; also the name of its single top-level directory.
    pub name: String,
    /// Ids of the files and directories; the contents of directories are included.
    pub ids: Vec<String>,
}

/// An archive in progress, as a stream of chunks. If packing fails, the last item is the error. Dropping the stream
/// stops the reading of files.
pub type ArchiveStream = mpsc::Receiver<Result<Bytes>>;

impl Files {
    /// Stores the content list of an archive for the lifetime of a link; returns its id.
    pub async fn save_archive_spec(&self, instance: &Instance, archive: &ArchiveSpec) -> Result<String> {
        self.put_with_ttl(instance, &ARCHIVES, to_object(archive)?, link::LINK_TTL).await
    }

    /// Returns a stored content list of an archive.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist or has expired.
    pub fn archive_spec(&self, instance: &Instance, id: &str) -> Result<ArchiveSpec> {
        let found = self.get_ephemeral(instance, &ARCHIVES, id)?;
        let found = found
            .ok_or_else(|| Error::NotFound("the archive does not exist or has expired; request it again".to_owned()))?;
        serde_json::from_value(found.into()).map_err(|error| Error::CorruptDocument {
            document: format!("{}/{id}", *ARCHIVES),
            message: error.to_string(),
        })
    }

    /// Starts to build an archive. Each file is included once, even if named twice; files that are deleted meanwhile
    /// are left out.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if an entry of the list does not exist, [`Error::Busy`] if too many archives are being
    /// built.
    pub async fn stream_archive(&self, instance: &Instance, archive: &ArchiveSpec) -> Result<ArchiveStream> {
        let mut named = HashSet::new();
        let ids = archive.ids.iter().filter(|id| named.insert(*id));
        let tops: Vec<File> = ids.map(|id| self.get(instance, id)).collect::<Result<_>>()?;
        let (sender, parts) = mpsc::channel(CHANNEL_CAPACITY);
        let (files, instance, root) = (self.clone(), instance.clone(), sanitize_name(&archive.name));
        let packing = async move {
            let packer = Packer::new(sender.clone());
            let packed = tokio::select! {
                biased;
                () = files.core.draining().cancelled() => Err(Error::Unavailable("the server is shutting down".to_owned())),
                packed = packer.pack(&files, &instance, &root, tops) => packed,
            };
            if let Err(error) = packed {
                // If the client has disconnected, nobody receives the error.
                drop(sender.send(Err(error)).await);
            }
        };
        // Shutdown waits for these tasks, which then no longer wait for anything.
        self.state.archive_offload.spawn(self.core.tasks().track_future(packing)).await?;
        Ok(parts)
    }
}

/// Output of the packer that has not been sent yet.
#[derive(Clone, Default)]
struct ZipBuffer(Arc<Mutex<Vec<u8>>>);

impl ZipBuffer {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for ZipBuffer {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names in use in one directory of the archive, compared without case, because some systems ignore it.
#[derive(Default)]
struct UniqueNames(HashSet<String>);

impl UniqueNames {
    /// Returns a name that is safe on every system and unique in the directory.
    fn allocate(&mut self, wanted: &str) -> String {
        let safe = sanitize_name(wanted);
        let mut name = safe.clone();
        let mut number = 1;
        while !self.0.insert(name.to_lowercase()) {
            number += 1;
            name = with_number_suffix(&safe, number);
        }
        name
    }
}

/// Sends chunks to the client.
struct ChunkSender {
    buffer: ZipBuffer,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl ChunkSender {
    /// Sends the packed output, as fast as the client takes it.
    async fn flush(&self) -> Result<()> {
        let part = self.buffer.take();
        if part.is_empty() {
            return Ok(());
        }
        let disconnected = |_| Error::BadRequest("the client disconnected before the end of the archive".to_owned());
        self.sender.send(Ok(part)).await.map_err(disconnected)
    }
}

struct Packer {
    zip: ZipWriter<StreamWriter<ZipBuffer>>,
    outlet: ChunkSender,
    entries: usize,
}

impl Packer {
    fn new(sender: mpsc::Sender<Result<Bytes>>) -> Self {
        let packed = ZipBuffer::default();
        Self { zip: ZipWriter::new_stream(packed.clone()), outlet: ChunkSender { buffer: packed, sender }, entries: 0 }
    }

    async fn pack(mut self, files: &Files, instance: &Instance, root: &str, tops: Vec<File>) -> Result<()> {
        let mut names = UniqueNames::default();
        let mut todo = Vec::new();
        for file in tops {
            let path = format!("{root}/{}", names.allocate(if file.name.is_empty() { "files" } else { &file.name }));
            self.add_entry((files, instance), &file, &path, &mut todo).await?;
        }
        while let Some((directory, path)) = todo.pop() {
            let (mut names, mut after) = (UniqueNames::default(), None::<String>);
            loop {
                let page = files.children(instance, &directory, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for file in page.into_iter().filter(|file| file.id != TRASH_ID) {
                    let path = format!("{path}/{}", names.allocate(&file.name));
                    self.add_entry((files, instance), &file, &path, &mut todo).await?;
                }
            }
        }
        let Self { zip, outlet, .. } = self;
        zip.finish().map_err(zip_error)?;
        outlet.flush().await
    }

    async fn add_entry(
        &mut self,
        (files, instance): (&Files, &Instance),
        file: &File,
        path: &str,
        todo: &mut Vec<(String, String)>,
    ) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Error::TooLarge(format!("the archive would have more than {MAX_ENTRIES} entries")));
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip_modified_time(file))
            .large_file(file.len() >= ZIP64_THRESHOLD);
        if file.kind == FileKind::Directory {
            self.zip.add_directory(path, options.unix_permissions(0o755)).map_err(zip_error)?;
            todo.push((file.id.clone(), path.to_owned()));
            return self.outlet.flush().await;
        }
        let mut reader = match files.open_content(file).await {
            // The file was deleted or replaced since it was listed.
            Err(Error::Store(konnector_store::Error::BlobNotFound { .. }))
                if !files.has_same_content(instance, file)? =>
            {
                return Ok(());
            }
            reader => reader?,
        };
        let mode = if file.executable.unwrap_or_default() { 0o755 } else { 0o644 };
        self.zip.start_file(path, options.unix_permissions(mode)).map_err(zip_error)?;
        let mut part = vec![0; CHUNK_SIZE];
        loop {
            let read = reader.read(&mut part).await.map_err(Error::io("reading the content of a file"))?;
            if read == 0 {
                return Ok(());
            }
            self.zip
                .write_all(part.get(..read).unwrap_or_default())
                .map_err(Error::io("packing the content of a file"))?;
            self.outlet.flush().await?;
        }
    }
}

fn zip_error(error: zip::result::ZipError) -> Error {
    Error::io("packing files")(error.into())
}

/// Returns the time of the last change for the archive, which supports only the years 1980 to 2107.
fn zip_modified_time(file: &File) -> DateTime {
    let modified = file.updated_at;
    let number = |value: u32| u8::try_from(value).unwrap_or_default();
    let year = u16::try_from(modified.year()).unwrap_or_default();
    DateTime::from_date_and_time(
        year,
        number(modified.month()),
        number(modified.day()),
        number(modified.hour()),
        number(modified.minute()),
        number(modified.second()),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Holds for names that are as similar as possible, and on systems that ignore case.
        #[test]
        fn names_in_an_archive_are_unique_and_stay_in_it(wanted in proptest::collection::vec("[aAé./\\\\ ]{0,3}|\\PC{0,210}", 0..20)) {
            let mut names = UniqueNames::default();
            let given: Vec<String> = wanted.iter().map(|name| names.allocate(name)).collect();
            let unique: HashSet<String> = given.iter().map(|name| name.to_lowercase()).collect();
            prop_assert_eq!(unique.len(), given.len());
            for name in given {
                prop_assert!(!name.contains(['/', '\\']) && name != ".." && name.len() <= 200, "{name:?}");
            }
        }
    }
}
