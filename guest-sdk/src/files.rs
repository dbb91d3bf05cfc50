//! The user's files, as far as the manifest's rules permit: reading them, their metadata, and the folders below the
//! account's folder.

use std::io::{self, Read, Seek, SeekFrom};

use crate::bindings::konnector::host::files::Reference;
use crate::host::files::OpenFile;
use crate::save::Metadata;
use crate::{Error, Locator, Result, host};

/// A file, a folder, and the metadata of either.
pub use crate::bindings::konnector::host::files::{Details, Entry, File, Folder as FolderEntry};

/// The contract's limit for one read.
const CHUNK_BYTES: u32 = 1024 * 1024;
/// Entries per request.
const PAGE: u32 = 500;

/// Reads the content that a file had when it was opened, regardless of later changes.
pub struct FileReader {
    handle: OpenFile,
    position: u64,
}

/// Opens a file for reading.
///
/// # Errors
///
/// [`Error::Denied`] if the manifest has no rule for it, [`Error::Bug`] if it does not exist or is a folder.
pub fn open(locator: &Locator) -> Result<FileReader> {
    Ok(FileReader { handle: host::files::open(locator)?, position: 0 })
}

/// Reads the whole content of a file.
///
/// # Errors
///
/// As [`open`].
pub fn read(locator: &Locator) -> Result<Vec<u8>> {
    let content = open(locator)?;
    let mut bytes = Vec::with_capacity(usize::try_from(content.size()).unwrap_or_default());
    loop {
        let part = content.handle.read(bytes.len() as u64, CHUNK_BYTES)?;
        if part.is_empty() {
            return Ok(bytes);
        }
        bytes.extend(part);
    }
}

impl FileReader {
    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.handle.size()
    }
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileReader").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max_length = u32::try_from(buffer.len()).unwrap_or(u32::MAX).min(CHUNK_BYTES);
        let part = self.handle.read(self.position, max_length).map_err(|error| io::Error::other(Error::from(error)))?;
        for (target, byte) in buffer.iter_mut().zip(&part) {
            *target = *byte;
        }
        self.position += part.len() as u64;
        Ok(part.len())
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// Returns the details of a file or folder.
///
/// # Errors
///
/// As [`open`].
pub fn describe(locator: &Locator) -> Result<Details> {
    Ok(host::files::describe(locator)?)
}

/// Merges fields into the metadata of a file; fields that are null are deleted (RFC 7396).
///
/// # Errors
///
/// As [`open`], and [`Error::LimitReached`] if the metadata takes more than 64 KiB.
pub fn merge_metadata(locator: &Locator, patch: &Metadata) -> Result<()> {
    Ok(host::files::merge_metadata(locator, &patch.to_json())?)
}

/// Adds a reference from a file or folder to a document, for example to the album that contains it. Costs nothing if
/// the reference exists already.
///
/// # Errors
///
/// As [`open`].
pub fn add_reference(locator: &Locator, doctype: &str, id: &str) -> Result<()> {
    Ok(host::files::add_references(locator, &[reference(doctype, id)])?)
}

/// Removes a reference from a file or folder to a document.
///
/// # Errors
///
/// As [`open`].
pub fn remove_reference(locator: &Locator, doctype: &str, id: &str) -> Result<()> {
    Ok(host::files::remove_references(locator, &[reference(doctype, id)])?)
}

fn reference(doctype: &str, id: &str) -> Reference {
    Reference { doctype: doctype.to_owned(), id: id.to_owned() }
}

/// Moves and renames a file below the account's folder. If the name is taken, a number is added.
///
/// # Errors
///
/// As [`open`]; [`Error::Denied`] if the user moved the file elsewhere.
pub fn move_file(locator: &Locator, to: &Folder, name: &str) -> Result<File> {
    Ok(host::files::move_file(locator, &to.path, name)?)
}

/// A folder below the account's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folder {
    path: String,
}

impl Folder {
    /// Returns the account's own folder.
    #[must_use]
    pub fn account_root() -> Self {
        Self::default()
    }

