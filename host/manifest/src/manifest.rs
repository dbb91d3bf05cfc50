//! The manifest of a konnector: the file `manifest.konnector` of its bundle.

use serde_json::{Map, Value};

use crate::field::{self, Field, FieldKind};
use crate::json::{ObjectReader, check_identifier};
use crate::text_position::strip_byte_order_mark;
use crate::{Error, Frequency, LimitValues, Permissions, Slug};

/// What a konnector declares about itself.
///
/// Fields that mean nothing to the platform are kept as written, see [`Manifest::raw`].
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The name shown to users; never empty.
    pub name: String,
    /// The slug that the author wrote; the slug it is installed under wins. `None` when absent or not a slug.
    pub slug: Option<Slug>,
    /// By semver, as written. Safe as the name of a folder.
    pub version: String,
    /// The path of the WebAssembly component in the bundle.
    pub component: String,
    /// The path of the icon in the bundle.
    pub icon: Option<String>,
    /// The language of the program; informative.
    pub language: Option<String>,
    /// Who publishes it.
    pub editor: Option<String>,
    /// The vendor's site.
    pub vendor_link: Option<String>,
    /// Runs in the user's app, not on the server.
    pub client_side: bool,
    /// What it may do. Absent means nothing.
    pub permissions: Permissions,
    /// What it asks the user for, groups flattened.
    pub fields: Vec<Field>,
    /// Given to the program as they are.
    pub parameters: Option<Map<String, Value>>,
    /// How often it runs; an unknown word means weekly.
    pub frequency: Frequency,
    /// The hours of the day, from the first up to before the last, in which it is scheduled.
    pub time_interval: (u8, u8),
    /// Whether the manifest has a list `folders`; see [`Manifest::wants_folder`].
    pub has_folders: bool,
    /// The first `defaultDir` of `folders`, with its variables `$administrative`, `$photos`, `$konnector` and `$account`.
    pub default_dir: Option<String>,
    /// The terms that the user accepts; a changed version needs their consent.
    pub terms: Option<Terms>,
    /// What its runs need more of, or content themselves with; the operator has the last word.
    pub limits: LimitValues,
    /// The program to run when an account is removed, a path in the bundle.
    pub on_delete_account: Option<String>,
    raw: Map<String, Value>,
    warnings: Vec<String>,
}

/// Terms of service that the user accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which terms.
    pub id: String,
    /// Where they can be read.
    pub url: Option<String>,
    /// Which edition of them.
    pub version: String,
}

impl Manifest {
    /// The name of the file in a bundle.
    pub const FILE_NAME: &str = "manifest.konnector";
    /// The largest manifest, in bytes.
    pub const MAX_SIZE: usize = 2 * 1024 * 1024;
    /// The component, unless the manifest names another.
    pub const DEFAULT_COMPONENT: &str = "konnector.wasm";
    /// The hours in which a konnector runs, unless the manifest names others.
    pub const DEFAULT_TIME_INTERVAL: (u8, u8) = (0, 5);

    /// The members that mean something: to the platform, to registries, or to clients (Cozy API, manifest). All others are kept, too.
    pub const KNOWN_FIELDS: &[&str] = &[
        "accept_from_flagship",
        "aggregator",
        "categories",
        "clientSide",
        "client_url_flag",
        "component",
        "data_types",
        "developer",
        "editor",
        "features",
        "fields",
        "folders",
        "frequency",
        "icon",
        "intents",
        "langs",
        "language",
        "license",
        "limits",
        "locales",
        "manifest_version",
        "messages",
        "name",
        "name_prefix",
        "notifications",
        "oauth",
        "on_delete_account",
        "parameters",
        "partnership",
        "permissions",
        "platforms",
        "qualification_labels",
        "routes",
        "screenshots",
        "services",
        "slug",
        "source",
        "terms",
        "time_interval",
        "type",
        "vendor_link",
        "version",
    ];

