mod compare;
mod documents;
mod hosts;
mod parse_errors;
mod scopes;
mod secrets;

use serde_json::{Map, Value};

use super::Permissions;
use crate::Doctype;

fn set(rules: Value) -> Permissions {
    Permissions::from_manifest(&object(rules)).unwrap_or_else(|error| panic!("{error}"))
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("{value} is no object") };
    members
}

fn doctype(text: &str) -> Doctype {
    text.parse().expect(text)
}
