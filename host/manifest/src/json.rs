//! Reads fields of a JSON object, with errors that name the field.

use serde_json::{Map, Value};

use crate::Error;
use crate::untrusted::is_printable;

/// Rejects an identifier with invisible or misleading characters, because only programs could distinguish two
/// identifiers that look the same.
pub(crate) fn check_identifier(path: String, text: &str) -> Result<(), Error> {
    if text.chars().all(is_printable) {
        return Ok(());
    }
    let advice = "remove control characters; they are invisible in an identifier";
    Err(Error::Invalid { found: Value::from(text).to_string(), advice }.at_field(path))
}

/// An object and its path in the document.
#[derive(Clone)]
pub(crate) struct ObjectReader<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> ObjectReader<'a> {
    /// Wraps the whole document.
    pub(crate) const fn root(members: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), fields: members }
    }

    /// Wraps the object at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] at `path` if the value is not an object.
    pub(crate) fn new(path: String, value: &'a Value) -> Result<Self, Error> {
        match value {
            Value::Object(members) => Ok(Self { path, fields: members }),
            other => Err(wrong_type("an object", other).at_field(path)),
        }
    }

    /// Returns the path of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) const fn fields(&self) -> &'a Map<String, Value> {
        self.fields
    }

    /// Returns a field; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, Error> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(crate) fn required_string(&self, name: &str, example: &'static str) -> Result<&'a str, Error> {
        self.string(name)?.ok_or_else(|| Error::Missing { example }.at_field(self.path(name)))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<u64>, Error> {
        self.typed(name, "a whole number of at least 0", Value::as_u64)
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, Error> {
        self.typed(name, "a list", Value::as_array)
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, Error> {
        self.get(name).map(|value| Self::new(self.path(name), value)).transpose()
    }

    /// Returns the strings of a list; an absent list is empty.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<&'a str>, Error> {
        let list = self.list(name)?.map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .enumerate()
            .map(|(index, value)| {
                value
                    .as_str()
                    .ok_or_else(|| wrong_type("a string", value).at_field(self.path(&format!("{name}[{index}]"))))
            })
            .collect()
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(expected, value).at_field(self.path(name)))
    }
}

pub(crate) const fn wrong_type(expected: &'static str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Error::WrongType { expected, found }
}
