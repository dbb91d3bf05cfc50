//! The manifest of a konnector, which is the file `manifest.konnector` of its bundle.

use serde_json::{Map, Value};

use crate::field::{self, Field, FieldKind};
use crate::json::{ObjectReader, check_identifier};
use crate::text_position::strip_byte_order_mark;
use crate::{Error, Frequency, LimitValues, Permissions, Slug};

/// The parsed manifest of a konnector.
///
/// Fields that the platform does not use are preserved as written, see [`Manifest::raw`].
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The name shown to users; never empty.
    pub name: String,
    /// The author's slug; the slug under which it is installed takes precedence. `None` if absent or not a slug.
    pub slug: Option<Slug>,
    /// Semantic version, as written. Safe as a directory name.
    pub version: String,
    /// The path of the WebAssembly component in the bundle.
    pub component: String,
    /// The path of the icon in the bundle.
    pub icon: Option<String>,
    /// Programming language; informative.
    pub language: Option<String>,
    /// Publisher of the konnector.
    pub editor: Option<String>,
    /// The vendor's site.
    pub vendor_link: Option<String>,
    /// Whether the konnector runs in the user's app, not on the server.
    pub client_side: bool,
    /// Permission rules; none if absent.
    pub permissions: Permissions,
    /// Form fields for the user, with groups flattened.
    pub fields: Vec<Field>,
    /// Parameters passed to the program unchanged.
    pub parameters: Option<Map<String, Value>>,
    /// Frequency of the runs; an unknown word means weekly.
    pub frequency: Frequency,
    /// Hours of the day in which runs are scheduled, from the first (inclusive) to the last (exclusive).
    pub time_interval: (u8, u8),
    /// Whether the manifest has a list `folders`; see [`Manifest::wants_folder`].
    pub has_folders: bool,
    /// The first `defaultDir` of `folders`, with its variables `$administrative`, `$photos`, `$konnector` and
    /// `$account`.
    pub default_dir: Option<String>,
    /// Terms that the user must accept; a changed version requires consent again.
    pub terms: Option<Terms>,
    /// Requested limits of the runs, higher or lower than the defaults; the operator has the last word.
    pub limits: LimitValues,
    /// Path in the bundle of the program to run when an account is deleted.
    pub on_delete_account: Option<String>,
    raw: Map<String, Value>,
    warnings: Vec<String>,
}

/// Terms of service that the user accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Identifier of the terms.
    pub id: String,
    /// URL of the text of the terms.
    pub url: Option<String>,
    /// Version of the terms.
    pub version: String,
}

impl Manifest {
    /// The name of the file in a bundle.
    pub const FILE_NAME: &str = "manifest.konnector";
    /// Maximum size of a manifest in bytes.
    pub const MAX_SIZE: usize = 2 * 1024 * 1024;
    /// The default component.
    pub const DEFAULT_COMPONENT: &str = "konnector.wasm";
    /// The default hours in which a konnector runs.
    pub const DEFAULT_TIME_INTERVAL: (u8, u8) = (0, 5);

    /// The fields that the platform, registries or clients use (Cozy API, manifest). All others are preserved, too.
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

    /// Parses a manifest. Of duplicate keys the last one wins; null counts as absent.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::Syntax`] with line and column; otherwise [`Error::AtField`] with the field's name,
    /// wrapped in [`Error::AtPosition`] with line and column unless the field is absent.
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

