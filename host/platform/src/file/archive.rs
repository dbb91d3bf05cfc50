//! Several files and directories as one zip archive, made while it is sent: nothing of it is stored.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{Datelike as _, Timelike as _};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{File, Kind, TRASH_ID, link, numbered, safe_name};
use crate::doctype::ARCHIVES;
use crate::instance::Instance;
use crate::offload::Offload;
use crate::stored::object;
use crate::{Error, Platform, Result};

/// Bytes of a content that are packed at a time.
const PART: usize = 64 << 10;
/// Parts that wait for the client.
const WAITING: usize = 2;
/// Files and directories in an archive: each is remembered until its end.
const MOST: usize = 100_000;
/// Contents from this size on have their sizes in 64 bits; a little less than 4 GiB, because packing may add to what cannot be packed.
const LARGE: u64 = (4 << 30) - (64 << 20);

/// Archives that are packed at the same time: each keeps a processor busy for as long as its client takes what is packed.
const MAX_PACKERS: usize = 8;
/// Requests that wait for one of them to end, and for how long.
const MAX_WAITING: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
/// Files and directories that one archive may name; what is in the directories is not counted.
pub const MAX_NAMED: usize = 10_000;

/// Threads that pack archives.
pub(crate) fn packers() -> Offload {
    Offload::new("archives", MAX_PACKERS, MAX_WAITING, PATIENCE)
}

/// What an archive is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its name without `.zip`, which is also that of the one directory in it.
    pub name: String,
    /// Files and directories, by id; what is in a directory comes along.
    pub ids: Vec<String>,
}

/// An archive on its way, in parts. When it breaks off, the last part is the error; when it is dropped, nothing more is read.
pub type Parts = mpsc::Receiver<Result<Bytes>>;

impl Platform {
    /// Keeps the list of an archive for as long as a link works; answers its id.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn leave_archive(&self, instance: &Instance, archive: &Archive) -> Result<String> {
        self.leave(instance, &ARCHIVES, object(archive)?, link::LIFETIME).await
    }

    /// The list of an archive that was left.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, or it is over.
    pub fn archive_left(&self, instance: &Instance, id: &str) -> Result<Archive> {
        let left = self.left(instance, &ARCHIVES, id)?;
        let left = left.ok_or_else(|| Error::NotFound("the archive is not kept any more; ask again".to_owned()))?;
        serde_json::from_value(left.into())
            .map_err(|error| Error::Stored { document: format!("{}/{id}", *ARCHIVES), message: error.to_string() })
    }

    /// Begins to make an archive. What is named twice is in it once; what is deleted meanwhile is left out.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for something of the list, [`Error::Busy`] when too many are being made.
    pub async fn pack(&self, instance: &Instance, archive: &Archive) -> Result<Parts> {
        let mut named = HashSet::new();
        let ids = archive.ids.iter().filter(|id| named.insert(*id));
        let tops: Vec<File> = ids.map(|id| self.file(instance, id)).collect::<Result<_>>()?;
        let (sender, parts) = mpsc::channel(WAITING);
        let (platform, instance, root) = (self.clone(), instance.clone(), safe_name(&archive.name));
        let packing = async move {
            let packer = Packer::new(sender.clone());
            let packed = tokio::select! {
                biased;
                () = platform.stopped() => Err(Error::Unavailable("the server stops".to_owned())),
                packed = packer.pack(&platform, &instance, &root, tops) => packed,
            };
            if let Err(error) = packed {
                // Where the client is gone, nobody is told.
                drop(sender.send(Err(error)).await);
            }
        };
        // The server's end waits for them, and they for nothing then.
        self.packers.begin(self.tasks().track_future(packing)).await?;
        Ok(parts)
    }
}

/// What the packer wrote and nobody has taken yet.
#[derive(Clone, Default)]
struct Packed(Arc<Mutex<Vec<u8>>>);

