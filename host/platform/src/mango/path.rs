//! Paths of members, such as `cozyMetadata.createdAt`.

use serde_json::{Map, Value};

use super::QueryError;

/// A member of a document, or of an object within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberPath(Vec<String>);

impl MemberPath {
    /// Reads a path: names with dots between them; a dot that belongs to a name is written `\.`.
    ///
    /// # Errors
    ///
    /// [`QueryError::Selector`] for an empty name.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let (mut names, mut name) = (Vec::new(), String::new());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if characters.peek() == Some(&'.') => name.extend(characters.next()),
                '.' => names.push(std::mem::take(&mut name)),
                character => name.push(character),
            }
        }
        names.push(name);
        if names.iter().any(String::is_empty) {
            return Err(QueryError::Selector(format!(
                "'{text}' is no path of members such as vendor or metadata.date"
            )));
        }
        Ok(Self(names))
    }

    /// A path below this one.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// The value in a document, whose id is the member `_id`.
    #[must_use]
    pub fn of<'a>(&self, body: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(body.get(first)?, |value, name| value.as_object()?.get(name))
    }

    /// The value below another one.
    #[must_use]
    pub fn below<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, name| value.as_object()?.get(name))
    }

    /// Whether it is the document's id.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.0.iter().eq(["_id"])
    }
}

/// As an index names its members.
impl std::fmt::Display for MemberPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The members of a document that `fields` name, below the same objects.
#[must_use]
pub fn project(body: &Map<String, Value>, fields: &[MemberPath]) -> Map<String, Value> {
    let mut projected = Map::new();
    for field in fields {
        if let Some(value) = field.of(body) {
            put(&mut projected, &field.0, value.clone());
        }
    }
    projected
}

fn put(members: &mut Map<String, Value>, names: &[String], value: Value) {
    match names {
        [] => {}
        [name] => {
            members.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let below = members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_path_names_members_of_members() {
        let document = body(json!({ "a": { "b": { "c": 1 } }, "d.e": 2, "f": [1] }));
        for (path, value) in [("a.b.c", Some(json!(1))), ("d\\.e", Some(json!(2))), ("a.x", None), ("f.0", None)] {
            assert_eq!(MemberPath::parse(path).expect("a path").of(&document).cloned(), value, "{path}");
        }
        for wrong in ["", ".a", "a.", "a..b"] {
            assert!(MemberPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_projection_keeps_the_objects_around_what_is_named() {
        let document = body(json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": 4 }));
        let fields: Vec<_> = ["a.b", "d", "z", "a.c"].map(|path| MemberPath::parse(path).expect("a path")).into();
        assert_eq!(Value::Object(project(&document, &fields)), json!({ "a": { "b": 1, "c": 2 }, "d": 3 }));
    }
}
