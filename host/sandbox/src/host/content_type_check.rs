//! Checks a file's content against its name or media type. A vendor whose session has expired returns a login page
//! instead of a bill, with status 200. Such a page must not be stored as `bill.pdf`.

use crate::capability::Target;

/// Bytes at the beginning of a content that are examined.
pub(super) const HEAD_BYTES: usize = 4 << 10;
/// Bytes at the end of a content that are examined. Readers look for the end of a PDF in the last 1 KiB (ISO 32000-1,
/// annex H, note 18).
pub(super) const TAIL_BYTES: usize = 1 << 10;

/// A kind of content that its first bytes distinguish from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentKind {
    Pdf,
    /// Also OpenDocument, Office Open XML and EPUB, which are ZIP archives.
    Zip,
    Gzip,
    /// A raster image in a format that [`konnector_media_type::detect`] knows.
    Image,
    /// HTML and its relatives.
    Markup,
    /// Text that is not HTML.
    Text,
    /// Any other known type, such as audio.
    Other,
}

/// The expected kind and media type; `None` if any content is accepted.
#[derive(Debug)]
pub(super) struct ContentTypeCheck(Option<(ContentKind, String)>);

impl ContentTypeCheck {
    /// Derives the expectation from the media type if it is given, else from the extension of the name.
    pub(super) fn for_target(target: &Target) -> Self {
        let declared =
            target.mime.as_deref().map(|mime| mime.split(';').next().unwrap_or(mime).trim().to_ascii_lowercase());
        let mime = declared
            .filter(|mime| !mime.is_empty() && mime != "application/octet-stream")
            .or_else(|| konnector_media_type::known_for_name(&target.name).map(str::to_owned));
        Self(mime.map(|mime| (content_kind(&mime), mime)))
    }

    /// Compares the expectation with the first bytes of the content.
    ///
    /// # Errors
    ///
    /// If the types differ; the message contains the expected and the actual type.
    pub(super) fn check(&self, beginning: &[u8]) -> Result<(), String> {
        let Some((expected, mime)) = &self.0 else { return Ok(()) };
        let beginning = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
        let found = konnector_media_type::detect(beginning);
        let found_kind = found.map(content_kind);
        let is_expected = match expected {
            // Readers accept up to 1 KiB before the header (ISO 32000-1, annex H, note 13).
            ContentKind::Pdf => {
                beginning.get(..1 << 10).unwrap_or(beginning).windows(5).any(|window| window == b"%PDF-")
            }
            ContentKind::Zip | ContentKind::Gzip | ContentKind::Image => found_kind == Some(*expected),
            ContentKind::Markup => {
                found_kind.is_none_or(|found| matches!(found, ContentKind::Markup | ContentKind::Text))
            }
            ContentKind::Text => match found_kind {
                None | Some(ContentKind::Text) => true,
                Some(ContentKind::Markup) => !is_html_page(beginning),
                Some(_) => false,
            },
            ContentKind::Other => found_kind != Some(ContentKind::Markup),
        };
        if is_expected {
            return Ok(());
        }
        let actual = match found {
            _ if beginning.is_empty() => "an empty file".to_owned(),
            Some(found) => found.to_owned(),
            None => "an unknown type".to_owned(),
        };
        Err(format!("expected {mime}, got {actual}"))
    }

    /// Returns whether the content ends with the end marker of its kind. A server that closes the connection without
    /// having declared a length may have sent only a part.
    pub(super) fn is_complete(&self, end: &ContentTail) -> bool {
        let Some((ContentKind::Pdf, _)) = &self.0 else { return true };
        end.0.windows(5).any(|window| window == b"%%EOF")
    }
}

/// The last bytes of a content that arrives in parts.
#[derive(Debug, Default)]
pub(super) struct ContentTail(Vec<u8>);

impl ContentTail {
    pub(super) fn push(&mut self, part: &[u8]) {
        let part = part.get(part.len().saturating_sub(TAIL_BYTES)..).unwrap_or(part);
        let kept_bytes = TAIL_BYTES - part.len();
        self.0.drain(..self.0.len().saturating_sub(kept_bytes));
        self.0.extend_from_slice(part);
    }
}

/// Returns whether a text that begins like HTML is a page, and not a note or a table whose first word is in angle
/// brackets.
fn is_html_page(beginning: &[u8]) -> bool {
    let text = String::from_utf8_lossy(beginning).to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body", "<script", "<form", "<meta", "<title"]
        .iter()
        .any(|tag| text.contains(tag))
}

