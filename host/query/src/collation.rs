//! Encodes JSON values as bytes that sort like the values in CouchDB: null, false, true, numbers, strings, arrays,
//! objects.
//!
//! - All numbers are compared exactly, by value.
//! - Strings are in the order of Unicode's root collation (UTS #10, CLDR): symbols, digits, letters; accents count
//!   after letters, case after accents, lower case first. Only the first 1,024 characters of a string are compared.
//! - Arrays and objects are compared item by item, the shorter first; the order of an object's fields counts.
//!
//! No encoding is a prefix of a different one, so the encodings of several values may be concatenated.

use std::cmp::Ordering;
use std::sync::LazyLock;

use icu_collator::options::CollatorOptions;
use icu_collator::{Collator, CollatorBorrowed};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// Number of characters of a string that are compared.
const MAX_TEXT_CHARACTERS: usize = 1_024;

const END: u8 = 0x00;
const NULL: u8 = 0x10;
const FALSE: u8 = 0x20;
const TRUE: u8 = 0x21;
const NUMBER: u8 = 0x30;
const TEXT: u8 = 0x40;
const ARRAY: u8 = 0x50;
const OBJECT: u8 = 0x60;

#[expect(clippy::expect_used, reason = "the data of the root collation is compiled in, and a test makes the collator")]
static COLLATOR: LazyLock<CollatorBorrowed<'static>> =
    LazyLock::new(|| Collator::try_new(Default::default(), CollatorOptions::default()).expect("the root collation"));

/// Version of the way in which [`FieldPath`](crate::FieldPath) finds values; increment it when that changes, to rebuild
/// the indexes.
const PATH_SEMANTICS_VERSION: u8 = 2;

/// Identifies the order. Another version of Unicode's data may sort some strings differently, which invalidates data
/// written in the old order. A change of `PATH_SEMANTICS_VERSION` invalidates it, too.
pub static FINGERPRINT: LazyLock<u32> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for character in '\0'..'\u{3000}' {
        append_text(character.encode_utf8(&mut [0; 4]), &mut bytes);
    }
    append_number(&Number::from(1), &mut bytes);
    bytes.push(PATH_SEMANTICS_VERSION);
    let digest = Sha256::digest(&bytes);
    digest.iter().take(4).fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
});

/// Compares two values.
#[must_use]
pub fn collate(one: &Value, other: &Value) -> Ordering {
    let bytes = |value| {
        let mut bytes = Vec::new();
        append_value(value, &mut bytes);
        bytes
    };
    bytes(one).cmp(&bytes(other))
}

/// Appends the encoding of a value.
pub fn append_value(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Null => bytes.push(NULL),
        Value::Bool(false) => bytes.push(FALSE),
        Value::Bool(true) => bytes.push(TRUE),
        Value::Number(value) => {
            bytes.push(NUMBER);
            append_number(value, bytes);
        }
        Value::String(value) => {
            bytes.push(TEXT);
            append_text(value, bytes);
        }
        Value::Array(items) => {
            bytes.push(ARRAY);
            for item in items {
                append_value(item, bytes);
            }
            bytes.push(END);
        }
        Value::Object(members) => {
            bytes.push(OBJECT);
            for (name, value) in members {
                bytes.push(TEXT);
                append_text(name, bytes);
                append_value(value, bytes);
            }
            bytes.push(END);
        }
    }
}

/// Appends a common prefix of the encodings of all strings that begin with `prefix`; other strings may share it.
pub fn append_text_prefix(prefix: &str, bytes: &mut Vec<u8>) {
    bytes.push(TEXT);
    // A last letter may combine with following accents, which `prefix` does not contain, into another letter; ASCII
    // letters keep their place.
    let stable = prefix.rfind(|character: char| character.is_ascii()).map_or(0, |last| last + 1);
    let stable = prefix.get(..stable).unwrap_or_default();
    let start = bytes.len();
    append_text(stable, bytes);
    // Only up to the end of the first level, because the rest compares accents and case, once the letters are the same.
    let letters = bytes.iter().skip(start).take_while(|byte| **byte > LEVEL_SEPARATOR).count();
    bytes.truncate(start + letters);
}

/// Separator between the levels of a collation key (ICU, "Special Byte Values").
const LEVEL_SEPARATOR: u8 = 1;

/// Appends a string's collation key, which contains no zero byte, and a zero byte as terminator.
fn append_text(value: &str, bytes: &mut Vec<u8>) {
    let end = value.char_indices().nth(MAX_TEXT_CHARACTERS).map_or(value.len(), |(end, _)| end);
    let Ok(()) = COLLATOR.write_sort_key_to(value.get(..end).unwrap_or(value), bytes);
    bytes.push(END);
}

/// Appends the nearest floating-point number, in bits that sort like it, and the distance of the number from it.
fn append_number(value: &Number, bytes: &mut Vec<u8>) {
    // Positive and negative zero sort the same.
    let nearest = value.as_f64().unwrap_or_default() + 0.0;
    let bits = nearest.to_bits();
    let sorted = if nearest.is_sign_negative() { !bits } else { bits | (1 << 63) };
    #[expect(clippy::cast_possible_truncation, reason = "an integer of at most 64 bits is within 2^65")]
    let distance = value.as_i128().map_or(0, |exact| exact - nearest as i128);
    // 64 bits less the 53 of a floating-point number: at most 2^11.
    let distance = i16::try_from(distance).unwrap_or_default();
    bytes.extend(sorted.to_be_bytes());
    bytes.extend((distance as u16 ^ 0x8000).to_be_bytes());
}

#[cfg(test)]
mod tests;
