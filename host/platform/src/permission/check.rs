//! Whether a request may do what it wants to, and what to do where it may not: a konnector lacks a rule of its manifest, everybody else a
//! part of the token's scope.

use konnector_manifest::{Denied, Doctype, Verb};

use crate::stored::Object;
use crate::token::Principal;
use crate::{Error, Result};

impl Principal {
    /// Refuses whoever has no rule for the whole type.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_type(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.told(self.permissions.check_type(verb, doctype), verb, doctype)
    }

    /// Refuses whoever has no rule for any document of the type, before it is known which document is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_any(&self, verb: Verb, doctype: &Doctype) -> Result<()> {
        self.told(self.permissions.check_any(verb, doctype), verb, doctype)
    }

    /// Refuses whoever has no rule for the type, the document's id, or one of its members.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what is missing.
    pub fn check_document(&self, verb: Verb, doctype: &Doctype, id: &str, body: &Object) -> Result<()> {
        self.told(self.permissions.check_document(verb, doctype, id, body), verb, doctype)
    }

    fn told(&self, checked: Result<(), Denied>, verb: Verb, doctype: &Doctype) -> Result<()> {
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
