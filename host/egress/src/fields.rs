//! Where in a body placeholders stand, for secrets that the manifest binds to fields.
//!
//! A vendor may read a body differently than this module does, so it takes the strict view: in a field, the placeholder is the whole value,
//! and every occurrence in the raw body must be accounted for. Each occurrence is first replaced by a word of its own that nobody can know
//! beforehand, so that a second spelling of the placeholder (`\u006b…` in JSON, a duplicate key) cannot stand for another one.

use konnector_manifest::RequestPart;
use serde_json::Value;
use url::form_urlencoded;

/// Text bodies that have fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Syntax {
    Form,
    Json,
    /// With this boundary.
    Multipart(String),
}

/// The part of a body in which one word stands as the whole value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Field(String),
    Member { pointer: String, key: String },
}

impl Place {
    pub(super) fn part(&self) -> RequestPart<'_> {
        match self {
            Self::Field(name) => RequestPart::Field(name),
            Self::Member { pointer, key } => RequestPart::Member { pointer, key },
        }
    }

    /// For a sentence.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Field(name) => name,
            Self::Member { pointer, .. } => pointer,
        }
    }
}

/// For each word the field that it fills; `None` for a word that stands elsewhere, beside other text, or more than once.
pub(super) fn places(syntax: &Syntax, body: &[u8], words: &[String]) -> Vec<Option<Place>> {
    let filled = match syntax {
        Syntax::Form => form(body),
        Syntax::Json => json(body),
        Syntax::Multipart(boundary) => multipart(body, boundary),
    };
    let place = |word: &String| {
        let mut found = filled.iter().filter(|(value, _)| value == word);
        found.next().filter(|_| found.next().is_none()).map(|(_, place)| place.clone())
    };
    words.iter().map(place).collect()
}

fn form(body: &[u8]) -> Vec<(String, Place)> {
    form_urlencoded::parse(body).map(|(name, value)| (value.into_owned(), Place::Field(name.into_owned()))).collect()
}

fn json(body: &[u8]) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(body) {
        walk(&value, &mut String::new(), "", &mut found);
    }
    found
}

fn walk(value: &Value, pointer: &mut String, key: &str, found: &mut Vec<(String, Place)>) {
    let length = pointer.len();
    let mut below = |name: &str, key: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        walk(value, pointer, key, found);
        pointer.truncate(length);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| below(name, name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), key, value));
        }
        Value::String(text) => {
            found.push((text.clone(), Place::Member { pointer: pointer.clone(), key: key.to_owned() }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// RFC 7578. A part counts when it has one `Content-Disposition` of the plain form, and nothing in it can be read in two ways.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, Place)> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let (framed, delimiter) = (format!("\r\n{text}"), format!("\r\n--{boundary}"));
    let mut parts = framed.split(delimiter.as_str());
    if parts.next().is_none_or(|preamble| !preamble.is_empty()) {
        return Vec::new();
    }
    parts.filter_map(|part| read_part(part.strip_prefix("\r\n")?)).collect()
}

fn read_part(part: &str) -> Option<(String, Place)> {
    let (head, content) = part.split_once("\r\n\r\n")?;
    let mut dispositions = head.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim())
    });
    let disposition = dispositions.next().filter(|_| dispositions.next().is_none())?;
    let name = disposition.strip_prefix("form-data; name=\"")?.strip_suffix('"')?;
    let plain = !name.is_empty() && !name.contains(['"', '\\', '%', ';']) && !name.contains(char::is_control);
    plain.then(|| (content.to_owned(), Place::Field(name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(syntax: &Syntax, body: &str) -> Option<String> {
        let [place] = places(syntax, body.as_bytes(), &["WORD".to_owned()]).try_into().unwrap();
        place.map(|place| place.name().to_owned())
    }

    #[test]
    fn a_field_of_a_form() {
        let of = |body| found(&Syntax::Form, body);
        assert_eq!(of("a=1&p%77d=WORD&b=2").as_deref(), Some("pwd"));
        for body in ["pwd=xWORD", "WORD=pwd", "pwd=1;q=WORD", "pwd=WORD&q=WORD", "pwd=WORD;q=1", "WORD", ""] {
            assert_eq!(of(body), None, "{body}");
        }
    }

    #[test]
    fn a_member_of_a_json_body() {
        let of = |body| found(&Syntax::Json, body);
        assert_eq!(of(r#"{"user":{"a/b":["x","WORD"]}}"#).as_deref(), Some("/user/a~1b/1"));
        assert_eq!(of(r#""WORD""#).as_deref(), Some(""));
        for body in [r#"{"WORD":1}"#, r#"{"p":"a WORD"}"#, r#"{"q":"WORD","q":"x"}"#, r#"{"p":"WORD""#] {
            assert_eq!(of(body), None, "{body}");
        }
    }

    #[test]
    fn a_part_of_a_multipart_body() {
        let of = |head: &str, content: &str| {
            let body = format!("--x\r\n{head}\r\n\r\n{content}\r\n--x\r\n\r\nother\r\n--x--\r\n");
            found(&Syntax::Multipart("x".to_owned()), &body)
        };
        let disposition = "Content-Disposition: form-data; name=\"pwd\"";
        assert_eq!(of(disposition, "WORD").as_deref(), Some("pwd"));
        assert_eq!(of(&format!("content-type: text/plain\r\n{disposition}"), "WORD").as_deref(), Some("pwd"));
        for (head, content) in [
            (disposition, "WORD "),
            (disposition, "WORD\r\n"),
            (&format!("{disposition}\r\n{disposition}"), "WORD"),
            ("Content-Disposition: form-data; name=\"pwd\"; filename=\"a\"", "WORD"),
            ("Content-Disposition: form-data; name=\"pw%64\"", "WORD"),
            ("Content-Disposition: form-data; name=pwd", "WORD"),
            ("X: y", "WORD"),
        ] {
            assert_eq!(of(head, content), None, "{head} {content}");
        }
    }
}