impl Packed {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Packed {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names that are given in one directory of the archive. Some systems know no case.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// A name that is safe on every system, and that nothing else in the directory has.
    fn give(&mut self, wanted: &str) -> String {
        let safe = safe_name(wanted);
        let mut name = safe.clone();
        let mut number = 1;
        while !self.0.insert(name.to_lowercase()) {
            number += 1;
            name = numbered(&safe, number);
        }
        name
    }
}

/// Where parts go.
struct Outlet {
    packed: Packed,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Outlet {
    /// Hands on what was packed, as fast as the client takes it.
    async fn send(&self) -> Result<()> {
        let part = self.packed.take();
        if part.is_empty() {
            return Ok(());
        }
        let gone = |_| Error::BadRequest("the client did not wait for the end of the archive".to_owned());
        self.sender.send(Ok(part)).await.map_err(gone)
    }
}

struct Packer {
    zip: ZipWriter<StreamWriter<Packed>>,
    outlet: Outlet,
    entries: usize,
}

impl Packer {
    fn new(sender: mpsc::Sender<Result<Bytes>>) -> Self {
        let packed = Packed::default();
        Self { zip: ZipWriter::new_stream(packed.clone()), outlet: Outlet { packed, sender }, entries: 0 }
    }

    async fn pack(mut self, platform: &Platform, instance: &Instance, root: &str, tops: Vec<File>) -> Result<()> {
        let mut names = Names::default();
        let mut todo = Vec::new();
        for file in tops {
            let path = format!("{root}/{}", names.give(if file.name.is_empty() { "files" } else { &file.name }));
            self.add((platform, instance), &file, &path, &mut todo).await?;
        }
        while let Some((directory, path)) = todo.pop() {
            let (mut names, mut after) = (Names::default(), None::<String>);
            loop {
                let page = platform.children(instance, &directory, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for file in page.into_iter().filter(|file| file.id != TRASH_ID) {
                    let path = format!("{path}/{}", names.give(&file.name));
                    self.add((platform, instance), &file, &path, &mut todo).await?;
                }
            }
        }
        let Self { zip, outlet, .. } = self;
        zip.finish().map_err(failed)?;
        outlet.send().await
    }

    async fn add(
        &mut self,
        (platform, instance): (&Platform, &Instance),
        file: &File,
        path: &str,
        todo: &mut Vec<(String, String)>,
    ) -> Result<()> {
        self.entries += 1;
        if self.entries > MOST {
            return Err(Error::TooLarge(format!("the archive would have more than {MOST} entries")));
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(modified(file))
            .large_file(file.len() >= LARGE);
        if file.kind == Kind::Directory {
            self.zip.add_directory(path, options.unix_permissions(0o755)).map_err(failed)?;
            todo.push((file.id.clone(), path.to_owned()));
            return self.outlet.send().await;
        }
        let mut reader = match platform.content(file).await {
            // It was deleted or replaced since it was listed.
            Err(Error::Store(konnector_store::Error::BlobNotFound { .. }))
                if !platform.still_has(instance, file)? =>
            {
                return Ok(());
            }
            reader => reader?,
        };
        let mode = if file.executable.unwrap_or_default() { 0o755 } else { 0o644 };
        self.zip.start_file(path, options.unix_permissions(mode)).map_err(failed)?;
        let mut part = vec![0; PART];
        loop {
            let read = reader.read(&mut part).await.map_err(Error::io("reading the content of a file"))?;
            if read == 0 {
                return Ok(());
            }
            self.zip
                .write_all(part.get(..read).unwrap_or_default())
                .map_err(Error::io("packing the content of a file"))?;
            self.outlet.send().await?;
        }
    }
}

fn failed(error: zip::result::ZipError) -> Error {
    Error::io("packing files")(error.into())
}

/// A zip archive knows the years 1980 to 2107.
fn modified(file: &File) -> DateTime {
    let at = file.updated_at;
    let number = |value: u32| u8::try_from(value).unwrap_or_default();
    let year = u16::try_from(at.year()).unwrap_or_default();
    DateTime::from_date_and_time(
        year,
        number(at.month()),
        number(at.day()),
        number(at.hour()),
        number(at.minute()),
        number(at.second()),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However alike the names are, and on systems that know no case.
        #[test]
        fn names_in_an_archive_are_unique_and_stay_in_it(wanted in proptest::collection::vec("[aAé./\\\\ ]{0,3}|\\PC{0,210}", 0..20)) {
            let mut names = Names::default();
            let given: Vec<String> = wanted.iter().map(|name| names.give(name)).collect();
            let unique: HashSet<String> = given.iter().map(|name| name.to_lowercase()).collect();
            prop_assert_eq!(unique.len(), given.len());
            for name in given {
                prop_assert!(!name.contains(['/', '\\']) && name != ".." && name.len() <= 200, "{name:?}");
            }
        }
    }
}