    /// Returns a folder in this folder: `Folder::account_root().subfolder("2026")`.
    #[must_use]
    pub fn subfolder(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path).trim_start_matches('/').to_owned() }
    }

    /// Creates the folder if it is missing; returns it with its id, for documents that refer to it.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if the manifest has no rule for it, and errors of the host.
    pub fn ensure(&self) -> Result<FolderEntry> {
        Ok(host::files::ensure_folder(&self.path)?)
    }

    /// Returns the folder's entries, sorted by name; empty if the folder does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if the manifest has no rule for it, and errors of the host.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let (mut entries, mut cursor) = (Vec::new(), None);
        loop {
            let page = host::files::list_folder(&self.path, PAGE, cursor.as_deref())?;
            entries.extend(page.entries);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(entries),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Client, FileSource};
    use crate::save::{File as NewFile, save_files};
    use crate::testing::MockHost;
    use serde_json::json;

    fn save(file: NewFile) {
        assert_eq!(save_files(&Client::new("https://a.example").unwrap(), [file]).unwrap().problems(), []);
    }

    fn key(key: &str) -> Locator {
        Locator::Key(key.to_owned())
    }

    #[test]
    fn reads_a_file_in_chunks_and_at_any_place() {
        let _host = MockHost::new();
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        save(NewFile::new("large.bin", FileSource::from_bytes(content.clone())));
        assert_eq!(read(&key("large.bin")), Ok(content.clone()));
        let mut open = open(&key("large.bin")).unwrap();
        assert_eq!(open.size(), 3_000_000);
        assert_eq!(open.seek(SeekFrom::End(-3)).unwrap(), 2_999_997);
        let mut end = Vec::new();
        open.read_to_end(&mut end).unwrap();
        assert_eq!(end, content[2_999_997..]);
        assert!(open.seek(SeekFrom::Current(-4_000_000)).is_err());
    }

    #[test]
    fn an_open_file_stays_what_it_was() {
        let _host = MockHost::new();
        save(NewFile::new("a.txt", FileSource::from_bytes("before")));
        let mut before = open(&key("a.txt")).unwrap();
        save(NewFile::new("a.txt", FileSource::from_bytes("after, and longer")).overwrite());
        let mut text = String::new();
        before.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before");
        assert_eq!(read(&key("a.txt")).unwrap(), b"after, and longer");
    }

    #[test]
    fn what_is_known_about_a_file_is_merged() {
        let host = MockHost::new();
        let metadata = Metadata::new().author("bank").with_field("old", true);
        save(
            NewFile::new("a.pdf", FileSource::from_bytes("%PDF-1.7 %%EOF"))
                .metadata(metadata)
                .reference("io.cozy.bills", "7"),
        );
        let patch = Metadata::new().with_field("old", ()).qualification("isp_invoice");
        merge_metadata(&key("a.pdf"), &patch).unwrap();
        let merged = json!({ "contentAuthor": "bank", "qualification": { "label": "isp_invoice" } });
        assert_eq!(host.files()[0].metadata, merged);
        add_reference(&key("a.pdf"), "io.cozy.photos.albums", "summer").unwrap();
        remove_reference(&key("a.pdf"), "io.cozy.bills", "7").unwrap();
        let details = describe(&key("a.pdf")).unwrap();
        let references: Vec<_> = details.references.iter().map(|reference| reference.id.as_str()).collect();
        assert_eq!(references, ["summer"]);
        assert!(describe(&key("b.pdf")).is_err());
    }

    #[test]
    fn folders_are_created_listed_and_moved_into() {
        let _host = MockHost::new();
        let year = Folder::account_root().subfolder("2026");
        assert_eq!(year.entries().unwrap().len(), 0);
        let folder = year.ensure().unwrap();
        assert_eq!((folder.id.as_str(), folder.path.as_str()), ("folder-2026", "2026"));
        save(NewFile::new("a.txt", FileSource::from_bytes("a")));
        let moved = move_file(&key("a.txt"), &year, "b.txt").unwrap();
        assert_eq!(moved.path, "2026/b.txt");
        let name = |entry: &Entry| match entry {
            Entry::File(file) => file.path.clone(),
            Entry::Folder(folder) => format!("{}/", folder.path),
        };
        let names = |folder: Folder| folder.entries().unwrap().iter().map(name).collect::<Vec<_>>();
        assert_eq!(names(year), ["2026/b.txt"]);
        assert_eq!(names(Folder::account_root()), ["2026/"]);
    }
}
