//! Archives of bundles: tar, gzipped or not.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use flate2::{Compression, GzBuilder};

use super::gzip::Members;
use crate::{Error, Result};

/// Bytes of one file in a bundle.
const LARGEST_FILE: u64 = 32 << 20;
/// Bytes of all files that are kept.
const LARGEST_BUNDLE: u64 = 64 << 20;
/// Entries of an archive.
const MOST_ENTRIES: usize = 10_000;

/// Packs files, by name. The same files give the same bytes, so that checksums can be compared: sorted, without dates and owners.
///
/// # Errors
///
/// When a name is longer than the format allows, or leads out of the archive.
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

/// The files of an archive, by name.
pub(super) fn unpack(bytes: &[u8]) -> Result<HashMap<String, Vec<u8>>> {
    let Some(mut members) = Members::of(bytes) else { return read(bytes) };
    let files = read(&mut members)?;
    // The end of the archive is not that of the stream: what comes after it must be whole, too, and little.
    let mut rest = members.take(LARGEST_BUNDLE);
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(broken)?;
    Ok(files)
}

fn broken(error: std::io::Error) -> Error {
    Error::Unreachable(format!("the source is no readable tar archive: {error}"))
}

fn read(archive: impl Read) -> Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    let mut total = 0;
    let mut archive = tar::Archive::new(archive);
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let entry = entry.map_err(broken)?;
        if number >= MOST_ENTRIES {
            return Err(Error::TooLarge(format!("the archive has more than {MOST_ENTRIES} entries")));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name =
            entry.path().map_err(broken)?.to_string_lossy().trim_start_matches("./").trim_start_matches('/').to_owned();
        let bytes = bounded(entry, &name)?;
        total += bytes.len() as u64;
        if total > LARGEST_BUNDLE {
            return Err(Error::TooLarge(format!("the archive unpacks to more than {LARGEST_BUNDLE} bytes")));
        }
        files.insert(name, bytes);
    }
    Ok(files)
}

/// The bytes of a file of a bundle.
pub(super) fn bounded(reader: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::Unreachable(format!("'{name}' cannot be read from the source: {error}")))?;
    check_size(name, bytes.len() as u64)?;
    Ok(bytes)
}

/// Refuses a file that is larger than those of bundles may be.
pub(super) fn check_size(name: &str, size: u64) -> Result<()> {
    if size > LARGEST_FILE {
        return Err(Error::TooLarge(format!("'{name}' in the source is larger than {LARGEST_FILE} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = BTreeMap::from([("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"1".to_vec())]);
        let bytes = pack(&files).expect("packed");
        assert_eq!(bytes, pack(&files).expect("packed"));
        assert_eq!(unpack(&bytes).expect("unpacked"), files.into_iter().collect());
    }

    #[test]
    fn an_archive_of_several_members_is_read_to_its_end() {
        use std::io::Write as _;

        let files: BTreeMap<_, _> = (0..20).map(|number| (format!("{number:02}"), vec![number; 1_000])).collect();
        let mut tar = Vec::new();
        Members::of(&pack(&files).expect("packed")).expect("gzip").read_to_end(&mut tar).expect("unpacked");
        let member = |part: &[u8]| {
            let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
            gzip.write_all(part).expect("written");
            gzip.finish().expect("finished")
        };
        let members: Vec<u8> = tar.chunks(700).flat_map(member).collect();
        assert_eq!(unpack(&members).expect("unpacked"), files.into_iter().collect());
        // Also where it breaks off behind the last file.
        assert!(unpack(members.get(..members.len() - 1).expect("a part")).is_err());
    }
}
