//! Errors for JSON of the wrong shape. They name the field and its expected type in plain words; the messages of serde
//! name Rust types instead.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Path of the field that has the wrong shape, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// Path to the field, joined by dots; `None` for the value itself.
    field: Option<String>,
    reason: String,
}

impl InvalidValue {
    /// Formats the message, with `subject` as the name of the value.
    pub fn message(self, subject: &str) -> String {
        match self.field {
            Some(field) => format!("{subject}: {field} {}", self.reason),
            None => format!("{subject} {}", self.reason),
        }
    }
}

/// Deserialises a value.
///
/// # Errors
///
/// If the value has another shape.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, InvalidValue> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = (path != "." && path != "?").then_some(path);
        InvalidValue { field, reason: reason(&error.into_inner()) }
    })
}

/// Returns the reason of an error, without the type names of serde and Rust. It continues a sentence whose subject is
/// the value.
pub fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if let Some((found, expected)) = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("is {}; expected {}", describe_found(found), describe_expected(expected));
    }
    if let Some((length, expected)) =
        text.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("is a list of length {length}; expected {}", describe_expected(expected));
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("lacks the field {field}");
    }
    if text.starts_with("data did not match any variant") {
        return "matches none of the expected shapes".to_owned();
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return format!("is {rest}");
    }
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return format!("has the unknown field {rest}");
    }
    if error.is_data() { format!("is not valid: {text}") } else { format!("is not valid JSON: {error}") }
}

fn describe_found(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match (kind, value) {
        ("string", value) => format!("the string {value}"),
        ("boolean", value) => value.trim_matches('`').to_owned(),
        ("integer" | "number" | "floating", value) => {
            format!("the number {}", value.trim_start_matches("point ").trim_matches('`'))
        }
        ("sequence", _) => "a list".to_owned(),
        ("map", _) => "an object".to_owned(),
        ("null", _) => "null".to_owned(),
        _ => found.to_owned(),
    }
}

fn describe_expected(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "a nonzero u32" | "a nonzero u64" => "a non-negative integer",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "a string" | "str" | "string" | "a borrowed string" => "a string",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged enum ") => "an object",
        _ if expected.starts_with("tuple ") || expected.starts_with("an array ") => "a list",
        _ if expected.contains("enum ") => "one of the documented values",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Sample {
        count: u32,
        names: Vec<String>,
        kind: Option<SampleKind>,
        inner: Option<Box<Self>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum SampleKind {
        One,
        Two,
    }

    #[test]
    fn errors_name_the_field_and_what_it_must_be() {
        let message = |value| from_value::<Sample>(value).unwrap_err().message("the body");
        let with = |name: &str, value: Value| {
            let mut shape = json!({ "count": 1, "names": [] });
            shape[name] = value;
            message(shape)
        };
        insta::assert_snapshot!(message(json!([])), @"the body is a list of length 0; expected an object");
        insta::assert_snapshot!(message(json!(null)), @"the body is null; expected an object");
        insta::assert_snapshot!(message(json!({ "count": 1 })), @"the body lacks the field `names`");
        insta::assert_snapshot!(
            with("count", json!("x")),
            @r#"the body: count is the string "x"; expected a non-negative integer"#
        );
        insta::assert_snapshot!(
            with("count", json!(-1)),
            @"the body: count is the number -1; expected a non-negative integer"
        );
        insta::assert_snapshot!(
            with("count", json!(1.5)),
            @"the body: count is the number 1.5; expected a non-negative integer"
        );
        insta::assert_snapshot!(with("names", json!([true])), @"the body: names[0] is true; expected a string");
        insta::assert_snapshot!(with("names", json!({})), @"the body: names is an object; expected a list");
        insta::assert_snapshot!(with("kind", json!("three")), @"the body: kind is `three`, expected `one` or `two`");
        insta::assert_snapshot!(
            with("inner", json!({ "count": 1, "names": 1 })),
            @"the body: inner.names is the number 1; expected a list"
        );
        insta::assert_snapshot!(
            with("other", json!(1)),
            @"the body: other has the unknown field `other`, expected one of `count`, `names`, `kind`, `inner`"
        );
    }
}
