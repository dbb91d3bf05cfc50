//! Masks the values of secrets in texts that leave a run.

use std::borrow::Cow;

use bytes::BytesMut;

use super::secret_redactor::SLICE_BYTES;
use super::secret_replacer::{MinLength, SecretFinder, SecretReplacer, Segment, encoded_forms};

/// Replacement for a secret.
pub const MASKED: &str = "[masked]";

/// Values of fewer characters are not masked. Masking them would make a text unreadable, and they could be guessed from
/// the rest. The same applies to shorter parts of a Base64 text, which occur by chance.
const MIN_FORM_LENGTH: MinLength = MinLength::Characters(4);

/// Searches for a set of values.
#[derive(Debug)]
pub(super) enum Mask {
    /// There is nothing to mask.
    Nothing,
    Secrets(SecretFinder),
    /// The values are too large to search for (gigabytes), so the whole text is masked.
    Everything,
}

impl Mask {
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: Vec<_> =
            values.into_iter().flat_map(|value| encoded_forms(value, MIN_FORM_LENGTH)).map(|form| (0, form)).collect();
        match SecretFinder::new(&forms) {
            Ok(None) => Self::Nothing,
            Ok(Some(finder)) => Self::Secrets(finder),
            Err(_) => Self::Everything,
        }
    }

    /// Returns the text with every secret replaced. Overlapping secrets are replaced together, so no part of either
    /// remains.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let finder = match self {
            Self::Nothing => return Cow::Borrowed(text),
            Self::Secrets(finder) => finder,
            Self::Everything => return Cow::Borrowed(MASKED),
        };
        let mut masked = Masked::new(finder, text.len());
        masked.push(text.as_bytes());
        masked.finish().map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// Like `apply` for a longer text, but yields to other tasks.
    pub(super) async fn apply_in_slices(&self, text: &str) -> String {
        let finder = match self {
            Self::Nothing => return text.to_owned(),
            Self::Secrets(finder) => finder,
            Self::Everything => return MASKED.to_owned(),
        };
        let mut masked = Masked::new(finder, text.len());
        for (number, slice) in text.as_bytes().chunks(SLICE_BYTES).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            masked.push(slice);
        }
        masked.finish().unwrap_or_else(|| text.to_owned())
    }
}

/// A text that is being masked.
struct Masked {
    replacer: SecretReplacer,
    output: BytesMut,
    found: bool,
}

impl Masked {
    fn new(finder: &SecretFinder, length: usize) -> Self {
        Self { replacer: SecretReplacer::new(finder), output: BytesMut::with_capacity(length), found: false }
    }

    fn push(&mut self, part: &[u8]) {
        let Self { replacer, output, found } = self;
        replacer.push(part, &mut |piece| append(piece, output, found));
    }

    /// Returns the masked text, or `None` if nothing was found.
    fn finish(mut self) -> Option<String> {
        let Self { replacer, output, found } = &mut self;
        replacer.finish(&mut |piece| append(piece, output, found));
        self.found.then(|| String::from_utf8_lossy(&self.output).into_owned())
    }
}

fn append(piece: Segment<'_>, output: &mut BytesMut, found: &mut bool) {
    match piece {
        Segment::Text(text) => output.extend_from_slice(text),
        Segment::Secret { .. } => {
            *found = true;
            output.extend_from_slice(MASKED.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::super::secret_replacer::{json_escape, xml_escape};
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
    fn encodings_of_a_secret_in_a_log_are_masked() {
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
            let masked_header = masked("correct horse battery", &header);
            let decoded = STANDARD_NO_PAD.decode(masked_header.replace(MASKED, "").trim_end_matches('='));
            assert!(masked_header.contains(MASKED), "{header} {masked_header}");
            assert!(decoded.is_err() || !String::from_utf8_lossy(&decoded.unwrap()).contains("rse"), "{masked_header}");
        }
    }

    /// Ways in which programs write texts.
    const WRITERS: [fn(&str) -> String; 8] = [
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
                let masked_text = masked(&secret, &format!("{before}{form}{after}"));
                let masked_text = masked_text.replace(MASKED, "\u{0}");
                prop_assert!(!masked_text.contains(form.trim_end_matches('=')), "{form} in {masked_text}");
                prop_assert!(masked_text.contains(char::from(0)));
            }
        }

        /// A secret is masked in every way a program may write it, at every position in a line.
        #[test]
        fn no_encoding_brings_a_secret_through(secret in "\\PC{4,24}", before in "[a-z ]{0,9}", after in "[a-z ]{0,9}", writer in 0..WRITERS.len()) {
            let written = WRITERS[writer](&format!("{before}{secret}{after}"));
            prop_assert!(masked(&secret, &written).contains(MASKED), "{written}");
        }

        #[test]
        fn a_secret_inside_of_base64_is_found(secret in "[a-zA-Z0-9]{4,24}", before in "[a-z]{0,9}", after in "[a-z]{0,9}") {
            let text = STANDARD.encode(format!("{before}{secret}{after}"));
            prop_assert!(masked(&secret, &text).contains(MASKED));
        }
    }
}
