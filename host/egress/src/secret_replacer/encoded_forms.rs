//! The forms in which a secret is searched for. A coding that a decoder can undo needs no separate form.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, IBM866, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_10, ISO_8859_13, ISO_8859_14, ISO_8859_15, ISO_8859_16, KOI8_R,
    KOI8_U, MACINTOSH, SHIFT_JIS, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254,
    WINDOWS_1255, WINDOWS_1256, WINDOWS_1257, WINDOWS_1258, X_MAC_CYRILLIC,
};
use zeroize::Zeroizing;

use crate::text::sanitize;

/// The encodings in which a form can be sent, and in which a vendor may write non-ASCII characters; without UTF-8, and
/// without UTF-16, which is a separate reading.
const ENCODINGS: [&Encoding; 34] = [
    WINDOWS_1252,
    ISO_8859_15,
    MACINTOSH,
    WINDOWS_1250,
    WINDOWS_1251,
    WINDOWS_1253,
    WINDOWS_1254,
    WINDOWS_1255,
    WINDOWS_1256,
    WINDOWS_1257,
    WINDOWS_1258,
    WINDOWS_874,
    ISO_8859_2,
    ISO_8859_3,
    ISO_8859_4,
    ISO_8859_5,
    ISO_8859_6,
    ISO_8859_7,
    ISO_8859_8,
    ISO_8859_10,
    ISO_8859_13,
    ISO_8859_14,
    ISO_8859_16,
    KOI8_R,
    KOI8_U,
    X_MAC_CYRILLIC,
    IBM866,
    GBK,
    GB18030,
    BIG5,
    EUC_JP,
    ISO_2022_JP,
    SHIFT_JIS,
    EUC_KR,
];

/// The bytes of one form.
pub(crate) type EncodedForm = Zeroizing<Vec<u8>>;

/// Minimum length of a form that is searched for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MinLength {
    /// Forms with fewer characters are skipped.
    Characters(usize),
    /// Forms with fewer bytes are skipped.
    Bytes(usize),
}

impl MinLength {
    fn is_reached_by(self, form: &[u8]) -> bool {
        match self {
            Self::Characters(least) => String::from_utf8_lossy(form).chars().count() >= least,
            Self::Bytes(least) => form.len() >= least,
        }
    }
}

/// Returns the forms of a value in texts, and in logs, which show it one line at a time and without control characters.
/// Each form occurs once; a value that is too short has none.
pub(crate) fn encoded_forms(value: &str, shortest: MinLength) -> Vec<EncodedForm> {
    let lines = |value: &str| value.split(['\n', '\r']).map(sanitize).chain([sanitize(value)]).collect::<Vec<_>>();
    let written = |value: &Zeroizing<String>| encode_all(value).chain(lines(value).into_iter().map(String::into_bytes));
    filter_and_dedup(value, case_variants(value).iter().flat_map(written).map(EncodedForm::new).collect(), shortest)
}

/// Returns the forms that contain the whole value.
pub(crate) fn whole_value_forms(value: &str, shortest: MinLength) -> Vec<EncodedForm> {
    filter_and_dedup(
        value,
        case_variants(value).iter().flat_map(|value| encode_all(value)).map(EncodedForm::new).collect(),
        shortest,
    )
}

fn filter_and_dedup(value: &str, mut forms: Vec<EncodedForm>, shortest: MinLength) -> Vec<EncodedForm> {
    if !shortest.is_reached_by(value.as_bytes()) {
        return Vec::new();
    }
    forms.retain(|form| shortest.is_reached_by(form));
    forms.sort_by(|one, other| one.as_slice().cmp(other));
    forms.dedup();
    forms
}

/// Returns the value, and its lower and upper case if they differ by more than the finder ignores.
fn case_variants(value: &str) -> Vec<Zeroizing<String>> {
    let mut cases = vec![Zeroizing::new(value.to_owned())];
    if !value.is_ascii() {
        cases.extend([value.to_lowercase(), value.to_uppercase()].map(Zeroizing::new));
    }
    cases
}

fn encode_all(value: &str) -> impl Iterator<Item = Vec<u8>> + use<> {
    let mut forms = vec![value.as_bytes().to_vec(), hex::encode(value).into_bytes()];
    if !value.is_ascii() {
        for encoding in ENCODINGS {
            // Characters that the encoding lacks become character references, as in the form that was sent.
            forms.push(encoding.encode(value).0.into_owned());
        }
        // UTF-16 without its null bytes.
        let units = || value.encode_utf16();
        forms.push(units().flat_map(u16::to_le_bytes).filter(|byte| *byte != 0).collect());
        forms.push(units().flat_map(u16::to_be_bytes).filter(|byte| *byte != 0).collect());
    }
    for inner in [value, &json_escape(value)] {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.extend((0..3).map(|offset| base64_part(&engine, inner.as_bytes(), offset).into_bytes()));
        }
    }
    forms.into_iter()
}

/// Returns the common part of all Base64 texts that contain `value` at a position with this remainder modulo 3. This
/// hides a password inside the credentials of RFC 7617, `base64(user:password)`. Up to four bits of the value remain at
/// each end.
fn base64_part(engine: &impl Engine, value: &[u8], offset: usize) -> String {
    let mut bytes = Zeroizing::new(vec![0; offset]);
    bytes.extend_from_slice(value);
    let encoded = engine.encode(&*bytes);
    // The first characters hold bits of the preceding bytes; the last one holds bits of the following byte, unless a
    // group ends there.
    let first = [0, 2, 3].get(offset).copied().unwrap_or_default();
    let last = if bytes.len().is_multiple_of(3) { encoded.len() } else { encoded.len() - 1 };
    encoded.get(first..last).unwrap_or_default().to_owned()
}

/// Escapes a text for a JSON string, without the quotes.
pub(crate) fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// Escapes a text for the content of an element and for an attribute in either kind of quotes.
pub(crate) fn xml_escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}
