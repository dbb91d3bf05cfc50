//! Projections: the fields of a document that a query wants.

use konnector_store::FieldPath;
use serde_json::{Map, Value};

/// The members of a document that `fields` name, below the same objects.
#[must_use]
pub fn project(body: &Map<String, Value>, fields: &[FieldPath]) -> Map<String, Value> {
    let mut projected = Map::new();
    for field in fields {
        if let Some(value) = field.of(body).value() {
            put(&mut projected, field.names(), value.clone());
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
    fn a_projection_keeps_the_objects_around_what_is_named() {
        let document = body(json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": 4 }));
        let fields: Vec<_> = ["a.b", "d", "z", "a.c"].map(|path| FieldPath::parse(path).expect("a path")).into();
        assert_eq!(Value::Object(project(&document, &fields)), json!({ "a": { "b": 1, "c": 2 }, "d": 3 }));
        // CouchDB builds objects for the indices of arrays.
        let document = body(json!({ "a": [{ "b": 1, "c": 2 }], "d.e": 3 }));
        let fields: Vec<_> = ["a.0.c", "d\\.e"].map(|path| FieldPath::parse(path).expect("a path")).into();
        assert_eq!(Value::Object(project(&document, &fields)), json!({ "a": { "0": { "c": 2 } }, "d.e": 3 }));
    }
}
