//! Permission checks of requests, and advice when one fails. A konnector lacks a rule in its manifest; other callers
//! lack a part of the token's scope.

use konnector_manifest::{Doctype, PermissionDenied, Verb};

use crate::doctype::JOBS;
use crate::document::check_writable;
use crate::principal::Principal;
use crate::stored::Object;
use crate::{Error, Result};

/// Returns whether documents of a doctype contain output of runs. Secrets in it are masked for users; a konnector that
/// reads it back would learn which of its guesses are secrets.
pub fn is_hidden_from_konnectors(verb: Verb, doctype: &Doctype) -> bool {
    verb == Verb::Get && *doctype == *JOBS
}

/// Error message for documents that contain output of runs.
pub const HIDDEN_FROM_KONNECTORS_MESSAGE: &str =
    "a konnector may not read jobs, because they contain the output of runs; use the token of a person or an app";

impl Principal {
    /// Rejects callers without a rule for the whole doctype.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] names the missing rule.
    pub fn check_type(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_type(verb, doctype), verb, doctype)
    }

    /// Rejects callers without a rule for any document of the doctype, before the requested document is known.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] names the missing rule.
    pub fn check_any(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_any(verb, doctype), verb, doctype)
    }

    /// Rejects callers without a rule for the doctype, the document's id, or one of its fields.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] names the missing rule.
    pub fn check_document(&self, verb: Verb, doctype: &Doctype, id: &str, body: &Object) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_document(verb, doctype, id, body), verb, doctype)
    }

    /// Rejects callers without a rule to write the document about which they notify listeners, and konnectors that
    /// notify about documents that only the platform writes, such as jobs: listeners trust such events.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] names the missing rule.
    pub fn check_notify(&self, doctype: &Doctype, id: &str, body: &Object) -> Result<()> {
        self.check_document(Verb::Post, doctype, id, body)?;
        if self.konnector().is_some() { check_writable(doctype) } else { Ok(()) }
    }

    fn check_not_hidden(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        if self.konnector().is_some() && is_hidden_from_konnectors(verb, doctype) {
            return Err(Error::Forbidden(HIDDEN_FROM_KONNECTORS_MESSAGE.to_owned()));
        }
        Ok(())
    }

    fn explain_denial(&self, checked: Result<(), PermissionDenied>, verb: Verb, doctype: &Doctype) -> Result<()> {
        checked.map_err(|denied| match self.konnector() {
            Some(_) => denied.into(),
            None => {
                let some = if self.permissions.allows_any(verb, doctype) { " in this case" } else { "" };
                Error::Forbidden(format!(
                    "the token does not allow {verb} on {doctype}{some}; use one whose scope has {doctype}:{verb}"
                ))
            }
        })
    }
}
