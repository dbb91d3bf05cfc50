//! Projection of documents to the requested fields.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::FieldPath;

/// Requested fields, as a tree, so the cost for a document depends on its own size, not on how many fields are named,
/// or how often.
#[derive(Debug, Clone, Default)]
pub struct Projection(ProjectionNode);

#[derive(Debug, Clone)]
enum ProjectionNode {
    /// Everything below.
    All,
    /// Only these fields.
    Fields(HashMap<String, Self>),
}

impl Default for ProjectionNode {
    fn default() -> Self {
        Self::Fields(HashMap::new())
    }
}

impl Projection {
    /// Returns the projection to these paths, or to everything if there are none.
    #[must_use]
    pub fn new(paths: &[FieldPath]) -> Self {
        if paths.is_empty() {
            return Self(ProjectionNode::All);
        }
        let mut tree = ProjectionNode::default();
        for path in paths {
            tree.add(path.names());
        }
        Self(tree)
    }

    /// Returns whether all fields are requested.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        matches!(self.0, ProjectionNode::All)
    }

    /// Returns the requested fields of a document, nested in the same objects.
    #[must_use]
    pub fn apply(&self, body: Map<String, Value>) -> Map<String, Value> {
        match &self.0 {
            ProjectionNode::All => body,
            ProjectionNode::Fields(selected) => apply_to_fields(selected, body),
        }
    }
}

impl ProjectionNode {
    fn add(&mut self, names: &[String]) {
        match (&mut *self, names) {
            (Self::All, _) => {}
            (_, []) => *self = Self::All,
            (Self::Fields(selected), [name, rest @ ..]) => selected.entry(name.clone()).or_default().add(rest),
        }
    }

    fn apply(&self, value: Value) -> Option<Value> {
        match (self, value) {
            (Self::All, value) => Some(value),
            (Self::Fields(selected), Value::Object(members)) => {
                let found = apply_to_fields(selected, members);
                (!found.is_empty()).then_some(Value::Object(found))
            }
            // CouchDB builds objects for the indices of arrays.
            (Self::Fields(selected), Value::Array(items)) => {
                let items = items.into_iter().enumerate().map(|(index, item)| (index.to_string(), item));
                let found = apply_to_fields(selected, items);
                (!found.is_empty()).then_some(Value::Object(found))
            }
            (Self::Fields(_), _) => None,
        }
    }
}

fn apply_to_fields(
    selected: &HashMap<String, ProjectionNode>,
    members: impl IntoIterator<Item = (String, Value)>,
) -> Map<String, Value> {
    let found = members.into_iter().filter_map(|(name, value)| {
        let value = selected.get(&name)?.apply(value)?;
        Some((name, value))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn projected(document: &Value, paths: &[&str]) -> Value {
        let paths: Vec<_> = paths.iter().map(|path| FieldPath::parse(path).expect("a path")).collect();
        Value::Object(Projection::new(&paths).apply(body(document.clone())))
    }

    #[test]
    fn a_projection_keeps_the_objects_around_what_is_named() {
        let document = json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": 4 });
        for (paths, expected) in [
            (vec!["a.b", "d", "z", "a.c"], json!({ "a": { "b": 1, "c": 2 }, "d": 3 })),
            (vec!["a.b", "a"], json!({ "a": { "b": 1, "c": 2 } })),
            (vec!["a", "a.b", "a"], json!({ "a": { "b": 1, "c": 2 } })),
            (vec!["a.x", "d.x"], json!({})),
            (vec![], document.clone()),
        ] {
            assert_eq!(projected(&document, &paths), expected, "{paths:?}");
        }
        let document = json!({ "a": [{ "b": 1, "c": 2 }], "d.e": 3 });
        assert_eq!(projected(&document, &["a.0.c", "d\\.e"]), json!({ "a": { "0": { "c": 2 } }, "d.e": 3 }));
    }

    proptest! {
        /// The result contains exactly the named fields.
        #[test]
        fn it_contains_the_values_at_the_paths(
            values in proptest::collection::btree_map("[a-c]", proptest::collection::btree_map("[a-c]", any::<u8>(), 0..3), 0..4),
            paths in proptest::collection::vec(("[a-d]", proptest::option::of("[a-d]")), 1..6),
        ) {
            let document = json!(values);
            let paths: Vec<String> =
                paths.into_iter().map(|(first, second)| second.map_or(first.clone(), |second| format!("{first}.{second}"))).collect();
            let found = projected(&document, &paths.iter().map(String::as_str).collect::<Vec<_>>());
            let (of_found, of_document) = (body(found.clone()), body(document));
            for path in &paths {
                let path = FieldPath::parse(path).expect("a path");
                prop_assert_eq!(path.lookup(&of_found).value(), path.lookup(&of_document).value());
            }
            for (name, members) in body(found) {
                for (inner, _) in body(members) {
                    let named = paths.contains(&name) || paths.contains(&format!("{name}.{inner}"));
                    prop_assert!(named);
                }
            }
        }
    }
}
