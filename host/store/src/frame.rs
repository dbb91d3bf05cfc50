//! The encoding of an entry: format, checksum, content. It detects damage independently of the database below.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Maximum size of an entry that the store writes. A sled page holds up to 17 entries and must stay under 128 KiB,
/// because a larger page becomes a file of its own that sled never syncs.
pub(crate) const MAX_ENTRY_BYTES: usize = 7 * 1024;

/// The only format so far: JSON.
const JSON: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Encodes an entry: `[format][crc32 of the content, big-endian][content]`.
///
/// # Errors
///
/// [`Error::TooLarge`] if the entry exceeds [`MAX_ENTRY_BYTES`].
pub(crate) fn encode<T: Serialize>(describe: impl Fn() -> String, record: &T) -> Result<Vec<u8>> {
    let content = serde_json::to_vec(record)
        .map_err(|error| Error::Invalid { field: "entry", reason: format!("{} is not JSON: {error}", describe()) })?;
    let size = HEADER_BYTES + content.len();
    if size > MAX_ENTRY_BYTES {
        return Err(Error::TooLarge { what: describe(), size, limit: MAX_ENTRY_BYTES });
    }
    let mut bytes = Vec::with_capacity(size);
    bytes.push(JSON);
    bytes.extend(crc32fast::hash(&content).to_be_bytes());
    bytes.extend(content);
    Ok(bytes)
}

/// Decodes the output of [`encode`].
///
/// # Errors
///
/// [`Error::Corrupt`], naming the entry, when the bytes are not such an output.
pub(crate) fn decode<T: DeserializeOwned>(describe: impl Fn() -> String, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(verify(&describe, bytes)?)
        .map_err(|error| Error::Corrupt { what: describe(), reason: error.to_string() })
}

/// Returns the content of an entry, regardless of its type.
///
/// # Errors
///
/// [`Error::Corrupt`], naming the entry, when the bytes differ from the written ones.
pub(crate) fn verify(describe: impl Fn() -> String, bytes: &[u8]) -> Result<&[u8]> {
    let corrupt = |reason: String| Error::Corrupt { what: describe(), reason };
    match bytes {
        [JSON, a, b, c, d, content @ ..] => {
            let (written, found) = (u32::from_be_bytes([*a, *b, *c, *d]), crc32fast::hash(content));
            if written != found {
                return Err(corrupt(format!("checksum {found:08x} instead of {written:08x}")));
            }
            Ok(content)
        }
        [format, ..] => Err(corrupt(format!("the format {format} is unknown"))),
        [] => Err(corrupt("it is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "the entry".to_owned()
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(name, &"content").unwrap();
        assert_eq!(decode::<String>(name, &bytes).unwrap(), "content");
        for position in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[position / 8] ^= 1 << (position % 8);
            assert!(decode::<String>(name, &damaged).is_err(), "bit {position}");
        }
        for length in 0..bytes.len() {
            assert!(decode::<String>(name, &bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn damage_is_reported_with_the_name_of_the_entry() {
        let mut bytes = encode(name, &"content").unwrap();
        bytes[7] ^= 1;
        insta::assert_snapshot!(decode::<String>(name, &bytes).unwrap_err(), @"the entry is damaged (checksum 21cd1a43 instead of 87ba11f7); run konnector fsck --deep, or restore the last backup");
    }

    #[test]
    fn the_limit_counts_the_whole_entry() {
        let overhead = HEADER_BYTES + 2;
        assert_eq!(encode(name, &"x".repeat(MAX_ENTRY_BYTES - overhead)).unwrap().len(), MAX_ENTRY_BYTES);
        assert!(matches!(encode(name, &"x".repeat(MAX_ENTRY_BYTES - overhead + 1)), Err(Error::TooLarge { .. })));
    }
}
