//! The error type of this crate.

use crate::TextPosition;

/// Why a manifest, a permission set, a scope or one of their parts was rejected.
///
/// Every message names the invalid input and the valid alternative. Inside a JSON document the error is wrapped in
/// [`Error::AtField`], which names the field, and if the document's text is known in [`Error::AtPosition`], which names
/// the line. The predicates ([`Error::is_syntax`], …) look through both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The error of a field of a JSON document.
    #[error("{path}: {error}")]
    AtField {
        /// The field, for example `permissions.bills.verbs[1]`.
        path: String,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// An error with the position of its field in the text.
    #[error("line {}, column {}: {error}", position.line, position.column)]
    AtPosition {
        /// Position of the field.
        position: TextPosition,
        /// The error of the field.
        error: Box<Self>,
    },
    /// The manifest is not JSON.
    #[error("the manifest is not valid JSON: line {line}, column {column}: {reason}")]
    Syntax {
        /// Line number, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The parser's message.
        reason: String,
    },
    /// The manifest is larger than [`crate::Manifest::MAX_SIZE`].
    #[error(
        "the manifest is {size} bytes long, but the limit is {limit} bytes; move large data into files of the bundle"
    )]
    TooLarge {
        /// Size of the manifest in bytes.
        size: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The manifest is that of a web app.
    #[error(r#""webapp" is not valid for a konnector; write "type": "konnector""#)]
    WebApp,
    /// A required field is missing or null.
    #[error("this field is required; add {example}")]
    Missing {
        /// An example of the field.
        example: &'static str,
    },
    /// A field has a value of another JSON type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// Expected type, with its article: "a string".
        expected: &'static str,
        /// Type that was found, with its article.
        found: &'static str,
    },
    /// A value has the right type but is invalid.
    #[error("{found} is not allowed; {advice}")]
    Invalid {
        /// The value, as JSON.
        found: String,
        /// What to write instead.
        advice: &'static str,
    },
    /// Not a slug.
    #[error(r#""{slug}" is not a valid slug; use only a-z, 0-9 and "-""#)]
    Slug {
        /// The rejected slug, as written.
        slug: String,
    },
    /// Not a doctype, or not a doctype that a rule may name. For a manifest, the HTTP API returns 403.
    #[error(r#""{doctype}" is not a doctype that a rule can name: {reason}"#)]
    Doctype {
        /// The rejected doctype, as written.
        doctype: String,
        /// The violated rule.
        reason: &'static str,
    },
    /// Not a verb.
    #[error(r#""{verb}" is not a valid verb; {advice}"#)]
    Verb {
        /// The rejected verb, as written.
        verb: String,
        /// The verbs that are valid here.
        advice: &'static str,
    },
    /// Not a host pattern.
    #[error(r#""{host}" is not a host that a rule can name: {reason}"#)]
    Host {
        /// The rejected host, as written.
        host: String,
        /// The violated rule, and what to write instead.
        reason: String,
    },
    /// The account's field to which a rule refers does not hold a web address.
    #[error(
        r#"the account's field "{field}" does not contain a web address such as "https://cloud.example": {reason}"#
    )]
    AccountAddress {
        /// The field's name.
        field: String,
        /// What is wrong; never quotes the field's value.
        reason: &'static str,
    },
    /// Not a scope string.
    #[error(r#""{rule}" is not a valid scope: {reason}"#)]
    Scope {
        /// The invalid rule of the scope.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a source.
    #[error(r#""{source_text}" is not a valid source: {reason}"#)]
    Source {
        /// The rejected source, as written.
        source_text: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
}

impl Error {
    /// Wraps the error as an error of the field `path` of a JSON document.
    pub(crate) fn at_field(self, path: impl Into<String>) -> Self {
        Self::AtField { path: path.into(), error: Box::new(self) }
    }

    /// Adds the position of the error's field in the text that was read.
    pub(crate) fn with_position(self, text: &[u8]) -> Self {
        let position = if let Self::AtField { path, .. } = &self { TextPosition::find(text, path) } else { None };
        match position {
            Some(position) => Self::AtPosition { position, error: Box::new(self) },
            None => self,
        }
    }

    /// Returns the line of the error in the text, from 1, if it is known.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::AtPosition { position, .. } => Some(position.line),
            Self::Syntax { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// Returns the error itself, without its field and position.
    pub fn cause(&self) -> &Self {
        match self {
            Self::AtField { error, .. } | Self::AtPosition { error, .. } => error.cause(),
            other => other,
        }
    }

    /// Returns whether the text is not JSON.
    pub fn is_syntax(&self) -> bool {
        matches!(self.cause(), Self::Syntax { .. })
    }

    /// Returns whether a permission names a doctype that no rule can name.
    pub fn is_doctype(&self) -> bool {
        matches!(self.cause(), Self::Doctype { .. })
    }

    /// Returns whether the manifest is that of a web app.
    pub fn is_web_app(&self) -> bool {
        matches!(self.cause(), Self::WebApp)
    }
}
