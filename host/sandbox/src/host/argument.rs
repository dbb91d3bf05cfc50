//! Arguments of the guest that name something. They are held to a length before they are looked up, hashed or repeated in an error.

use super::wit::Locator;
use crate::capability::CapabilityError;

/// Bytes of a document type; the store takes fewer.
pub(super) const MAX_DOCTYPE: usize = 256;
/// Bytes of an id or a key. Vendors' numbers and addresses are shorter (RFC 9110 §4.1 recommends 8,000 octets for a whole request line).
pub(super) const MAX_NAME: usize = 8 << 10;
/// Bytes of a cursor: those of `documents` hold the values of an index.
pub(super) const MAX_CURSOR: usize = 64 << 10;
/// Bytes of a media type (RFC 6838 §4.2 allows 127 for each of its halves).
pub(super) const MAX_MIME: usize = 1 << 10;
/// Bytes of the text of an error.
const MAX_ERROR: usize = 4 << 10;

/// Refuses a text that is too long.
pub(super) fn check_length(argument: &str, text: &str, most: usize) -> Result<(), CapabilityError> {
    if text.len() > most {
        return Err(CapabilityError::Invalid(format!("{argument}: at most {most} bytes, got {}", text.len())));
    }
    Ok(())
}

/// The same for one that may be absent.
pub(super) fn check_optional_length(argument: &str, text: Option<&String>, most: usize) -> Result<(), CapabilityError> {
    text.map_or(Ok(()), |text| check_length(argument, text, most))
}

/// The same for what names a document or file.
pub(super) fn check_locator(which: &Locator) -> Result<(), CapabilityError> {
    match which {
        Locator::Id(id) => check_length("which.id", id, MAX_NAME),
        Locator::Key(key) => check_length("which.key", key, MAX_NAME),
    }
}

/// The same for several.
pub(super) fn check_locators<'a>(which: impl IntoIterator<Item = &'a Locator>) -> Result<(), CapabilityError> {
    which.into_iter().try_for_each(check_locator)
}

/// Cuts the text of an error: it may repeat what the guest said.
pub(super) fn truncate_error(text: String) -> String {
    konnector_egress::text::truncate(text, MAX_ERROR)
}