    /// Reads a manifest from parsed JSON, for example the stored document of an installed konnector.
    ///
    /// # Errors
    ///
    /// As [`Manifest::parse`], except for size and syntax.
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
                    r#"fields.{}.type: "{kind}" is unknown, so the value is stored like a password; use text, password, email, dropdown, checkbox, hidden, date, phone or folder"#,
                    field.name
                ));
            }
        }
        warn_about_rules(&root, &mut warnings)?;
        let folders = root.list("folders")?;
        let manifest = Self {
            name: read_name(&root)?,
            slug: read_slug(&root, &mut warnings)?,
            version: read_version(&root, &mut warnings)?,
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

    /// Returns the whole manifest as written, including fields that the platform does not use.
    pub const fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// Returns warnings for the author that do not prevent installation.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the names of the fields that are stored sealed and never shown to the program.
    pub fn secret_fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|field| field.secret).map(|field| field.name.as_str())
    }

    /// Returns whether the program may replace a secret of the account. It may replace a secret typed by the user only
    /// if its field has `"rotates": true`; secrets without a field are the program's own.
    pub fn may_replace_secret(&self, name: &str) -> bool {
        match self.fields.iter().find(|field| field.name == name) {
            Some(field) => field.rotates,
            None => name != "password",
        }
    }

    /// Returns the field whose value identifies the account at the vendor. This is the declared field, otherwise
    /// `login`, otherwise `email`.
    pub fn identifier_field(&self) -> Option<&str> {
        let first = |matches: &dyn Fn(&Field) -> bool| self.fields.iter().find(|field| matches(field));
        first(&|field| field.identifier)
            .or_else(|| first(&|field| field.name == "login"))
            .or_else(|| first(&|field| field.name == "email"))
            .map(|field| field.name.as_str())
    }

    /// Returns whether the konnector's triggers need a folder to save to, because the manifest has a list `folders` or
    /// an advanced field `folderPath`.
    pub fn wants_folder(&self) -> bool {
        self.has_folders || self.fields.iter().any(|field| field.advanced && field.name == "folderPath")
    }
}

fn syntax_error(error: &serde_json::Error, text: &[u8]) -> Error {
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let sentence = error.to_string();
    let (line, column) = match (error.line(), error.column()) {
        // The invalid byte is itself a line break in a string. serde_json reports the line that begins after it.
        (line, 0) if line > 1 && error.is_syntax() => {
            let broken = text.split(|byte| *byte == b'\n').nth(line - 2).unwrap_or_default();
            (line - 1, broken.len() + 1)
        }
        suffix => suffix,
    };
    Error::Syntax { line, column, reason: sentence.strip_suffix(&suffix).unwrap_or(&sentence).to_owned() }
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

/// Reads the version, which must be usable as a directory name for the installed konnector.
fn read_version(root: &ObjectReader, warnings: &mut Vec<String>) -> Result<String, Error> {
    let version = root.required_string("version", r#""version": "1.0.0""#)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    let starts_well = version.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || !version.chars().all(allowed) || version.len() > 128 {
        return Err(invalid(root, "version", r#"write a semantic version, as in "1.0.0" or "2.1.0-beta.3""#));
    }
    if !is_semantic_version(version) {
        warnings.push(format!(
            r#"version: "{version}" is not a semantic version, so no registry can order it; write one as in "1.0.0""#
        ));
    }
    Ok(version.to_owned())
}

/// Returns whether the version begins with three numbers without leading zeros, followed by nothing, `-` or `+` and a
/// suffix (<https://semver.org>); the characters are checked by the caller.
fn is_semantic_version(version: &str) -> bool {
    let (core, suffix) = match version.find(['-', '+']) {
        Some(at) => version.split_at(at),
        None => (version, ""),
    };
    let is_number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    let is_identifier = |part: &str| !part.is_empty() && !part.contains('_');
    let parts: Vec<&str> = core.split('.').collect();
    let suffixes = suffix.get(1..).unwrap_or_default();
    parts.len() == 3
        && parts.into_iter().all(is_number)
        && (suffix.is_empty() || suffixes.split(['.', '+']).all(is_identifier))
}

/// Warns about fields of rules that have no effect, because a misspelt `selector` makes a rule wider than intended.
fn warn_about_rules(root: &ObjectReader, warnings: &mut Vec<String>) -> Result<(), Error> {
    const RULE_FIELDS: [&str; 6] = ["type", "verbs", "selector", "values", "secrets", "description"];
    let Some(rules) = root.object("permissions")? else { return Ok(()) };
    for (name, rule) in rules.fields() {
        let members = rule.as_object().into_iter().flat_map(Map::keys);
        for member in members.filter(|member| !RULE_FIELDS.contains(&member.as_str())) {
            warnings.push(format!(
                "permissions.{name}.{member}: this field is unknown and ignored; a rule has type, verbs, selector, values, secrets and description"
            ));
        }
    }
    Ok(())
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

/// Reads a path inside the bundle.
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
