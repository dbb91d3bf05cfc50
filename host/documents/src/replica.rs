//! Documents of another database, with their revisions there (CouchDB's `new_edits: false`).

use konnector_manifest::Doctype;
use konnector_store::Rev;

use crate::document::{check_document_id, check_writable};
use crate::handles::Documents;
use crate::instance::Instance;
use crate::principal::Principal;
use crate::stored::Object;
use crate::{Error, Result};

impl Documents {
    /// Stores a document's revision from another database, with `body`, or as a deletion without one. `history` is that
    /// revision and its ancestors, newest first: it must contain the local revision, because conflicts are not stored.
    /// Does nothing if the revision is already here, or if the document to delete does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the local revision is not an ancestor of the new one; otherwise like the other writes.
    pub async fn replicate(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
        history: &[Rev],
        body: Option<Object>,
    ) -> Result<()> {
        check_writable(doctype)?;
        check_document_id(id)?;
        let Some(newest) = history.first() else {
            return Err(Error::BadRequest(
                "_rev: the field is missing; set it to the revision of the document in the other database".to_owned(),
            ));
        };
        let here = self.core.store().get(&instance.doc(doctype, id))?.map(|found| found.rev);
        match (here, body) {
            (Some(here), _) if here == *newest => {}
            (Some(here), _) if !history.contains(&here) => {
                return Err(Error::Conflict(format!(
                    "the document is at revision {here}, which is not an ancestor of {newest}, and conflicts are not stored; read the document, then write it again"
                )));
            }
            (Some(here), Some(body)) => {
                self.update_with_rev(instance, principal, doctype, (id, &here), body, Some(newest)).await?;
            }
            (Some(here), None) => {
                self.delete_with_rev(instance, principal, doctype, (id, &here), Some(newest)).await?;
            }
            (None, Some(body)) => {
                self.create_with_rev(instance, principal, doctype, id.to_owned(), body, Some(newest)).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}
