//! Detects which responses are text, and their encoding.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes of a document that are searched for its own encoding declaration (HTML Standard, "prescan a byte stream").
const PRESCAN_BYTES: usize = 1024;

/// A parsed `Content-Type`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    /// Media type in lower case, without parameters; empty for a missing header.
    pub(super) essence: String,
    /// The parameter `charset`, without quotes.
    charset: Option<String>,
}

impl ContentType {
    pub(super) fn parse(header: &str) -> Self {
        let mut parts = header.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
        });
        Self { essence, charset }
    }

    /// Returns whether this media type is text.
    pub(super) fn is_textual(&self) -> bool {
        self.essence.starts_with("text/")
            || ["json", "xml", "html", "javascript", "ecmascript", "x-www-form-urlencoded"]
                .iter()
                .any(|kind| self.subtype().ends_with(kind))
    }

    pub(super) fn is_json(&self) -> bool {
        self.subtype() == "json" || self.subtype().ends_with("+json")
    }

    pub(super) fn is_xml(&self) -> bool {
        self.subtype() == "xml" || self.subtype().ends_with("+xml")
    }

    fn is_html(&self) -> bool {
        matches!(self.essence.as_str(), "text/html" | "application/xhtml+xml")
    }

    fn subtype(&self) -> &str {
        self.essence.split_once('/').map_or("", |(_, subtype)| subtype)
    }
}

/// Decodes a text and returns it with its encoding. The first known one of these decides: a byte-order mark, the
/// header's charset, for HTML its `<meta>` element, for XML its declaration, otherwise [`default_encoding`]. Invalid
/// sequences become U+FFFD.
pub(super) fn decode(body: &[u8], content_type: &ContentType) -> (String, &'static Encoding) {
    let (encoding, mark) = Encoding::for_bom(body).unwrap_or_else(|| {
        let label = content_type.charset.as_deref().map(str::as_bytes);
        let known = label.and_then(Encoding::for_label).or_else(|| declared_encoding(body, content_type));
        (known.unwrap_or_else(|| default_encoding(body, content_type)), 0)
    });
    let text = encoding.decode_without_bom_handling(body.get(mark..).unwrap_or_default()).0.into_owned();
    (text, encoding)
}

/// Returns the encoding of a text that declares none: UTF-8 if required (JSON, XML) or valid, otherwise windows-1252,
/// the default of browsers (HTML Standard, "encoding sniffing algorithm"). A pure ASCII page is the same in both; its
/// forms are sent in the default.
fn default_encoding(body: &[u8], content_type: &ContentType) -> &'static Encoding {
    let is_always_utf8 =
        content_type.is_json() || content_type.is_xml() || content_type.subtype() == "x-www-form-urlencoded";
    let is_default = content_type.essence == "text/html" && body.is_ascii();
    let is_utf8 = is_always_utf8 || (!is_default && std::str::from_utf8(body).is_ok());
    if is_utf8 { UTF_8 } else { WINDOWS_1252 }
}

fn declared_encoding(body: &[u8], content_type: &ContentType) -> Option<&'static Encoding> {
    let head = body.get(..PRESCAN_BYTES).unwrap_or(body);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let in_html = || content_type.is_html().then(|| html_charset(&head)).flatten();
    let in_xml = || content_type.is_xml().then(|| xml_charset(&head)).flatten();
    let encoding = Encoding::for_label(in_html().or_else(in_xml)?.as_bytes())?;
    // A declaration that could be read byte by byte was not written in UTF-16.
    let encoding = if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding };
    Some(if encoding.name() == "x-user-defined" { WINDOWS_1252 } else { encoding })
}

/// Reads `<meta charset=…>` or `<meta http-equiv=content-type content="…; charset=…">`; `head` is in lower case.
fn html_charset(head: &str) -> Option<&str> {
    let mut rest = head;
    while let Some(start) = rest.find("<") {
        rest = rest.get(start..)?;
        if rest.starts_with("<!--") {
            rest = rest.get(rest.find("-->")?..)?;
            continue;
        }
        let end = rest.find('>').unwrap_or(rest.len());
        let (tag, after) = rest.split_at(end);
        if let Some(attributes) = tag.strip_prefix("<meta")
            && attributes.starts_with(|next: char| next.is_ascii_whitespace() || next == '/')
            && let Some(value) = attribute_value(attributes, "charset")
        {
            return Some(value);
        }
        rest = after;
        if rest.is_empty() {
            return None;
        }
    }
    None
}

/// Reads `<?xml version="1.0" encoding="…"?>`; `head` is in lower case.
fn xml_charset(head: &str) -> Option<&str> {
    let declaration = head.strip_prefix("<?xml")?;
    attribute_value(declaration.get(..declaration.find("?>")?)?, "encoding")
}

