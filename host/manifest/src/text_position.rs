//! Finds the position of a field in a JSON text.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// A position in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPosition {
    /// Line number, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

impl TextPosition {
    /// Returns the start of a field's value, for a path such as `permissions.bills.verbs[1]`. If the rest of the path
    /// is absent, it returns the start of the nearest field above. Returns `None` if the text contains no part of the
    /// path, or is not JSON.
    pub fn find(text: &[u8], path: &str) -> Option<Self> {
        let text = std::str::from_utf8(strip_byte_order_mark(text)).ok()?;
        let (mut value, mut path) = (serde_json::from_str::<&RawValue>(text).ok()?, path);
        let root = value;
        while let Some((inner, rest)) = descend(value, path) {
            (value, path) = (inner, rest);
        }
        if std::ptr::eq(value, root) {
            return None;
        }
        // A raw value is a slice of the text from which it was read.
        let position = value.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        let before = text.get(..position)?;
        let start_of_line = before.rfind('\n').map_or(0, |end| end + 1);
        Some(Self { line: before.matches('\n').count() + 1, column: position - start_of_line + 1 })
    }
}

/// Strips the byte order mark, which some editors write first.
pub(crate) fn strip_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Returns the value at the first part of a path, and the rest of the path.
fn descend<'text, 'path>(value: &'text RawValue, path: &'path str) -> Option<(&'text RawValue, &'path str)> {
    if path.is_empty() {
        return None;
    }
    if let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return Some((items.get(index.parse::<usize>().ok()?)?, rest.trim_start_matches('.')));
    }
    // Of duplicate keys the last one wins, as when the manifest is read.
    let members: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    let matches = members.into_iter().filter_map(|(name, inner)| {
        let rest = path.strip_prefix(name.as_str())?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some((name.len(), inner, rest))
    });
    // Names may contain dots, so the longest match wins.
    let (_, inner, rest) = matches.max_by_key(|(length, ..)| *length)?;
    Some((inner, rest.trim_start_matches('.')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const TEXT: &str = r#"{
  "name": "verbs: [",
  "permissions": {
    "bills": { "type": "x" },
    "my.files": {
      "verbs": [
        "GET", {"a": 1}
      ]
    }
  },
  "name": "é", "bills": null
}"#;

    fn position(line: usize, column: usize) -> Option<TextPosition> {
        Some(TextPosition { line, column })
    }

    #[test]
    fn a_path_leads_to_its_place() {
        for (path, expected) in [
            ("name", position(11, 11)),
            ("permissions.bills.type", position(4, 24)),
            ("permissions.my.files.verbs[0]", position(7, 9)),
            ("permissions.my.files.verbs[1].a", position(7, 22)),
            ("bills", position(11, 26)),
            // The nearest one above.
            ("permissions.my.files.values", position(5, 17)),
            ("permissions.my.files.verbs[7]", position(6, 16)),
            ("permissions.bills.type.what[0]", position(4, 24)),
            ("absent", None),
            ("names", None),
            ("", None),
        ] {
            assert_eq!(TextPosition::find(TEXT.as_bytes(), path), expected, "{path}");
            assert_eq!(TextPosition::find(format!("\u{feff}{TEXT}").as_bytes(), path), expected, "{path}");
        }
        assert_eq!(TextPosition::find(b"{\"name\": 1,}", "name"), None);
    }

    /// Collects all parts of a value, by path.
    fn collect_parts(value: &Value, path: String, all: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(members) => {
                for (name, inner) in members {
                    collect_parts(inner, if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, all);
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter().enumerate() {
                    collect_parts(inner, format!("{path}[{index}]"), all);
                }
            }
            _ => {}
        }
        if !path.is_empty() {
            all.push((path, value.clone()));
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[a-z\"\\\\\n{}]{0,4}".prop_map(Value::from)];
        let tree = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\é]{1,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-z]{1,3}", tree, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn the_value_at_the_position_is_the_field(document in json(), pretty: bool) {
            let text = if pretty { format!("{document:#}") } else { document.to_string() };
            let mut all = Vec::new();
            collect_parts(&document, String::new(), &mut all);
            for (path, value) in all {
                let position = TextPosition::find(text.as_bytes(), &path).expect("a place");
                let line_start: usize = text.split_inclusive('\n').take(position.line - 1).map(str::len).sum();
                let remainder = &text[line_start + position.column - 1..];
                let first = serde_json::Deserializer::from_str(remainder).into_iter::<Value>().next();
                prop_assert_eq!(first.expect("a value").expect("JSON"), value, "{}", path);
            }
        }
    }
}
