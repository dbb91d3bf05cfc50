//! Form fields that a konnector asks its user to fill in.

use serde_json::{Map, Value};

use crate::Error;
use crate::json::{ObjectReader, check_identifier, wrong_type};

/// One field of the form that creates an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Key of the field's value in the account.
    pub name: String,
    /// Type of the input.
    pub kind: FieldKind,
    /// Whether the account requires it; true if absent.
    pub required: bool,
    /// Whether the manifest declares it as the field that identifies the account at the vendor; see
    /// [`crate::Manifest::identifier_field`].
    pub identifier: bool,
    /// Whether it is marked "advanced", or in one of the old groups `advanced_fields` and `advancedFields`.
    pub advanced: bool,
    /// Whether it is stored sealed: a password, or declared `"encrypted": true`.
    pub secret: bool,
    /// Whether the konnector may replace the secret that the user typed (`secrets.put`), because the vendor rotates it.
    pub rotates: bool,
    /// Label of the field, or its key in `locales`.
    pub label: Option<String>,
    /// Help text.
    pub description: Option<String>,
    /// Initial value in a new form: a string, or for a list `{value, name}`.
    pub default: Option<Value>,
    /// Choices of a dropdown.
    pub options: Vec<Choice>,
    /// Minimum length in characters.
    pub min: Option<u64>,
    /// Maximum length in characters.
    pub max: Option<u64>,
    /// Regular expression that the value must match.
    pub pattern: Option<String>,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// A line of text.
    Text,
    /// A secret.
    Password,
    /// An e-mail address.
    Email,
    /// One of [`Field::options`].
    Dropdown,
    /// Yes or no.
    Checkbox,
    /// Stored with the account but not shown.
    Hidden,
    /// A day.
    Date,
    /// A telephone number.
    Phone,
    /// A folder of the user's files.
    Folder,
    /// An unknown type; stored like a password, because it may be a misspelt `password`.
    Other(String),
}

/// One choice of a dropdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Displayed name.
    pub name: String,
    /// Stored value.
    pub value: String,
}

impl FieldKind {
    fn from_name(name: &str) -> Self {
        match name {
            "text" => Self::Text,
            "password" => Self::Password,
            "email" => Self::Email,
            "dropdown" => Self::Dropdown,
            "checkbox" => Self::Checkbox,
            "hidden" => Self::Hidden,
            "date" => Self::Date,
            "phone" | "tel" => Self::Phone,
            "folder" => Self::Folder,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Guesses the type from the name, for old manifests that omit the type.
    fn from_field_name(field_name: &str) -> Self {
        match field_name {
            "password" => Self::Password,
            "folderPath" => Self::Folder,
            _ => Self::Text,
        }
    }
}

/// Parses all fields in the order written, with groups flattened in place.
pub(crate) fn parse_all(fields: &ObjectReader) -> Result<Vec<Field>, Error> {
    let mut all = Vec::new();
    for (name, value) in fields.fields() {
        let field = ObjectReader::new(fields.path(name), value)?;
        if is_group(field.fields()) {
            for (name, value) in field.fields() {
                all.push(parse(name, &ObjectReader::new(field.path(name), value)?, true)?);
            }
        } else {
            all.push(parse(name, &field, false)?);
        }
    }
    Ok(all)
}

/// Returns whether this is a group, such as `advancedFields`: groups hold descriptors and have no type of their own.
fn is_group(members: &Map<String, Value>) -> bool {
    !members.is_empty() && members.values().all(Value::is_object)
}

fn parse(name: &str, field: &ObjectReader, in_group: bool) -> Result<Field, Error> {
    check_identifier("fields".to_owned(), name)?;
    let kind = field.string("type")?.map_or_else(|| FieldKind::from_field_name(name), FieldKind::from_name);
    // Current manifests use `role`; older ones used `login: true`.
    let identifier = field.boolean("identifier")?.unwrap_or(false)
        || field.string("role")? == Some("identifier")
        || field.boolean("login")?.unwrap_or(false);
    Ok(Field {
        name: name.to_owned(),
        required: field.boolean("isRequired")?.unwrap_or(true),
        identifier,
        advanced: field.boolean("advanced")?.unwrap_or(in_group),
        secret: matches!(kind, FieldKind::Password | FieldKind::Other(_))
            || field.boolean("encrypted")?.unwrap_or(false),
        kind,
        rotates: field.boolean("rotates")?.unwrap_or(false),
        label: field.string("label")?.map(str::to_owned),
        description: field.string("description")?.map(str::to_owned),
        default: field.get("default").cloned(),
        options: read_options(field)?,
        min: field.integer("min")?,
        max: field.integer("max")?,
        pattern: field.string("pattern")?.map(str::to_owned),
    })
}

fn read_options(field: &ObjectReader) -> Result<Vec<Choice>, Error> {
    let options = field.list("options")?.map(Vec::as_slice).unwrap_or_default();
    options
        .iter()
        .enumerate()
        .map(|(index, option)| {
            let path = field.path(&format!("options[{index}]"));
            match option {
                Value::String(text) => Ok(Choice { name: text.clone(), value: text.clone() }),
                Value::Object(_) => {
                    let option = ObjectReader::new(path, option)?;
                    let value = option.required_string("value", r#""value": "…""#)?;
                    let name = option.string("name")?.unwrap_or(value);
                    Ok(Choice { name: name.to_owned(), value: value.to_owned() })
                }
                other => Err(wrong_type("an object with name and value", other).at_field(path)),
            }
        })
        .collect()
}