fn content_kind(mime: &str) -> ContentKind {
    match mime {
        "application/pdf" => ContentKind::Pdf,
        "application/zip" | "application/epub+zip" | "application/java-archive" => ContentKind::Zip,
        "application/gzip" | "application/x-gzip" => ContentKind::Gzip,
        "text/html" | "application/xhtml+xml" | "application/xml" | "text/xml" | "image/svg+xml" => ContentKind::Markup,
        "application/json" | "application/x-ndjson" | "application/x-ofx" => ContentKind::Text,
        mime if mime.starts_with("application/vnd.oasis.opendocument.") => ContentKind::Zip,
        mime if mime.starts_with("application/vnd.openxmlformats-officedocument.") => ContentKind::Zip,
        "image/jpeg"
        | "image/png"
        | "image/gif"
        | "image/webp"
        | "image/bmp"
        | "image/tiff"
        | "image/heif"
        | "image/heic"
        | "image/avif"
        | "image/jxl"
        | "image/vnd.microsoft.icon"
        | "image/x-icon" => ContentKind::Image,
        mime if mime.starts_with("text/") || mime.ends_with("+json") => ContentKind::Text,
        mime if mime.ends_with("+xml") => ContentKind::Markup,
        _ => ContentKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &[u8] = b"<!DOCTYPE html><html><title>Please sign in</title>";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    fn check(name: &str, mime: Option<&str>, content: &[u8]) -> Result<(), String> {
        let target = Target { name: name.to_owned(), mime: mime.map(str::to_owned), ..Target::default() };
        ContentTypeCheck::for_target(&target).check(content)
    }

    #[test]
    fn a_login_page_is_not_a_bill() {
        insta::assert_snapshot!(check("bill.pdf", None, HTML).unwrap_err(), @"expected application/pdf, got text/html");
        insta::assert_snapshot!(check("2026-01", Some("application/pdf"), HTML).unwrap_err(), @"expected application/pdf, got text/html");
        insta::assert_snapshot!(check("bill.PDF", None, b"").unwrap_err(), @"expected application/pdf, got an empty file");
        insta::assert_snapshot!(check("photo.jpg", None, b"{}").unwrap_err(), @"expected image/jpeg, got an unknown type");
        insta::assert_snapshot!(check("lines.csv", None, HTML).unwrap_err(), @"expected text/csv, got text/html");
        insta::assert_snapshot!(check("lines.csv", None, b"PK\x03\x04\x14\0\x06\0").unwrap_err(), @"expected text/csv, got application/zip");
        insta::assert_snapshot!(check("song.mp3", None, HTML).unwrap_err(), @"expected audio/mpeg, got text/html");
    }

    #[test]
    fn a_pdf_has_an_end() {
        let target = |name: &str| Target { name: name.to_owned(), ..Target::default() };
        let is_whole = |name: &str, parts: &[&[u8]]| {
            let mut end = ContentTail::default();
            parts.iter().for_each(|part| end.push(part));
            ContentTypeCheck::for_target(&target(name)).is_complete(&end)
        };
        let (long, short) = ([b'x'; 5_000], [b'x'; 1_000]);
        assert!(is_whole("bill.pdf", &[b"%PDF-1.7\n", &long, b"\n%%E", b"OF\n"]));
        assert!(is_whole("bill.pdf", &[b"%PDF-1.7\n%%EOF", &short]), "readers accept something behind it");
        for parts in [&[b"%PDF-1.7\n%%EOF".as_slice(), &long][..], &[b"%PDF-1.7\n%%EOF", &short, &short], &[]] {
            assert!(!is_whole("bill.pdf", parts));
        }
        assert!(is_whole("bill.txt", &[b"text"]));
    }

    #[test]
    fn two_letters_are_not_an_image() {
        insta::assert_snapshot!(check("photo.bmp", None, b"BMO;1;2\n").unwrap_err(), @"expected image/bmp, got an unknown type");
        insta::assert_snapshot!(check("photo.gif", None, b"GIF;1\n").unwrap_err(), @"expected image/gif, got an unknown type");
        insta::assert_snapshot!(check("lines.csv", None, PNG).unwrap_err(), @"expected text/csv, got image/png");
        insta::assert_snapshot!(check("lines.csv", None, b"%PDF-1.7\n").unwrap_err(), @"expected text/csv, got application/pdf");
        insta::assert_snapshot!(check("lines.csv", None, b"<script>location = '/login'</script>").unwrap_err(), @"expected text/csv, got text/html");
    }

    #[test]
    fn matching_content_is_accepted() {
        for (name, mime, content) in [
            ("bill.pdf", None, &b"%PDF-1.7\n"[..]),
            ("bill.pdf", None, b"\n\njunk %PDF-1.4"),
            ("photo.jpg", None, PNG),
            ("scan.png", Some("image/png; charset=binary"), PNG),
            ("sheet.xlsx", None, b"PK\x03\x04\x14\0\x06\0[Content_Types].xml"),
            ("page.html", None, HTML),
            ("lines.csv", None, b"\xef\xbb\xbfdate;amount\n"),
            ("lines.csv", None, b""),
            ("lines.csv", None, b"BMO;1;2\nMZ;3;4\n"),
            ("lines.csv", Some("text/csv; charset=utf-8"), b"GIF;1\n"),
            ("codes.txt", None, b"ID3\nBZh\n"),
            ("data.json", None, b"{\"a\": 1}"),
            ("notes.md", None, b"<!-- notes --> text"),
            ("page.html", None, b"BM and more"),
            ("drawing.svg", None, b"<!-- made by a program --><svg xmlns='http://www.w3.org/2000/svg'/>"),
            ("scan.jp2", None, b"\0\0\0\x0cjP  \r\n\x87\n"),
            ("plan.xcf", None, b"gimp xcf file\0"),
            ("bill", None, HTML),
            ("data", Some("application/octet-stream"), PNG),
        ] {
            assert_eq!(check(name, mime, content), Ok(()), "{name} {mime:?}");
        }
    }
}
