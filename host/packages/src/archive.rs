//! Bundle archives: tar, optionally gzipped.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use flate2::{Compression, GzBuilder};
use tar::{Entry, EntryType};

use super::gzip::GzipMembers;
use crate::{Error, Result};

/// Maximum size of one file in a bundle, in bytes. A component is a few MiB, and compiling it takes many times its
/// size.
pub(super) const MAX_FILE_SIZE: u64 = 32 << 20;
/// Maximum unpacked size of an archive in bytes, including headers and skipped entries, because all files are held in
/// memory at once.
pub(super) const MAX_BUNDLE_SIZE: u64 = 64 << 20;
/// Maximum number of entries in an archive. A bundle has three files, a repository packed as a whole a few thousand.
const MAX_ENTRIES: usize = 10_000;
/// Error message for a sparse file.
const SPARSE_FILE_MESSAGE: &str =
    "the archive contains a sparse file; pack it without sparse files, for example with `konnector pack`";
/// Maximum size in bytes of a header extension, which holds a name or pax records. The longest path on Linux has 4,096.
const MAX_EXTENSION_SIZE: u64 = 64 << 10;

/// Packs files by name. Files are sorted, without dates and owners, so the same files give the same bytes and checksums
/// can be compared.
///
/// # Errors
///
/// If a name is longer than the format allows, or points outside the archive.
pub fn pack(files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let mut builder = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    builder.into_inner()?.finish()
}

/// Reads the files of an archive; returns their contents by name.
pub(super) fn unpack(bytes: &[u8]) -> Result<HashMap<String, Vec<u8>>> {
    let Some(members) = GzipMembers::detect(bytes) else {
        return read_entries(UnpackLimit { inner: bytes, remaining: MAX_BUNDLE_SIZE });
    };
    let mut unpacked = UnpackLimit { inner: members, remaining: MAX_BUNDLE_SIZE };
    let files = read_entries(&mut unpacked)?;
    // The end of the archive is not the end of the stream. The rest must be intact, too, and short.
    io::copy(&mut unpacked, &mut io::sink()).map_err(archive_error)?;
    Ok(files)
}

fn read_entries(archive: impl Read) -> Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(archive);
    let mut name = None;
    // The library would read extensions of any size into memory; therefore they are read here.
    for (number, entry) in archive.entries().map_err(archive_error)?.raw(true).enumerate() {
        let mut entry = entry.map_err(archive_error)?;
        if number >= MAX_ENTRIES {
            return Err(Error::TooLarge(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let bytes = read_extension(&mut entry)?;
                name = Some(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
            }
            EntryType::XHeader => {
                if let Some(path) = pax_path(&read_extension(&mut entry)?)? {
                    name = Some(path);
                }
            }
            // Link targets, and records for all following entries. Neither changes a regular file.
            EntryType::GNULongLink | EntryType::XGlobalHeader => drop(read_extension(&mut entry)?),
            EntryType::GNUSparse => {
                return Err(Error::Unreachable(SPARSE_FILE_MESSAGE.to_owned()));
            }
            kind => {
                let name = name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                if kind.is_file() {
                    let name = String::from_utf8_lossy(&name);
                    let name = name.trim_start_matches("./").trim_start_matches('/').to_owned();
                    let bytes = read_bounded(entry, &name, MAX_FILE_SIZE)?;
                    files.insert(name, bytes);
                }
            }
        }
    }
    Ok(files)
}

fn archive_error(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<UnpackLimitExceeded>()) {
        Some(too_much) => Error::TooLarge(too_much.to_string()),
        None => Error::Unreachable(format!("the source is not a readable tar archive: {error}")),
    }
}

/// Reads the content of an entry that describes the next one.
fn read_extension(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION_SIZE + 1).read_to_end(&mut bytes).map_err(archive_error)?;
    if bytes.len() as u64 > MAX_EXTENSION_SIZE {
        return Err(Error::TooLarge(format!(
            "the archive has a header that is longer than {MAX_EXTENSION_SIZE} bytes; use shorter file names"
        )));
    }
    Ok(bytes)
}

/// Returns the path in pax records, which are lines such as `30 path=a/file`. Other readers also take a size from these
/// records, and would then read a different archive. Records with a size, which only files of more than 8 GiB need, are
/// therefore rejected.
fn pax_path(records: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut path = None;
    for record in tar::PaxExtensions::new(records) {
        let record = record.map_err(archive_error)?;
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            b"size" => return Err(Error::TooLarge("the archive contains a file that is larger than 8 GiB".to_owned())),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::Unreachable(SPARSE_FILE_MESSAGE.to_owned()));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Reader that limits the number of unpacked bytes.
struct UnpackLimit<R> {
    inner: R,
    remaining: u64,
}

impl<R: Read> Read for UnpackLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.remaining =
            self.remaining.checked_sub(read as u64).ok_or_else(|| io::Error::other(UnpackLimitExceeded))?;
        Ok(read)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the archive unpacks to more than {MAX_BUNDLE_SIZE} bytes")]
struct UnpackLimitExceeded;

/// Reads a file of a bundle, up to `max_size` bytes.
pub(super) fn read_bounded(reader: impl Read, name: &str, max_size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max_size + 1).read_to_end(&mut bytes).map_err(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<UnpackLimitExceeded>()) {
            Some(too_much) => Error::TooLarge(too_much.to_string()),
            None => Error::Unreachable(format!("'{name}' cannot be read from the source: {error}")),
        }
    })?;
    check_size(name, bytes.len() as u64, max_size)?;
    Ok(bytes)
}

/// Rejects a file that is larger than `max_size`.
pub(super) fn check_size(name: &str, size: u64, max_size: u64) -> Result<()> {
    if size > max_size {
        return Err(Error::TooLarge(format!("'{name}' in the source is larger than {max_size} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
