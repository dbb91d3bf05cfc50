//! Paths of fields, such as `cozyMetadata.createdAt`, with the same semantics for indexes, queries and projections.

use serde_json::Value;

use crate::Map;

/// The path of a field in a document: names separated by dots. In an array, a name that is a number is an index from 0.
/// A backslash escapes a dot and is dropped anywhere else (CouchDB, `mango_util:parse_field`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(Vec<String>);

/// Error for a path with an empty name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a field path such as `vendor` or `cozyMetadata.createdAt`")]
pub struct InvalidFieldPath(String);

/// Result of looking up a path in a document. The two ways to be absent differ for `$exists: false` (CouchDB,
/// `mango_doc:get_field`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lookup<'a> {
    /// The value.
    Found(&'a Value),
    /// An object on the path lacks the name.
    Missing,
    /// The path leads through a scalar, or past the end of an array.
    Unreachable,
}

impl<'a> Lookup<'a> {
    /// Returns the value, if there is one.
    #[must_use]
    pub const fn value(self) -> Option<&'a Value> {
        match self {
            Self::Found(value) => Some(value),
            Self::Missing | Self::Unreachable => None,
        }
    }
}

impl FieldPath {
    /// Parses a path.
    ///
    /// # Errors
    ///
    /// [`InvalidFieldPath`] if a name is empty.
    pub fn parse(text: &str) -> Result<Self, InvalidFieldPath> {
        let (mut names, mut name) = (Vec::new(), String::new());
        let mut escaped = false;
        for character in text.chars() {
            match character {
                '\\' => escaped = true,
                '.' if !escaped => names.push(std::mem::take(&mut name)),
                character => {
                    name.push(character);
                    escaped = false;
                }
            }
        }
        names.push(name);
        if names.iter().any(String::is_empty) {
            return Err(InvalidFieldPath(text.to_owned()));
        }
        Ok(Self(names))
    }

    /// Returns a path below this one.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// Returns the names from the outermost field to the innermost.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Returns whether this is the path of the document's id.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.0.iter().eq(["_id"])
    }

    /// Returns whether the path leads to a field that is private to the server, such as the sealed cookies of an
    /// account.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        !self.is_id() && self.0.first().is_some_and(|name| name.starts_with('_'))
    }

    /// Looks up the path in a document, whose id is the field `_id`.
    #[must_use]
    pub fn lookup<'a>(&self, body: &'a Map) -> Lookup<'a> {
        match self.0.split_first() {
            Some((first, rest)) => body.get(first).map_or(Lookup::Missing, |value| descend(value, rest)),
            None => Lookup::Missing,
        }
    }

    /// Looks up the path in a value.
    #[must_use]
    pub fn lookup_in<'a>(&self, value: &'a Value) -> Lookup<'a> {
        descend(value, &self.0)
    }
}

fn descend<'a>(value: &'a Value, names: &[String]) -> Lookup<'a> {
    let Some((name, rest)) = names.split_first() else { return Lookup::Found(value) };
    match value {
        Value::Object(fields) => fields.get(name).map_or(Lookup::Missing, |value| descend(value, rest)),
        Value::Array(items) => {
            let item = name.parse::<usize>().ok().and_then(|index| items.get(index));
            item.map_or(Lookup::Unreachable, |item| descend(item, rest))
        }
        _ => Lookup::Unreachable,
    }
}

/// Writes the form that [`FieldPath::parse`] reads.
impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            f.write_str(&name.replace('.', "\\."))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body() -> Map {
        let body = json!({
            "a": { "b": { "c": 1 } }, "d.e": 2, "f": [1, { "g": 3 }, [4]], "$h": 5, "i": { "0": 6 }, "_state": 7, "n": null
        });
        body.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        for (path, value) in [
            ("a.b.c", json!(1)),
            ("d\\.e", json!(2)),
            ("f.0", json!(1)),
            ("f.1.g", json!(3)),
            ("f.2.0", json!(4)),
            ("\\$h", json!(5)),
            ("i.0", json!(6)),
            ("\\a.b\\.c", Value::Bool(false)),
            ("n", Value::Null),
        ] {
            let body = body();
            let found = FieldPath::parse(path).expect("a path").lookup(&body).value();
            assert_eq!(found.cloned().unwrap_or(json!(false)), value, "{path}");
        }
    }

    #[test]
    fn what_lacks_a_name_differs_from_what_has_none() {
        let body = body();
        let lookup = |path: &str| FieldPath::parse(path).expect("a path").lookup(&body);
        for missing in ["x", "a.x", "a.b.x", "f.1.x", "x.y.z"] {
            assert_eq!(lookup(missing), Lookup::Missing, "{missing}");
        }
        for unreachable in ["a.b.c.x", "f.3", "f.-1", "f.x", "f.0.x", "n.x"] {
            assert_eq!(lookup(unreachable), Lookup::Unreachable, "{unreachable}");
        }
    }

    #[test]
    fn an_empty_name_is_rejected() {
        for wrong in ["", ".a", "a.", "a..b", "\\", "a.\\"] {
            assert!(FieldPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_escape_does_not_hide_a_field_of_the_server() {
        for (path, reserved) in [("_id", false), ("_state", true), ("\\_state", true), ("_id.x", true), ("a._b", false)]
        {
            assert_eq!(FieldPath::parse(path).expect("a path").is_reserved(), reserved, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(names in prop::collection::vec("[a-z0-9_$. ]{1,6}", 1..5)) {
            let path = FieldPath(names);
            prop_assert_eq!(FieldPath::parse(&path.to_string()).expect("a path"), path);
        }

        #[test]
        fn every_value_is_found_at_the_path_to_it(names in prop::collection::vec("[a-z.$]{1,4}", 1..5), index in 0..3usize) {
            let value = json!("here");
            let mut items = vec![Value::Null; index];
            items.push(value.clone());
            let nested = names.iter().skip(1).rev().fold(Value::Array(items), |value, name| json!({ name: value }));
            let body: Map = [(names[0].clone(), nested)].into_iter().collect();
            let mut path = names;
            path.push(index.to_string());
            prop_assert_eq!(FieldPath(path).lookup(&body), Lookup::Found(&value));
        }
    }
}
