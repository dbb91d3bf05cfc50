//! Parses a status line as Cozy does, that is, as Go's `encoding/json` parses an object into a structure: the case of
//! keys does not matter, the last value of a repeated key counts, `null` leaves a value unchanged, unknown keys are
//! ignored, and invalid Unicode (bytes that are not UTF-8, unpaired surrogates) becomes U+FFFD.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Message, Severity};

/// Classification of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StatusLine {
    Message(Message),
    Malformed(MalformedStatus),
    /// A line that does not look like a status.
    Other,
}

/// A line that looks like a status, but that neither Cozy's parser nor this one can read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MalformedStatus {
    /// Why it cannot be parsed.
    pub reason: String,
    /// Message of the line if it is an error or its type is unknown; empty if the message is unknown.
    pub error: Option<String>,
}

impl StatusLine {
    pub(super) fn parse(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let mut draft = StatusVisitor::default();
        let json = without_lone_surrogates(&line);
        let mut deserializer = serde_json::Deserializer::from_str(&json);
        let read = deserializer.deserialize_any(&mut draft).and_then(|()| deserializer.end());
        match (read, draft) {
            (Ok(()), StatusVisitor { is_message: true, type_error: None, message, .. }) => Self::Message(message),
            (Ok(()), StatusVisitor { type_error: Some(reason), message, has_type, has_message, .. }) => {
                if message.kind.is_empty() && !(has_type && has_message) {
                    return Self::Other;
                }
                Self::malformed(reason, (!message.kind.is_empty()).then_some(message.kind), message.message)
            }
            (Ok(()), _) => Self::Other,
            (Err(error), _) => match find_quoted_value(&line, "type") {
                Some(kind) => Self::malformed(
                    error.to_string(),
                    kind,
                    find_quoted_value(&line, "message").flatten().unwrap_or_default(),
                ),
                None => Self::Other,
            },
        }
    }

    /// `kind` is `None` if it is unknown.
    fn malformed(reason: String, kind: Option<String>, message: String) -> Self {
        let weight = kind.map(|kind| Message { kind, ..Message::default() }.severity());
        let is_error = matches!(weight, None | Some(Severity::Error | Severity::Critical));
        Self::Malformed(MalformedStatus { reason, error: is_error.then_some(message) })
    }
}

/// Finds the string value of a key in a malformed object: truncated JSON, or an object as JavaScript and Python print
/// it. The outer `None` means that the key has no string value, the inner one that the string is unterminated.
fn find_quoted_value(line: &str, key: &str) -> Option<Option<String>> {
    let line = line.trim_start_matches('\u{feff}').trim_start().strip_prefix('{')?;
    let lower = line.to_ascii_lowercase();
    lower.match_indices(key).find_map(|(index, _)| {
        let (before, after) = (line.get(..index)?, line.get(index + key.len()..)?);
        if before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            return None;
        }
        let value = after.strip_prefix(['"', '\'']).unwrap_or(after).trim_start().strip_prefix(':')?.trim_start();
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        Some(value.get(1..)?.split_once(quote).map(|(value, _)| value.to_owned()))
    })
}

/// Replaces an unpaired surrogate such as `\ud83d` by `\ufffd`; everything else is unchanged.
fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(index) = rest.find('\\') {
        let (before, escape) = rest.split_at(index);
        text.push_str(before);
        let (length, is_lone) = match (utf16_unit(escape), escape.get(6..).and_then(utf16_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
            (Some(0xd800..=0xdfff), _) => (6, true),
            (Some(_), _) => (6, false),
            // The escaped character can have any length in bytes.
            (None, _) => (escape.char_indices().nth(2).map_or(escape.len(), |(index, _)| index), false),
        };
        let (sequence, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        text.push_str(if is_lone { "\\ufffd" } else { sequence });
        rest = after;
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Parses the number of an escape `\uXXXX` at the beginning of a string.
fn utf16_unit(text: &str) -> Option<u16> {
    let digits =
        text.strip_prefix("\\u")?.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// Fields parsed so far.
#[derive(Debug, Default)]
struct StatusVisitor {
    message: Message,
    /// Whether the line is an object, or `null`, which Go treats as an object without fields.
    is_message: bool,
    has_type: bool,
    has_message: bool,
    /// The first value of a wrong type.
    type_error: Option<String>,
}

impl<'de> Visitor<'de> for &mut StatusVisitor {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.is_message = true;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.is_message = true;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let value = match fold_key(&key).as_str() {
                "type" => {
                    self.has_type = true;
                    map.next_value_seed(StatusFieldSeed(StatusField::Text(&mut self.message.kind)))?
                }
                "message" => {
                    self.has_message = true;
                    map.next_value_seed(StatusFieldSeed(StatusField::Text(&mut self.message.message)))?
                }
                "no_retry" => map.next_value_seed(StatusFieldSeed(StatusField::Flag(&mut self.message.no_retry)))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    Ok(())
                }
            };
            if let Err(found) = value {
                self.type_error.get_or_insert_with(|| format!("its `{key}` is {found}"));
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Returns a key as Go compares it: in lower case, with the two letters that fold to ASCII.
fn fold_key(key: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

/// Field that receives the value of a key.
enum StatusField<'a> {
    Text(&'a mut String),
    Flag(&'a mut bool),
}

/// Reads any value; a value of a wrong type is recorded and skipped.
struct StatusFieldSeed<'a>(StatusField<'a>);

type FieldResult = Result<(), &'static str>;

impl<'de> DeserializeSeed<'de> for StatusFieldSeed<'_> {
    type Value = FieldResult;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<FieldResult, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StatusFieldSeed<'_> {
    type Value = FieldResult;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<FieldResult, E> {
        Ok(Ok(()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<FieldResult, E> {
        Ok(match self.0 {
            StatusField::Flag(flag) => {
                *flag = value;
                Ok(())
            }
            StatusField::Text(_) => Err("true or false"),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<FieldResult, E> {
        Ok(match self.0 {
            StatusField::Text(text) => {
                value.clone_into(text);
                Ok(())
            }
            StatusField::Flag(_) => Err("a string"),
        })
    }

    fn visit_u64<E>(self, _: u64) -> Result<FieldResult, E> {
        Ok(Err("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<FieldResult, E> {
        Ok(Err("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<FieldResult, E> {
        Ok(Err("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<FieldResult, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldResult, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err("an object"))
    }
}

#[cfg(test)]
mod tests;
