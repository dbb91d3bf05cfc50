//! JSON values as bytes that sort like the values in CouchDB: null, false, true, numbers, texts, arrays, objects.
//!
//! - Numbers of all kinds are compared by value, exactly.
//! - Texts are in the order of Unicode's root collation (UTS #10, CLDR): symbols, digits, letters; accents count after letters, case after
//!   accents, lower case first. Texts of over 1,024 characters are compared by these.
//! - Arrays and objects are compared item by item, the shorter first; the order of an object's members counts.
//!
//! No value's bytes begin with those of a different one, so the bytes of several values may stand behind each other.

use std::cmp::Ordering;
use std::sync::LazyLock;

use icu_collator::options::CollatorOptions;
use icu_collator::{Collator, CollatorBorrowed};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// How many characters of a text count.
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

/// How [`FieldPath`](crate::FieldPath) finds values; raise it when that changes, so that indexes are built anew.
const PATH_SEMANTICS_VERSION: u8 = 2;

/// Tells orders apart: another version of Unicode's data may sort some texts otherwise, and what was written in the old order is then
/// worthless. So is what was written from other fields.
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

/// Appends a value's bytes.
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

/// The bytes with which every text that begins with this one begins; other texts, too.
pub fn append_text_prefix(prefix: &str, bytes: &mut Vec<u8>) {
    bytes.push(TEXT);
    // A last letter may melt into another one with the accents behind it, which `prefix` does not show; letters of ASCII keep their place.
    let stable = prefix.rfind(|character: char| character.is_ascii()).map_or(0, |last| last + 1);
    let stable = prefix.get(..stable).unwrap_or_default();
    let start = bytes.len();
    append_text(stable, bytes);
    // Up to the end of the first level: what follows compares accents and case, once the letters are the same.
    let letters = bytes.iter().skip(start).take_while(|byte| **byte > LEVEL_SEPARATOR).count();
    bytes.truncate(start + letters);
}

/// What stands between the levels of a collation key (ICU, "Special Byte Values").
const LEVEL_SEPARATOR: u8 = 1;

/// A text's collation key, which holds no zero byte, and one at its end.
fn append_text(value: &str, bytes: &mut Vec<u8>) {
    let end = value.char_indices().nth(MAX_TEXT_CHARACTERS).map_or(value.len(), |(end, _)| end);
    let Ok(()) = COLLATOR.write_sort_key_to(value.get(..end).unwrap_or(value), bytes);
    bytes.push(END);
}

/// The nearest floating-point number, in bits that sort like it, and how far the number is from that one.
fn append_number(value: &Number, bytes: &mut Vec<u8>) {
    // Zero has two signs and one place.
    let nearest = value.as_f64().unwrap_or_default() + 0.0;
    let bits = nearest.to_bits();
    let sorted = if nearest.is_sign_negative() { !bits } else { bits | (1 << 63) };
    #[expect(clippy::cast_possible_truncation, reason = "an integer of at most 64 bits is within 2^65")]
    let distance = value.as_i128().map_or(0, |exact| exact - nearest as i128);
    // 64 bits less the 53 of a floating-point number: never over 2^11.
    let distance = i16::try_from(distance).unwrap_or_default();
    bytes.extend(sorted.to_be_bytes());
    bytes.extend((distance as u16 ^ 0x8000).to_be_bytes());
}

#[cfg(test)]
mod tests;