    /// Reads a manifest. Of duplicate keys the last one wins; null counts as absent.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Syntax`] with line and column; otherwise [`Error::AtField`] names the field, within [`Error::AtPosition`] with line
    /// and column unless the field is absent.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(Error::TooLarge { size: bytes.len(), limit: Self::MAX_SIZE });
        }
        let text = strip_byte_order_mark(bytes);
        let value: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error, text))?;
        match value {
            Value::Object(raw) => Self::from_object(raw).map_err(|error| error.with_position(bytes)),
            other => Err(crate::json::wrong_type("an object", &other).at_field("the manifest")),
        }
    }

    /// Reads a manifest that was parsed before, for example the stored document of an installed konnector.
    ///
    /// # Errors
    /// Like [`Manifest::parse`], except for size and syntax.
    pub fn from_object(raw: Map<String, Value>) -> Result<Self, Error> {
        let root = ObjectReader::root(&raw);
        let mut warnings = Vec::new();
        read_type(&root, &mut warnings)?;
        let permissions = match root.object("permissions")? {
            Some(rules) => Permissions::from_manifest(rules.fields())?,
            None => Permissions::default(),
        };
        let fields = root.object("fields")?.map(|fields| field::parse_all(&fields)).transpose()?;
        for field in fields.iter().flatten() {
            if let FieldKind::Other(kind) = &field.kind {
                warnings.push(format!(
                    r#"fields.{}.type: "{kind}" is unknown, the value is kept like a password; use text, password, email, dropdown, checkbox, hidden, date, phone or folder"#,
                    field.name
                ));
            }
        }
        let folders = root.list("folders")?;
        let manifest = Self {
            name: read_name(&root)?,
            slug: read_slug(&root, &mut warnings)?,
            version: read_version(&root)?,
            component: read_path(&root, "component")?.unwrap_or_else(|| Self::DEFAULT_COMPONENT.to_owned()),
            icon: read_path(&root, "icon")?,
            language: root.string("language")?.map(str::to_owned),
            editor: root.string("editor")?.map(str::to_owned),
            vendor_link: root.string("vendor_link")?.map(str::to_owned),
            client_side: root.boolean("clientSide")?.unwrap_or(false),
            permissions,
            fields: fields.unwrap_or_default(),
            parameters: root.object("parameters")?.map(|parameters| parameters.fields().clone()),
            frequency: read_frequency(&root, &mut warnings)?,
            time_interval: read_time_interval(&root)?,
            has_folders: folders.is_some(),
            default_dir: read_default_dir(folders),
            terms: root.object("terms")?.map(|terms| read_terms(&terms)).transpose()?,
            limits: root
                .object("limits")?
                .map(|limits| LimitValues::parse(&limits, &mut warnings))
                .transpose()?
                .unwrap_or_default(),
            on_delete_account: read_path(&root, "on_delete_account")?,
            warnings,
            raw: Map::new(),
        };
        Ok(Self { raw, ..manifest })
    }

    /// Everything as written, also the fields that mean nothing to the platform.
    pub const fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// What its author should look at although it can be installed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The names of the fields that are kept sealed and never shown to the program.
    pub fn secret_fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|field| field.secret).map(|field| field.name.as_str())
    }

    /// Whether the program may replace a secret of the account. What the user typed it may replace only where the field says
    /// `"rotates": true`; secrets that no field asks for are the program's own.
    pub fn may_replace_secret(&self, name: &str) -> bool {
        match self.fields.iter().find(|field| field.name == name) {
            Some(field) => field.rotates,
            None => name != "password",
        }
    }

    /// The field whose value identifies the account at the vendor: the one declared so, else `login`, else `email`.
    pub fn identifier_field(&self) -> Option<&str> {
        let first = |wanted: &dyn Fn(&Field) -> bool| self.fields.iter().find(|field| wanted(field));
        first(&|field| field.identifier)
            .or_else(|| first(&|field| field.name == "login"))
            .or_else(|| first(&|field| field.name == "email"))
            .map(|field| field.name.as_str())
    }

    /// Whether its triggers ask for a folder to save to: it has a list `folders`, or an advanced field `folderPath`.
    pub fn wants_folder(&self) -> bool {
        self.has_folders || self.fields.iter().any(|field| field.advanced && field.name == "folderPath")
    }
}

fn syntax_error(error: &serde_json::Error, text: &[u8]) -> Error {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let sentence = error.to_string();
    let (line, column) = match (error.line(), error.column()) {
        // The wrong byte is itself a line break, in a string. serde_json counts the line that it begins, and its readers look at that.
        (line, 0) if line > 1 && error.is_syntax() => {
            let broken = text.split(|byte| *byte == b'\n').nth(line - 2).unwrap_or_default();
            (line - 1, broken.len() + 1)
        }
        place => place,
    };
    Error::Syntax { line, column, reason: sentence.strip_suffix(&place).unwrap_or(&sentence).to_owned() }
}

