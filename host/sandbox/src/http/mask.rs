//! Finds the values of secrets in texts that leave a run, in every form in which they usually travel.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::text::clean;

/// What stands in the place of a secret.
pub const MASKED: &str = "[masked]";

/// Values of fewer characters are not masked: they would make a text unreadable and could be guessed from what is left.
const SHORTEST_VALUE: usize = 4;

/// Parts of a Base64 text shorter than this are not looked for: they occur by chance.
const SHORTEST_PART: usize = 4;

/// RFC 3986 §2.3.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// JavaScript's `encodeURIComponent`.
const NOT_URI_COMPONENT: &AsciiSet = &NOT_UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// Looks for a set of values.
#[derive(Debug)]
pub(super) enum Mask {
    /// There is nothing to hide.
    Nothing,
    Words(AhoCorasick),
    /// The values are too large to be looked for (gigabytes), so no text is shown at all.
    Everything,
}

impl Mask {
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: Vec<Form> = values.into_iter().flat_map(forms).collect();
        if forms.is_empty() {
            return Self::Nothing;
        }
        // Little memory: a table for each state, which is the default, takes ten times as much.
        let finder = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(forms);
        finder.map_or(Self::Everything, Self::Words)
    }

    /// The text with every secret replaced. Secrets that overlap are replaced together, so that no part of either is left.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let finder = match self {
            Self::Nothing => return Cow::Borrowed(text),
            Self::Words(finder) => finder,
            Self::Everything => return Cow::Borrowed(MASKED),
        };
        // Matches come in the order of their ends. They are united at once: there may be many for each byte.
        let mut found: Vec<Range<usize>> = Vec::new();
        for range in finder.find_overlapping_iter(text).map(|found| found.range()) {
            let mut start = range.start;
            while let Some(before) = found.pop_if(|before| start < before.end) {
                start = start.min(before.start);
            }
            found.push(start..range.end);
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut position = 0;
        for range in found {
            masked.push_str(text.get(position..range.start).unwrap_or_default());
            masked.push_str(MASKED);
            position = range.end;
        }
        masked.push_str(text.get(position..).unwrap_or_default());
        Cow::Owned(masked)
    }
}

/// One way to write a value.
pub(super) type Form = Zeroizing<String>;

/// A value as it appears in logs, addresses, forms, JSON, HTML and headers, each form once; none for a value that is too short.
pub(super) fn forms(value: &str) -> Vec<Form> {
    // What a log shows of it: without control characters, and one line at a time.
    let lines = value.split(['\n', '\r']).map(clean).chain([clean(value)]).map(Form::new);
    let mut forms: Vec<Form> = encodings(value).into_iter().map(Form::new).chain(lines).collect();
    forms.retain(|form| form.chars().count() >= SHORTEST_VALUE);
    forms.sort_by(|one, other| one.as_str().cmp(other));
    forms.dedup();
    if value.chars().count() < SHORTEST_VALUE { Vec::new() } else { forms }
}

fn encodings(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned(), hex::encode(value), hex::encode_upper(value)];
    for percent in [
        form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        utf8_percent_encode(value, NOT_UNRESERVED).to_string(),
        utf8_percent_encode(value, NOT_URI_COMPONENT).to_string(),
        utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
    ] {
        forms.push(lower_case_escapes(&percent));
        // An address inside of an address.
        forms.push(utf8_percent_encode(&percent, NOT_UNRESERVED).to_string());
        forms.push(percent);
    }
    let json = json_escape(value);
    forms.push(json.replace('/', "\\/"));
    forms.push(ascii_escape(&json, false));
    forms.push(ascii_escape(&json, true));
    // A JSON text inside of a JSON text, and Rust's `{:?}`.
    forms.push(json_escape(&json));
    forms.push(value.escape_debug().to_string());
    forms.push(json);
    let minimal = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quotes = minimal.replace('"', "&quot;");
    forms.extend(["&#39;", "&#x27;", "&#039;", "&apos;"].map(|quote| quotes.replace('\'', quote)));
    for quotes in [&quotes, &quotes.replace('\'', "&#39;")] {
        forms.push(numbered(quotes, |code| format!("&#{code};")));
        forms.push(numbered(quotes, |code| format!("&#x{code:x};")));
        forms.push(numbered(quotes, |code| format!("&#x{code:X};")));
    }
    forms.push(xml_escape(value));
    forms.push(quotes);
    forms.push(minimal);
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        forms.extend(
            (0..3)
                .map(|offset| base64_part(&engine, value.as_bytes(), offset))
                .filter(|part| part.len() >= SHORTEST_PART),
        );
        forms.push(engine.encode(value));
    }
    forms
}

/// What is the same in every Base64 text that holds `value` at a position with this remainder modulo 3: a password stays hidden inside of
/// the credentials of RFC 7617, `base64(user:password)`.
fn base64_part(engine: &impl Engine, value: &[u8], offset: usize) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(value);
    let encoded = engine.encode(&bytes);
    // The first characters hold bits of what stands before; the last one holds bits of what follows, unless a group ends there.
    let first = [0, 2, 3].get(offset).copied().unwrap_or_default();
    let last = if bytes.len().is_multiple_of(3) { encoded.len() } else { encoded.len() - 1 };
    encoded.get(first..last).unwrap_or_default().to_owned()
}

/// The text between the quotes of a JSON string.
pub(super) fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// For the content of an element as well as for an attribute in either kind of quotes.
pub(super) fn xml_escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}

/// A character reference in the place of what is not ASCII (HTML Standard, "numeric character reference").
fn numbered(html: &str, write: impl Fn(u32) -> String) -> String {
    let reference = |character: char| if character.is_ascii() { character.into() } else { write(character.into()) };
    html.chars().map(reference).collect()
}

