//! Documents of another database, with the revisions that they have there (CouchDB's `new_edits: false`).

use konnector_manifest::Doctype;
use konnector_store::Rev;

use crate::document::{check_document_id, check_writable};
use crate::instance::Instance;
use crate::stored::Object;
use crate::token::Principal;
use crate::{Error, Platform, Result};

impl Platform {
    /// Stores the revision that a document has in another database, with `body`, or as a deletion without one. `history` is that revision and
    /// those before it, the newest first: the one that is here must be among them, because conflicts are not kept. Nothing is to be done for
    /// one that is here already, and for the deletion of what is not.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the revision that is here is no ancestor of the new one; like the other writes otherwise.
    pub async fn replicate_document(
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
            return Err(Error::BadRequest("a document of another database has a _rev".to_owned()));
        };
        let here = self.store.get(&instance.doc(doctype, id))?.map(|found| found.rev);
        match (here, body) {
            (Some(here), _) if here == *newest => {}
            (Some(here), _) if !history.contains(&here) => {
                return Err(Error::Conflict(format!(
                    "the document is at revision {here}, which is not an ancestor of {newest}, and conflicts are not kept: read it and write anew"
                )));
            }
            (Some(here), Some(body)) => {
                self.update_document_with_rev(instance, principal, doctype, (id, &here), body, Some(newest)).await?;
            }
            (Some(here), None) => {
                self.delete_document_with_rev(instance, principal, doctype, (id, &here), Some(newest)).await?;
            }
            (None, Some(body)) => {
                self.create_document_with_rev(instance, principal, doctype, id.to_owned(), body, Some(newest)).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}
