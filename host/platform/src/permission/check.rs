//! Whether a request may do what it wants to, and what to do where it may not: a konnector lacks a rule of its manifest, everybody else a
//! part of the token's scope.

use konnector_manifest::{Doctype, PermissionDenied, Verb};

use crate::doctype::JOBS;
use crate::document::check_writable;
use crate::stored::Object;
use crate::token::Principal;
use crate::{Error, Result};

/// Whether documents of a type say what runs said. Secrets in it are masked on its way to people: a konnector that read it back would learn
/// which of its guesses are secrets.
pub(crate) fn is_hidden_from_konnectors(verb: Verb, doctype: &Doctype) -> bool {
    verb == Verb::Get && *doctype == *JOBS
}

/// The refusal that goes with it.
pub(crate) const HIDDEN_FROM_KONNECTORS_MESSAGE: &str =
    "a konnector does not read jobs, which hold what runs say; use a token of a person or of an app";

impl Principal {
    /// Refuses whoever has no rule for the whole type.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_type(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_type(verb, doctype), verb, doctype)
    }

    /// Refuses whoever has no rule for any document of the type, before it is known which document is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_any(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_any(verb, doctype), verb, doctype)
    }

    /// Refuses whoever has no rule for the type, the document's id, or one of its members.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_document(&self, verb: Verb, doctype: &Doctype, id: &str, body: &Object) -> Result<()> {
        self.check_not_hidden(verb, doctype)?;
        self.explain_denial(self.permissions.check_document(verb, doctype, id, body), verb, doctype)
    }

    /// Refuses whoever has no rule to write what it tells listeners of, and a konnector that tells of what only the platform writes, such as
    /// jobs: listeners believe it.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
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
