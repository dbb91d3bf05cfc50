//! Guest arguments that name something. Their length is checked before they are looked up, hashed or repeated in an
//! error.

use super::wit::Locator;
use crate::capability::CapabilityError;

/// Maximum size of a doctype in bytes; the store's own limit is lower.
pub(super) const MAX_DOCTYPE: usize = 256;
/// Maximum size of an id or a key in bytes. Vendors' numbers and URLs are shorter (RFC 9110 §4.1 recommends 8,000
/// octets for a whole request line).
pub(super) const MAX_NAME: usize = 8 << 10;
/// Maximum size of a cursor in bytes. The cursors of `documents` contain the values of an index.
pub(super) const MAX_CURSOR: usize = 64 << 10;
/// Maximum size of a media type in bytes (RFC 6838 §4.2 allows 127 for each of its halves).
pub(super) const MAX_MIME: usize = 1 << 10;
/// Maximum size of an error message in bytes.
const MAX_ERROR: usize = 4 << 10;

/// Rejects a string that is too long.
pub(super) fn check_length(argument: &str, text: &str, max: usize) -> Result<(), CapabilityError> {
    if text.len() > max {
        return Err(CapabilityError::Invalid(format!(
            "{argument}: got {} bytes, but at most {max} are allowed",
            text.len()
        )));
    }
    Ok(())
}

/// Like [`check_length`], for an optional string.
pub(super) fn check_optional_length(argument: &str, text: Option<&String>, max: usize) -> Result<(), CapabilityError> {
    text.map_or(Ok(()), |text| check_length(argument, text, max))
}

/// Like [`check_length`], for the locator of a document or file.
pub(super) fn check_locator(locator: &Locator) -> Result<(), CapabilityError> {
    match locator {
        Locator::Id(id) => check_length("locator.id", id, MAX_NAME),
        Locator::Key(key) => check_length("locator.key", key, MAX_NAME),
    }
}

/// Like [`check_locator`], for several locators.
pub(super) fn check_locators<'a>(locators: impl IntoIterator<Item = &'a Locator>) -> Result<(), CapabilityError> {
    locators.into_iter().try_for_each(check_locator)
}

/// Truncates an error message, because it may repeat a guest's argument.
pub(super) fn truncate_error(text: String) -> String {
    konnector_egress::text::truncate(text, MAX_ERROR)
}
