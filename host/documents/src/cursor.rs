//! Cursors: strings with which clients continue a list. Clients must not make them up, so a cursor names its list and
//! has a checksum; otherwise a mistyped cursor, or one of another list, would silently skip items.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Size of the checksum in bytes. It detects mistakes, not forgery, because a forged cursor gains nothing.
const CHECKSUM_SIZE: usize = 6;

fn checksum(list: &str, position: &str) -> [u8; CHECKSUM_SIZE] {
    let digest = Sha256::new().chain_update(list).chain_update([0]).chain_update(position).finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

/// Returns the cursor of a position in a list. `list` identifies the list; the cursor is valid for this list only.
#[must_use]
pub fn encode(list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode([checksum(list, position).as_slice(), position.as_bytes()].concat())
}

/// Returns the position of a cursor; `None` if the cursor is not one of this list.
#[must_use]
pub fn decode(list: &str, cursor: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (expected, position) = bytes.split_first_chunk::<CHECKSUM_SIZE>()?;
    let position = str::from_utf8(position).ok()?;
    (checksum(list, position) == *expected).then(|| position.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_valid_for_its_list_only() {
        for position in ["", "b", "Reports & more", "\u{e9}\u{1f600}"] {
            let cursor = encode("files/1", position);
            assert_eq!(decode("files/1", &cursor).as_deref(), Some(position));
            assert_eq!(decode("files/2", &cursor), None, "another list");
            assert_eq!(decode("files/1", &format!("{cursor}A")), None, "changed");
        }
        for wrong in ["", "zzz", "b", "nonsense!", "zzzzzzzzzzzz"] {
            assert_eq!(decode("files/1", wrong), None, "{wrong}");
        }
    }
}