fn read_type(root: &ObjectReader, warnings: &mut Vec<String>) -> Result<(), Error> {
    match root.string("type")? {
        Some("webapp") => return Err(Error::WebApp.at_field("type")),
        Some("konnector" | "node") | None => {}
        Some(other) => warnings.push(format!(r#"type: "{other}" is unknown; write "konnector""#)),
    }
    Ok(())
}

fn read_name(root: &ObjectReader) -> Result<String, Error> {
    let name = root.required_string("name", r#""name": "My Bank""#)?;
    if name.trim().is_empty() {
        return Err(invalid(root, "name", "write the name that users know"));
    }
    Ok(name.to_owned())
}

/// Installed konnectors live in a folder of their version.
fn read_version(root: &ObjectReader) -> Result<String, Error> {
    let version = root.required_string("version", r#""version": "1.0.0""#)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    let starts_well = version.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || !version.chars().all(allowed) || version.len() > 128 {
        return Err(invalid(root, "version", r#"write a version by semver, as in "1.0.0" or "2.1.0-beta.3""#));
    }
    Ok(version.to_owned())
}

fn read_slug(root: &ObjectReader, warnings: &mut Vec<String>) -> Result<Option<Slug>, Error> {
    let Some(text) = root.string("slug")? else { return Ok(None) };
    check_identifier(root.path("slug"), text)?;
    match text.parse() {
        Ok(slug) => Ok(Some(slug)),
        Err(error) => {
            warnings.push(format!("slug: {error}"));
            Ok(None)
        }
    }
}

fn read_frequency(root: &ObjectReader, warnings: &mut Vec<String>) -> Result<Frequency, Error> {
    let Some(word) = root.string("frequency")? else { return Ok(Frequency::default()) };
    Ok(Frequency::from_name(word).unwrap_or_else(|| {
        warnings
            .push(format!(r#"frequency: "{word}" is unknown and means weekly; use hourly, daily, weekly or monthly"#));
        Frequency::default()
    }))
}

fn read_time_interval(root: &ObjectReader) -> Result<(u8, u8), Error> {
    let Some(list) = root.list("time_interval")? else { return Ok(Manifest::DEFAULT_TIME_INTERVAL) };
    let hours: Option<Vec<u8>> = list.iter().map(|hour| hour.as_u64().and_then(|hour| hour.try_into().ok())).collect();
    match hours.as_deref() {
        Some(&[start, end]) if start < end && end <= 24 => Ok((start, end)),
        _ => Err(invalid(
            root,
            "time_interval",
            "write [start, end] in whole hours with 0 ≤ start < end ≤ 24, as in [0, 5]",
        )),
    }
}

/// A path inside the bundle.
fn read_path(root: &ObjectReader, name: &str) -> Result<Option<String>, Error> {
    let Some(path) = root.string(name)?.filter(|path| !path.is_empty()) else { return Ok(None) };
    check_identifier(root.path(name), path)?;
    let leaves = path.starts_with('/') || path.contains('\\') || path.split('/').any(|part| part == "..");
    if leaves {
        return Err(invalid(root, name, r#"write a path inside the bundle, as in "assets/icon.svg""#));
    }
    Ok(Some(path.to_owned()))
}

fn read_default_dir(folders: Option<&Vec<Value>>) -> Option<String> {
    folders?.iter().find_map(|folder| folder.get("defaultDir")?.as_str()).map(str::to_owned)
}

fn read_terms(terms: &ObjectReader) -> Result<Terms, Error> {
    let id = terms.required_string("id", r#""id": "my-bank-terms""#)?;
    check_identifier(terms.path("id"), id)?;
    Ok(Terms {
        id: id.to_owned(),
        url: terms.string("url")?.map(str::to_owned),
        version: terms.required_string("version", r#""version": "1""#)?.to_owned(),
    })
}

fn invalid(root: &ObjectReader, name: &str, advice: &'static str) -> Error {
    let found = root.get(name).map(Value::to_string).unwrap_or_default();
    Error::Invalid { found, advice }.at_field(root.path(name))
}

#[cfg(test)]
mod tests;
