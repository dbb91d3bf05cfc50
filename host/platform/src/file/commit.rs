//! What a commit that writes files means besides: for the index of references, for the room that files take, and for the tree.

use konnector_store::{Changes, DocumentWrite, Rev};

use super::place::Places;
use super::reference;
use super::usage::{Growth, grow};
use crate::doctype::{FILES, VERSIONS};
use crate::{Platform, Result};

/// What is left to do with a commit that writes files or versions.
#[derive(Debug, Default)]
pub(crate) struct FileEffects {
    growth: Growth,
    places: Places,
}

impl FileEffects {
    /// Whether the commit needs no more than to be made.
    pub(crate) fn is_empty(&self) -> bool {
        self.growth.is_empty() && self.places.is_empty()
    }
}

impl Platform {
    /// Adds to some changes what the files among them mean for the index of references; returns what else they mean.
    pub(crate) fn stage_files(&self, changes: &mut Changes) -> Result<FileEffects> {
        let (mut references, mut effects) = (Vec::new(), FileEffects::default());
        for written in changes.document_writes() {
            let DocumentWrite { document, body, previous_rev: replaces } = written;
            if document.doctype != *FILES && document.doctype != *VERSIONS {
                continue;
            }
            let before = self.before(written)?;
            grow(&mut effects.growth, &document.instance, before.as_ref(), body);
            // A commit that replaces what is there no more conflicts, wherever the file was to be.
            if document.doctype == *FILES && before.is_some() == replaces.is_some() {
                effects.places.note(document, before.as_ref(), body);
                references.push(reference::Moved::of(document, before.as_ref(), body)?);
            }
        }
        for moved in references {
            moved.stage(changes);
        }
        Ok(effects)
    }

    /// Makes changes, checks the places of files with them and counts their growth. Goes on to the end when whoever asked for it no longer
    /// waits: what is stored is counted, and nobody else moves directories before it is.
    pub(crate) async fn commit_files(&self, changes: Changes, effects: FileEffects) -> Result<Vec<Rev>> {
        let platform = self.clone();
        let committed = self.tasks().spawn(async move {
            let FileEffects { growth, places } = effects;
            let counted = platform.usage.count(growth).await;
            let _held = platform.hold_places(places).await?;
            let revs = platform.store.commit(changes).await?;
            counted.done();
            Ok(revs)
        });
        committed.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }
}
