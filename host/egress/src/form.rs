//! Encodes forms in the charset of their page (HTML Standard, "form submission algorithm"; URL Standard,
//! "application/x-www-form-urlencoded").

use encoding_rs::{Encoding, UTF_8};
use percent_encoding::percent_decode;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// Maximum size in bytes of a form that is transcoded. Forms filled in by people are far smaller, and several copies
/// are held in memory.
pub(super) const MAX_FORM_BYTES: usize = 1 << 20;

/// Name of the field that is set to the form's encoding if the form leaves it empty.
const CHARSET_FIELD: &[u8] = b"_charset_";

/// Returns the encoding for a form with these labels: the first known one, as in the attribute `accept-charset`,
/// otherwise UTF-8.
pub(super) fn choose_encoding(labels: &str) -> &'static Encoding {
    let known = labels.split_ascii_whitespace().find_map(|label| Encoding::for_label(label.as_bytes()));
    known.unwrap_or(UTF_8).output_encoding()
}

/// Encodes a value for a form.
pub(super) fn encode_value(text: &str, encoding: &'static Encoding) -> String {
    // `encode` turns characters that the encoding lacks into numeric character references.
    let encoded = Zeroizing::new(encoding.encode(text).0.into_owned());
    byte_serialize(&encoded).collect()
}

/// Transcodes a form from UTF-8 to another encoding. Bytes that are not UTF-8 stay unchanged.
pub(super) fn transcode(form: &[u8], encoding: &'static Encoding) -> String {
    let mut transcoded = String::with_capacity(form.len());
    for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if !transcoded.is_empty() {
            transcoded.push('&');
        }
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        push_transcoded(&mut transcoded, name, encoding);
        if let Some(value) = value {
            transcoded.push('=');
            if value.is_empty() && name.eq_ignore_ascii_case(CHARSET_FIELD) {
                transcoded.push_str(encoding.name());
            }
            push_transcoded(&mut transcoded, value, encoding);
        }
    }
    transcoded
}

fn push_transcoded(form: &mut String, written: &[u8], encoding: &'static Encoding) {
    let written: Vec<u8> = written.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&written).collect();
    match std::str::from_utf8(&bytes) {
        Ok(text) => form.push_str(&encode_value(text, encoding)),
        Err(_) => form.extend(byte_serialize(&bytes)),
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GB18030, ISO_2022_JP, ISO_8859_15, SHIFT_JIS, WINDOWS_1252};
    use proptest::prelude::*;

    use super::*;

    /// Builds a form as a page's script does.
    fn utf8(fields: &[(&str, &str)]) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
    }

    #[test]
    fn a_form_is_sent_as_a_browser_sends_it() {
        let form =
            utf8(&[("n\u{f6}m", "\u{e9} \u{20ac}+&"), ("\u{2713}", "\u{3042}"), ("_charset_", ""), ("empty", "")]);
        for (encoding, expected) in [
            (WINDOWS_1252, "n%F6m=%E9+%80%2B%26&%26%2310003%3B=%26%2312354%3B&_charset_=windows-1252&empty="),
            (ISO_8859_15, "n%F6m=%E9+%A4%2B%26&%26%2310003%3B=%26%2312354%3B&_charset_=ISO-8859-15&empty="),
            (
                SHIFT_JIS,
                "n%26%23246%3Bm=%26%23233%3B+%26%238364%3B%2B%26&%26%2310003%3B=%82%A0&_charset_=Shift_JIS&empty=",
            ),
            (UTF_8, "n%C3%B6m=%C3%A9+%E2%82%AC%2B%26&%E2%9C%93=%E3%81%82&_charset_=UTF-8&empty="),
        ] {
            assert_eq!(transcode(form.as_bytes(), encoding), expected, "{}", encoding.name());
        }
        assert_eq!(transcode(b"a&b=%E9&&=c&_charset_=x", WINDOWS_1252), "a&b=%E9&=c&_charset_=x");
        assert_eq!(transcode(b"", WINDOWS_1252), "");
    }

    #[test]
    fn the_first_label_that_is_known_counts() {
        assert_eq!(choose_encoding("iso-8859-1"), WINDOWS_1252);
        assert_eq!(choose_encoding(" unknown\tLATIN1 utf-8"), WINDOWS_1252);
        assert_eq!(choose_encoding("unknown"), UTF_8);
        assert_eq!(choose_encoding(""), UTF_8);
        // No form is sent in an encoding that is only for decoding.
        assert_eq!(choose_encoding("utf-16le"), UTF_8);
    }

    proptest! {
        /// A server that reads a form in its page's encoding gets the text that was typed.
        #[test]
        fn the_form_arrives_as_entered(
            fields in prop::collection::vec(("[a-z\u{e9}]{1,4}", "\\PC{0,12}"), 0..4),
            encoding in prop::sample::select(vec![WINDOWS_1252, ISO_8859_15, SHIFT_JIS, ISO_2022_JP, GB18030, UTF_8]),
        ) {
            let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let sent = transcode(utf8(&pairs).as_bytes(), encoding);
            prop_assert!(sent.is_ascii());
            let read: Vec<String> = sent.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
                let value = pair.split_once('=').unwrap().1.replace('+', " ");
                let bytes: Vec<u8> = percent_decode(value.as_bytes()).collect();
                encoding.decode_without_bom_handling(&bytes).0.into_owned()
            }).collect();
            let typed: Vec<String> = pairs.iter().map(|(_, value)| {
                let encoded = encoding.encode(value).0.into_owned();
                encoding.decode_without_bom_handling(&encoded).0.into_owned()
            }).collect();
            prop_assert_eq!(&read, &typed);
            for (read, (_, value)) in read.iter().zip(pairs) {
                if !encoding.encode(value).2 && encoding != SHIFT_JIS && encoding != ISO_2022_JP {
                    prop_assert_eq!(read, value);
                }
            }
        }
    }
}
