//! The rule for file names. Names are stored in Unicode's composed form (NFC), so names that look alike are equal.

use unicode_normalization::UnicodeNormalization as _;

use crate::{Error, Result};

/// Maximum length of a name, in bytes: the limit of the file systems to which files are synchronised, and of Cozy.
pub const MAX_NAME_LEN: usize = 255;

/// Maximum length of a generated name, in bytes. It leaves room for a number or an extension that other programs add.
const MAX_SAFE_NAME_LEN: usize = 200;

/// Returns a client's name as it is stored; an invalid name is the client's error.
///
/// # Errors
///
/// [`Error::InvalidParameter`] with the reason.
pub fn validate_name(name: &str) -> Result<String> {
    let invalid = |message: &str| Err(Error::InvalidParameter { name: "name", message: message.to_owned() });
    if name.is_empty() || name == "." || name == ".." {
        return invalid("a file name must not be empty, '.' or '..'");
    }
    if name.contains(['/', '\0', '\n', '\r']) {
        return invalid("a file name must not contain a slash, a line break or a NUL character");
    }
    let name: String = name.nfc().collect();
    if name.len() > MAX_NAME_LEN {
        return invalid("a file name must not exceed 255 bytes");
    }
    Ok(name)
}

/// Converts a name from a vendor or a konnector to one that is valid on every system: no separators, no control or
/// bidirectional formatting characters, no reserved Windows names, at most 200 bytes with the extension retained.
#[must_use]
pub fn sanitize_name(wanted: &str) -> String {
    sanitize_name_within(wanted, MAX_SAFE_NAME_LEN)
}

/// Like [`sanitize_name`], with another length.
#[must_use]
pub fn sanitize_name_within(wanted: &str, max_len: usize) -> String {
    let mut name = String::with_capacity(wanted.len());
    for character in wanted.chars() {
        match character {
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => name.push('-'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            character if character.is_control() => {}
            character if character.is_whitespace() => {
                if !name.ends_with(' ') {
                    name.push(' ');
                }
            }
            character => name.push(character),
        }
    }
    let name: String = name.nfc().collect();
    let name = name.trim_matches(' ').trim_end_matches(['.', ' ']);
    let name = truncate(name, max_len);
    let name = name.trim_end_matches(['.', ' ']);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()));
    match name {
        "" | "." | ".." => "file".to_owned(),
        _ if device => format!("_{name}"),
        _ => name.to_owned(),
    }
}

/// Returns the name with a number before the extension, for when it is taken: `bill (2).pdf`.
#[must_use]
pub fn with_number_suffix(name: &str, number: u32) -> String {
    let (stem, extension) = split_extension(name);
    let suffix = format!(" ({number}){extension}");
    format!("{}{suffix}", truncate_stem(stem, MAX_NAME_LEN.saturating_sub(suffix.len())))
}

/// Returns the name of a copy in the same directory: `bill (copy).pdf`.
#[must_use]
pub fn with_copy_suffix(name: &str) -> String {
    let (stem, extension) = split_extension(name);
    let suffix = format!(" (copy){extension}");
    format!("{}{suffix}", truncate_stem(stem, MAX_NAME_LEN.saturating_sub(suffix.len())))
}

fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 16 => name.split_at(dot),
        _ => (name, ""),
    }
}

fn truncate(name: &str, max_len: usize) -> String {
    if name.len() <= max_len {
        return name.to_owned();
    }
    let (stem, extension) = split_extension(name);
    format!("{}{extension}", truncate_stem(stem, max_len.saturating_sub(extension.len())))
}

fn truncate_stem(stem: &str, max_len: usize) -> &str {
    stem.get(..stem.floor_char_boundary(max_len)).unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_names_become_plain_ones() {
        let table = [
            ("../../etc/passwd", "..-..-etc-passwd"),
            ("Facture n°12/2026.pdf", "Facture n°12-2026.pdf"),
            ("CON.pdf", "_CON.pdf"),
            ("a\u{202e}fdp.exe", "afdp.exe"),
            ("  two   words .. ", "two words"),
            ("..", "file"),
            ("", "file"),
            ("line\nbreak", "linebreak"),
            ("re\u{301}sume\u{301}.pdf", "r\u{e9}sum\u{e9}.pdf"),
        ];
        for (wanted, safe) in table {
            assert_eq!(sanitize_name(wanted), safe, "{wanted:?}");
        }
    }

    #[test]
    fn a_number_goes_before_the_extension() {
        assert_eq!(with_number_suffix("bill.pdf", 2), "bill (2).pdf");
        assert_eq!(with_number_suffix("bill", 3), "bill (3)");
    }

    #[test]
    fn a_name_may_have_255_bytes() {
        for length in [1, 200, 201, 254, 255] {
            let name = format!("{}{}", "x".repeat(length % 2), "\u{e9}".repeat(length / 2));
            assert_eq!(validate_name(&name).ok().as_deref(), Some(name.as_str()), "{length}");
            assert!(validate_name(&with_number_suffix(&name, 4_000_000_000)).is_ok(), "{length}");
        }
        // The limit applies to the composed form, which is stored.
        assert!(validate_name(&"e\u{301}".repeat(127)).is_ok());
        insta::assert_snapshot!(validate_name(&"x".repeat(256)).unwrap_err(), @"a file name must not exceed 255 bytes");
        assert_eq!(sanitize_name(&"x".repeat(300)).len(), MAX_SAFE_NAME_LEN);
    }

    proptest! {
        #[test]
        fn a_safe_name_is_valid_and_stays_as_it_is(wanted in "\\PC{0,300}|[./\\\\ \u{0}-\u{1f}a-z\u{202a}-\u{202e}]{0,40}") {
            let safe = sanitize_name(&wanted);
            prop_assert_eq!(validate_name(&safe).ok(), Some(safe.clone()));
            prop_assert_eq!(sanitize_name(&safe), safe.clone());
            prop_assert!(validate_name(&with_number_suffix(&safe, 12)).is_ok());
        }
    }
}
