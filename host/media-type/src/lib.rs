//! Media types of files: detection from the first bytes of a file. A magic number counts only if it is unambiguous, because any
//! text may begin with `BM`, `MZ`, `GIF` or `%!` without being a bitmap, program or picture.

/// Magic numbers of letters that identify a type unambiguously.
const UNAMBIGUOUS_MAGIC: [&[u8]; 4] = [b"%PDF-", b"%!PS-", b"{\\rtf", b"!<arch>\n"];

/// Sizes of the second header of a bitmap, which distinguish its versions.
const BITMAP_HEADER_SIZES: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];

/// A content that begins like a text is binary if more than one in this many bytes is binary. Old programs end texts
/// with a control character.
const MAX_BYTES_PER_BINARY_BYTE: usize = 64;

/// Detects the media type if the beginning of a content determines it unambiguously.
#[must_use]
pub fn detect(beginning: &[u8]) -> Option<&'static str> {
    let found = infer::get(beginning)?.mime_type();
    let binary = beginning.iter().filter(|byte| is_binary(**byte)).count();
    let begins_as_text = beginning.get(..4).unwrap_or(beginning).iter().all(|byte| matches!(byte, b' '..=b'~'));
    let is_certain = match found {
        "image/bmp" => is_bitmap(beginning),
        found if found.starts_with("text/") => true,
        _ if UNAMBIGUOUS_MAGIC.iter().any(|magic| beginning.starts_with(magic)) => true,
        _ if begins_as_text => binary * MAX_BYTES_PER_BINARY_BYTE > beginning.len(),
        _ => binary > 0,
    };
    is_certain.then_some(found)
}

/// Guesses the media type of a file from its name alone.
#[must_use]
pub fn from_name(name: &str) -> &'static str {
    known_for_name(name).unwrap_or("application/octet-stream")
}

/// Returns the media type that the extension of a name stands for, if it is known.
#[must_use]
pub fn known_for_name(name: &str) -> Option<&'static str> {
    mime_guess::from_path(name).first_raw()
}

/// Determines the media type of a content from its beginning and its name. The name counts if the content determines no
/// type, or a less specific one, such as text for a table or a picture, or an archive for an office document.
#[must_use]
pub fn detect_with_name(beginning: &[u8], name: &str) -> &'static str {
    let named = known_for_name(name);
    match (detect(beginning), named) {
        (Some(found), Some(named)) if is_more_specific(named, found) => named,
        (Some(found), _) => found,
        (None, named) => named.unwrap_or("application/octet-stream"),
    }
}

fn is_more_specific(named: &str, found: &str) -> bool {
    let is_text = || {
        named.starts_with("text/")
            || ["json", "xml", "javascript", "sql", "x-sh"].iter().any(|kind| named.ends_with(kind))
    };
    match found {
        "text/html" | "text/xml" | "text/x-shellscript" => is_text(),
        "application/zip" => {
            named.starts_with("application/vnd.oasis.")
                || named.starts_with("application/vnd.openxmlformats")
                || matches!(named, "application/epub+zip" | "application/java-archive")
        }
        "application/x-ole-storage" => named.starts_with("application/vnd.ms-") || named == "application/msword",
        _ => false,
    }
}

/// Returns whether a byte cannot occur in a text whose encoding extends ASCII (MIME Sniffing Standard, "binary data
/// byte").
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

/// Checks for two letters, the size of the following header, and pixels that begin after both.
fn is_bitmap(beginning: &[u8]) -> bool {
    let number = |offset: usize| beginning.get(offset..offset + 4)?.try_into().ok().map(u32::from_le_bytes);
    match (number(10), number(14)) {
        (Some(pixels), Some(header)) => BITMAP_HEADER_SIZES.contains(&header) && pixels >= 14 + header,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BITMAP: &[u8] = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x02\0\0\0\x01\0\x18\0";

    #[test]
    fn no_text_is_detected_as_binary() {
        let printable = || (b' '..=b'~').chain([b'\t', b'\n', 0xe9]);
        let mut content = *b"???;date;amount\r\n2026-11-03;42,10;caf\xe9\r\n";
        for first in printable() {
            for second in printable() {
                for third in [b'h', b'S', b'3', b'F', b'O', b';', b' ', b'\n'] {
                    content[..3].copy_from_slice(&[first, second, third]);
                    let found = detect(&content);
                    assert!(found.is_none_or(|found| found.starts_with("text/")), "{:?}: {found:?}", &content[..3]);
                }
            }
        }
        for word in [
            "BMO", "MZ", "GIF8", "GIF89a", "ID3", "BZh", "RIFF", "OggS", "fLaC", "FORM", "MAC ", "Rar!", "LZIP",
            "8BPS", "%!", "SQLi",
        ] {
            assert_eq!(detect(format!("{word};1\n").as_bytes()), None, "{word}");
            // DOS programs end their texts like this.
            assert_eq!(detect(format!("{word};{}\u{1a}", "42;".repeat(30)).as_bytes()), None, "{word}");
            assert_eq!(detect(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn binary_content_is_detected() {
        for (content, mime) in [
            (BITMAP, "image/bmp"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0\x80\0\0", "image/gif"),
            (
                b"PK\x03\x04\x14\0\0\0\0\0a long text that is only stored in the archive and not compressed at all",
                "application/zip",
            ),
            (b"\x1f\x8b\x08\0\0\0\0\0", "application/gzip"),
            (b"%PDF-1.7\n1 0 obj\n", "application/pdf"),
            (b"{\\rtf1\\ansi text}", "application/rtf"),
            (b"%!PS-Adobe-3.0\n", "application/postscript"),
            (b"<!DOCTYPE html><html>", "text/html"),
            (b"<?xml version=\"1.0\"?>", "text/xml"),
            (b"ID3\x03\0\0\0\0\0\0", "audio/mpeg"),
        ] {
            assert_eq!(detect(content), Some(mime));
        }
    }

    #[test]
    fn the_name_wins_if_it_is_more_specific() {
        for (content, name, mime) in [
            (&b"BMO;1\n"[..], "lines.csv", "text/csv"),
            (b"BMO;1\n", "lines", "application/octet-stream"),
            (b"<?xml version=\"1.0\"?><svg>", "icon.svg", "image/svg+xml"),
            (b"<!-- notes -->", "notes.md", "text/markdown"),
            (b"<!DOCTYPE html><html>", "bill.pdf", "text/html"),
            (
                b"PK\x03\x04\x14\0\0\0\0\0",
                "sheet.xlsx",
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            ),
            (b"PK\x03\x04\x14\0\0\0\0\0", "sheet.pdf", "application/zip"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "photo.jpg", "image/png"),
            (BITMAP, "photo.txt", "image/bmp"),
        ] {
            assert_eq!(detect_with_name(content, name), mime, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_any_script_is_binary(text in "[A-Z!%@{]{0,8}\\PC{0,200}") {
            let found = detect(text.as_bytes());
            let is_named = UNAMBIGUOUS_MAGIC.iter().any(|magic| text.as_bytes().starts_with(magic));
            prop_assert!(is_named || found.is_none_or(|found| found.starts_with("text/")), "{:?}", found);
        }
    }
}
