//! What a konnector asks its user for.

use serde_json::{Map, Value};

use crate::Error;
use crate::json::{Object, check_identifier, wrong_type};

/// One field of the form that creates an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The key of its value in the account.
    pub name: String,
    /// What is typed in.
    pub kind: FieldKind,
    /// Whether the account needs it; absent means yes.
    pub required: bool,
    /// Declared as what identifies the account at the vendor; see [`crate::Manifest::identifier_field`].
    pub identifier: bool,
    /// Behind "advanced", or in one of the old groups `advanced_fields` and `advancedFields`.
    pub advanced: bool,
    /// Kept sealed: a password, or declared `"encrypted": true`.
    pub secret: bool,
    /// The konnector may replace the secret that the user typed (`secrets.put`), because the vendor rotates it.
    pub rotates: bool,
    /// The text beside it, or the key of one in `locales`.
    pub label: Option<String>,
    /// Help.
    pub description: Option<String>,
    /// The value of a new form: a string, or for a list `{value, name}`.
    pub default: Option<Value>,
    /// What a dropdown offers.
    pub options: Vec<Choice>,
    /// The shortest text, in characters.
    pub min: Option<u64>,
    /// The longest text, in characters.
    pub max: Option<u64>,
    /// A regular expression that the text matches.
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
    /// Kept with the account and not shown.
    Hidden,
    /// A day.
    Date,
    /// A telephone number.
    Phone,
    /// A folder of the user's files.
    Folder,
    /// A type that this version does not know; kept like a password, because it may be one that is misspelt.
    Other(String),
}

/// One choice of a dropdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is shown.
    pub name: String,
    /// What is stored.
    pub value: String,
}

impl FieldKind {
    fn named(name: &str) -> Self {
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

    /// For old manifests that leave the type out.
    fn guessed(field_name: &str) -> Self {
        match field_name {
            "password" => Self::Password,
            "folderPath" => Self::Folder,
            _ => Self::Text,
        }
    }
}

/// All fields, those in groups after their neighbours before them, in the order written.
pub(crate) fn read_all(fields: &Object) -> Result<Vec<Field>, Error> {
    let mut all = Vec::new();
    for (name, value) in fields.members() {
        let field = Object::at(fields.path(name), value)?;
        if is_group(field.members()) {
            for (name, value) in field.members() {
                all.push(read(name, &Object::at(field.path(name), value)?, true)?);
            }
        } else {
            all.push(read(name, &field, false)?);
        }
    }
    Ok(all)
}

/// `advancedFields` and the like hold descriptors and have no type of their own.
fn is_group(members: &Map<String, Value>) -> bool {
    !members.is_empty() && members.values().all(Value::is_object)
}

fn read(name: &str, field: &Object, in_group: bool) -> Result<Field, Error> {
    check_identifier("fields".to_owned(), name)?;
    let kind = field.text("type")?.map_or_else(|| FieldKind::guessed(name), FieldKind::named);
    // `role` is what real manifests say; `login: true` was used before it.
    let identifier = field.flag("identifier")?.unwrap_or(false)
        || field.text("role")? == Some("identifier")
        || field.flag("login")?.unwrap_or(false);
    Ok(Field {
        name: name.to_owned(),
        required: field.flag("isRequired")?.unwrap_or(true),
        identifier,
        advanced: field.flag("advanced")?.unwrap_or(in_group),
        secret: matches!(kind, FieldKind::Password | FieldKind::Other(_)) || field.flag("encrypted")?.unwrap_or(false),
        kind,
        rotates: field.flag("rotates")?.unwrap_or(false),
        label: field.text("label")?.map(str::to_owned),
        description: field.text("description")?.map(str::to_owned),
        default: field.get("default").cloned(),
        options: read_options(field)?,
        min: field.count("min")?,
        max: field.count("max")?,
        pattern: field.text("pattern")?.map(str::to_owned),
    })
}

fn read_options(field: &Object) -> Result<Vec<Choice>, Error> {
    let options = field.list("options")?.map(Vec::as_slice).unwrap_or_default();
    options
        .iter()
        .enumerate()
        .map(|(place, option)| {
            let path = field.path(&format!("options[{place}]"));
            match option {
                Value::String(text) => Ok(Choice { name: text.clone(), value: text.clone() }),
                Value::Object(_) => {
                    let option = Object::at(path, option)?;
                    let value = option.required_text("value", r#""value": "…""#)?;
                    let name = option.text("name")?.unwrap_or(value);
                    Ok(Choice { name: name.to_owned(), value: value.to_owned() })
                }
                other => Err(wrong_type("an object with name and value", other).at(path)),
            }
        })
        .collect()
}