/// Returns the value in `name = "value"`, `name='value'` or `name=value`.
fn attribute_value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        rest = rest.get(rest.find(name)? + name.len()..)?;
        let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let value = match value.chars().next()? {
            quote @ ('"' | '\'') => value.get(1..)?.split(quote).next()?,
            _ => value.split(|end: char| end.is_ascii_whitespace() || matches!(end, ';' | '"' | '\'' | '/')).next()?,
        };
        return Some(value.trim()).filter(|value| !value.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(body: &[u8], content_type: &str) -> String {
        decode(body, &ContentType::parse(content_type)).0
    }

    #[test]
    fn the_header_decides_over_the_document() {
        assert_eq!(text(b"caf\xe9", "text/plain; charset=ISO-8859-1"), "café");
        assert_eq!(text(b"<meta charset=utf-8>\xe9", "text/html;Charset=\"windows-1252\""), "<meta charset=utf-8>é");
        assert_eq!(text("café".as_bytes(), "text/plain; charset=nonsense"), "café");
    }

    #[test]
    fn a_mark_decides_over_all() {
        assert_eq!(text(b"\xef\xbb\xbfcaf\xc3\xa9", "text/csv; charset=iso-8859-1"), "café");
        assert_eq!(text(b"\xff\xfec\0a\0f\0\xe9\0", "text/csv"), "café");
    }

    #[test]
    fn html_names_its_encoding_itself() {
        for page in [
            "<html><head><meta charset=\"windows-1252\"></head>",
            "<!DOCTYPE html><META CharSet = 'Windows-1252' />",
            "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=windows-1252\">",
            "<!-- <meta charset=utf-8> --><meta name=charset content=x><meta charset=windows-1252>",
        ] {
            let mut body = page.as_bytes().to_vec();
            body.push(0x80);
            assert!(text(&body, "text/html").ends_with('€'), "{page}");
        }
    }

    #[test]
    fn invalid_declarations_are_skipped() {
        for page in [
            "<metadata charset=windows-1252>",
            "<!-- <meta charset=windows-1252>",
            "<p>charset=windows-1252</p>",
            "<meta charset>",
        ] {
            assert_eq!(text(format!("{page}é").as_bytes(), "text/html"), format!("{page}é"));
        }
        let late = format!("{}<meta charset=windows-1252>é", " ".repeat(PRESCAN_BYTES));
        assert_eq!(text(late.as_bytes(), "text/html"), late);
        assert_eq!(text("<meta charset=utf-16le>é".as_bytes(), "text/html"), "<meta charset=utf-16le>é");
    }

    #[test]
    fn xml_names_its_encoding_itself() {
        assert!(text(b"<?xml version='1.0' encoding='ISO-8859-15'?><a>\xa4</a>", "application/xml").contains('€'));
        assert!(text(b"<?xml version=\"1.0\"?><a encoding='iso-8859-1'>\xc3\xa9</a>", "text/xml").contains('é'));
    }

    #[test]
    fn a_text_that_names_no_encoding_is_utf8_or_windows_1252() {
        let read = |body: &[u8], content_type: &str| {
            let (text, encoding) = decode(body, &ContentType::parse(content_type));
            (text, encoding.name())
        };
        let of = |text: &str, name: &'static str| (text.to_owned(), name);
        for content_type in ["text/html", "text/plain", "text/csv", "", "application/javascript"] {
            assert_eq!(
                read(b"10 \x80 caf\xe9", content_type),
                of("10 \u{20ac} caf\u{e9}", "windows-1252"),
                "{content_type}"
            );
            assert_eq!(read("10 \u{20ac}".as_bytes(), content_type), of("10 \u{20ac}", "UTF-8"), "{content_type}");
        }
        assert_eq!(read(b"<form>", "text/html"), of("<form>", "windows-1252"));
        assert_eq!(read(b"<form>", "text/html; charset=utf-8"), of("<form>", "UTF-8"));
        assert_eq!(read(b"<form>", "application/xhtml+xml"), of("<form>", "UTF-8"));
        assert_eq!(read(b"\"\xe9\"", "application/json"), of("\"\u{fffd}\"", "UTF-8"));
        assert_eq!(read(b"<meta charset=utf-8>\xe9", "text/html"), of("<meta charset=utf-8>\u{fffd}", "UTF-8"));
    }

    #[test]
    fn textual_types() {
        for yes in [
            "text/csv",
            "application/json",
            "application/vnd.api+json",
            "application/atom+xml",
            "image/svg+xml",
            "application/xhtml+xml",
            "application/x-javascript",
            "application/x-ndjson",
        ] {
            assert!(ContentType::parse(yes).is_textual(), "{yes}");
        }
        for no in
            ["", "application/pdf", "image/png", "application/octet-stream", "application/zip", "multipart/form-data"]
        {
            assert!(!ContentType::parse(no).is_textual(), "{no}");
        }
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(body: Vec<u8>, html: bool) {
            text(&body, if html { "text/html" } else { "text/xml" });
        }

        #[test]
        fn no_head_makes_it_panic(body in "(<meta|<!--|-->|charset|=|\"|'|>| |;|é|<\\?xml|encoding|\\?>){0,20}") {
            text(body.as_bytes(), "text/html");
            text(body.as_bytes(), "text/xml");
        }
    }
}