/// `\u00e9` in the place of what is not ASCII, as PHP and Python write JSON.
fn ascii_escape(json: &str, upper: bool) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
        }
    }
    escaped
}

/// `%C3%A9` as `%c3%a9`, nothing else changed.
fn lower_case_escapes(percent: &str) -> String {
    let mut left = 0_u8;
    let lower = |character: char| {
        if character == '%' {
            left = 3;
        }
        let escape = left > 0;
        left = left.saturating_sub(1);
        if escape { character.to_ascii_lowercase() } else { character }
    };
    percent.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    fn masked(secret: &str, text: &str) -> String {
        Mask::new([secret]).apply(text).into_owned()
    }

    #[test]
    fn a_text_without_secrets_is_left_alone() {
        let mask = Mask::new(["hunter22", "abc", ""]);
        assert!(matches!(mask.apply("abc is too short to hide, hunter2 is another"), Cow::Borrowed(_)));
        assert!(matches!(Mask::new([]).apply("hunter22"), Cow::Borrowed(_)));
    }

    #[test]
    fn secrets_that_overlap_leave_nothing() {
        let mask = Mask::new(["abcdef", "defghi", "cde!"]);
        assert_eq!(mask.apply("<abcdefghi> abcdef defghi"), "<[masked]> [masked] [masked]");
        assert_eq!(Mask::new(["aaaa"]).apply("xaaaaaay"), "x[masked]y");
    }

    #[test]
    fn forms_that_real_programs_write() {
        let secret = "pä ss/\"<&'wörd>+";
        for text in [
            "p%C3%A4+ss%2F%22%3C%26%27w%C3%B6rd%3E%2B",
            "p%c3%a4%20ss%2f%22%3c%26%27w%c3%b6rd%3e%2b",
            "p%C3%A4%20ss%2F%22%3C%26'w%C3%B6rd%3E%2B",
            r#"pä ss/\"<&'wörd>+"#,
            r#"p\u00e4 ss\/\"<&'w\u00f6rd>+"#.replace("\\/", "/").as_str(),
            r#"pä ss\/\"<&'wörd>+"#,
            "pä ss/&quot;&lt;&amp;&#39;wörd&gt;+",
            "pä ss/\"&lt;&amp;'wörd&gt;+",
            "cMOkIHNzLyI8Jid3w7ZyZD4r",
        ] {
            assert_eq!(masked(secret, &format!("a={text}&b")), "a=[masked]&b", "{text}");
        }
    }

    #[test]
    fn what_a_log_makes_of_a_secret_is_found() {
        let key = "-----BEGIN KEY-----\nMIIBVQ/+==\r\nabc\n-----END KEY-----";
        for line in ["-----BEGIN KEY-----", "MIIBVQ/+==", "-----END KEY-----"] {
            assert_eq!(masked(key, &format!("> {line} <")), "> [masked] <");
        }
        assert_eq!(masked(key, "abc"), "abc");
        assert_eq!(masked("tab\tand\u{200b}null\0", "tab andnull"), MASKED);
    }

    #[test]
    fn a_password_is_found_inside_of_basic_credentials() {
        for user in ["", "u", "us", "user", "somebody@mail.example"] {
            let header = STANDARD.encode(format!("{user}:correct horse battery"));
            let shown = masked("correct horse battery", &header);
            let decoded = STANDARD_NO_PAD.decode(shown.replace(MASKED, "").trim_end_matches('='));
            assert!(shown.contains(MASKED), "{header} {shown}");
            assert!(decoded.is_err() || !String::from_utf8_lossy(&decoded.unwrap()).contains("rse"), "{shown}");
        }
    }

    /// How programs write texts.
    const WAYS: [fn(&str) -> String; 8] = [
        str::to_owned,
        |text| hex::encode(text),
        |text| hex::encode_upper(text),
        |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        |text| serde_json::Value::from(text).to_string(),
        |text| serde_json::Value::from(serde_json::Value::from(text).to_string()).to_string(),
        |text| STANDARD.encode(text),
        |text| URL_SAFE.encode(text),
    ];

    proptest! {
        #[test]
        fn no_form_of_a_secret_is_left(secret in "\\PC{4,24}", before in "\\PC{0,12}", after in "\\PC{0,12}") {
            for form in [
                secret.clone(),
                form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
                utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string(),
                json_escape(&secret),
                xml_escape(&secret),
                STANDARD.encode(&secret),
                URL_SAFE.encode(&secret),
            ] {
                let shown = masked(&secret, &format!("{before}{form}{after}"));
                let shown = shown.replace(MASKED, "\u{0}");
                prop_assert!(!shown.contains(form.trim_end_matches('=')), "{form} in {shown}");
                prop_assert!(shown.contains(char::from(0)));
            }
        }

        /// In whatever way a program writes it, wherever in a line it stands.
        #[test]
        fn no_encoding_brings_a_secret_through(secret in "\\PC{4,24}", before in "[a-z ]{0,9}", after in "[a-z ]{0,9}", way in 0..WAYS.len()) {
            let written = WAYS[way](&format!("{before}{secret}{after}"));
            prop_assert!(masked(&secret, &written).contains(MASKED), "{written}");
        }

        #[test]
        fn a_secret_inside_of_base64_is_found(secret in "[a-zA-Z0-9]{4,24}", before in "[a-z]{0,9}", after in "[a-z]{0,9}") {
            let text = STANDARD.encode(format!("{before}{secret}{after}"));
            prop_assert!(masked(&secret, &text).contains(MASKED));
        }
    }
}
