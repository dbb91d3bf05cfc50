//! Finds the fields of a body that hold placeholders, for secrets that the manifest binds to fields.
//!
//! A vendor may parse a body differently, so this module is strict. The placeholder must be the whole value of a field,
//! and every occurrence in the raw body must be accounted for. Each occurrence is first replaced by its own
//! unpredictable word. A second spelling of the placeholder (`\u006b…` in JSON, a duplicate key) therefore cannot stand
//! for another occurrence.

use konnector_manifest::RequestPart;
use serde_json::Value;
use url::form_urlencoded;

use super::multipart::{self, MultipartError};

/// Syntax of a text body that has fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodySyntax {
    Form,
    Json,
    /// A multipart form with this `Content-Type`.
    Multipart(String),
}

/// Field of a body whose whole value is one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyField {
    FormField(String),
    JsonField { pointer: String, key: String },
}

impl BodyField {
    pub(super) fn as_request_part(&self) -> RequestPart<'_> {
        match self {
            Self::FormField(name) => RequestPart::FormField(name),
            Self::JsonField { pointer, key } => RequestPart::JsonField { pointer, key },
        }
    }

    /// Returns the name for use in a sentence.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::FormField(name) => name,
            Self::JsonField { pointer, .. } => pointer,
        }
    }
}

/// Returns for each word the field that it fills, or `None` for a word that occurs outside a field, next to other text,
/// or more than once.
///
/// # Errors
///
/// If a multipart form is ambiguous.
pub(super) fn find_fields(
    syntax: &BodySyntax,
    body: &[u8],
    placeholders: &[String],
) -> Result<Vec<Option<BodyField>>, MultipartError> {
    let filled = match syntax {
        BodySyntax::Form => form_fields(body),
        BodySyntax::Json => json_fields(body),
        BodySyntax::Multipart(content_type) => multipart_fields(content_type, body, placeholders)?,
    };
    let field_of = |placeholder: &String| {
        let mut found = filled.iter().filter(|(value, _)| value == placeholder);
        found.next().filter(|_| found.next().is_none()).map(|(_, field)| field.clone())
    };
    Ok(placeholders.iter().map(field_of).collect())
}

fn form_fields(body: &[u8]) -> Vec<(String, BodyField)> {
    form_urlencoded::parse(body)
        .map(|(name, value)| (value.into_owned(), BodyField::FormField(name.into_owned())))
        .collect()
}

fn json_fields(body: &[u8]) -> Vec<(String, BodyField)> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(body) {
        collect_json_fields(&value, &mut String::new(), "", &mut found);
    }
    found
}

fn collect_json_fields(value: &Value, pointer: &mut String, key: &str, found: &mut Vec<(String, BodyField)>) {
    let length = pointer.len();
    let mut below = |name: &str, key: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        collect_json_fields(value, pointer, key, found);
        pointer.truncate(length);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| below(name, name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), key, value));
        }
        Value::String(text) => {
            found.push((text.clone(), BodyField::JsonField { pointer: pointer.clone(), key: key.to_owned() }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Requires every word, for any secret, to be the whole content of a part. Parts are not escaped, so a value supplied
/// by the guest could forge part headers.
fn multipart_fields(
    content_type: &str,
    body: &[u8],
    placeholders: &[String],
) -> Result<Vec<(String, BodyField)>, MultipartError> {
    let parts = multipart::parse_parts(content_type, body)?;
    if !placeholders.iter().all(|placeholder| parts.iter().any(|part| part.content == placeholder)) {
        return Err(MultipartError::Placeholder);
    }
    let filled =
        |part: &multipart::Part<'_>| Some((part.content.to_owned(), BodyField::FormField(part.field?.to_owned())));
    Ok(parts.iter().filter_map(filled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(syntax: &BodySyntax, body: &str) -> Option<String> {
        let [place] = find_fields(syntax, body.as_bytes(), &["WORD".to_owned()]).unwrap().try_into().unwrap();
        place.map(|place| place.name().to_owned())
    }

    #[test]
    fn a_field_of_a_form() {
        let of = |body| found(&BodySyntax::Form, body);
        assert_eq!(of("a=1&p%77d=WORD&b=2").as_deref(), Some("pwd"));
        for body in ["pwd=xWORD", "WORD=pwd", "pwd=1;q=WORD", "pwd=WORD&q=WORD", "pwd=WORD;q=1", "WORD", ""] {
            assert_eq!(of(body), None, "{body}");
        }
    }

    #[test]
    fn a_member_of_a_json_body() {
        let of = |body| found(&BodySyntax::Json, body);
        assert_eq!(of(r#"{"user":{"a/b":["x","WORD"]}}"#).as_deref(), Some("/user/a~1b/1"));
        assert_eq!(of(r#""WORD""#).as_deref(), Some(""));
        for body in [r#"{"WORD":1}"#, r#"{"p":"a WORD"}"#, r#"{"q":"WORD","q":"x"}"#, r#"{"p":"WORD""#] {
            assert_eq!(of(body), None, "{body}");
        }
    }

    #[test]
    fn a_part_of_a_multipart_body() {
        let syntax = BodySyntax::Multipart("multipart/form-data; boundary=x".to_owned());
        let of = |name: &str, content: &str, words: &[&str]| {
            let body = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n--x--\r\n");
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            find_fields(&syntax, body.as_bytes(), &words)
        };
        assert_eq!(of("pwd", "WORD", &["WORD"]), Ok(vec![Some(BodyField::FormField("pwd".to_owned()))]));
        assert_eq!(of("pw%64", "WORD", &["WORD"]), Ok(vec![None]));
        for (name, content) in [("pwd", "WORD "), ("pwd", "WORD\r\n"), ("OTHER", "WORD"), ("pwd", "WORDOTHER")] {
            let error = of(name, content, &["WORD", "OTHER"]);
            assert_eq!(error, Err(MultipartError::Placeholder), "{name} {content}");
        }
    }
}
