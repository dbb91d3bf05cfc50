//! Side effects of a commit that writes files: on the index of references, the disk usage, and the tree.

use konnector_store::{Changes, DocumentWrite, Rev};

use super::placement::PlacementChanges;
use super::reference;
use super::usage::{UsageDeltas, add_delta};
use crate::Result;
use crate::doctype::{FILES, VERSIONS};
use crate::handles::Files;

/// Remaining effects of a commit that writes files or versions.
#[derive(Debug, Default)]
pub(crate) struct FileEffects {
    usage_deltas: UsageDeltas,
    placements: PlacementChanges,
}

impl FileEffects {
    /// Returns whether the commit has no further effects.
    pub(crate) fn is_empty(&self) -> bool {
        self.usage_deltas.is_empty() && self.placements.is_empty()
    }
}

impl Files {
    /// Adds the effects of the written files on the index of references to `changes`; returns the remaining effects.
    pub(crate) fn stage_effects(&self, changes: &mut Changes) -> Result<FileEffects> {
        let (mut references, mut effects) = (Vec::new(), FileEffects::default());
        for written in changes.document_writes() {
            let DocumentWrite { document, body, previous_rev: replaces } = written;
            if document.doctype != *FILES && document.doctype != *VERSIONS {
                continue;
            }
            let before = self.platform.document_before(written)?;
            add_delta(&mut effects.usage_deltas, &document.instance, before.as_ref(), body);
            // A commit that replaces a file which no longer exists conflicts anyway.
            if document.doctype == *FILES && before.is_some() == replaces.is_some() {
                effects.placements.record(document, before.as_ref(), body);
                references.push(reference::ReferenceChange::of(document, before.as_ref(), body)?);
            }
        }
        for moved in references {
            moved.stage(changes);
        }
        Ok(effects)
    }

    /// Commits changes, together with the check of the files' places, and counts their growth. Runs to the end even if
    /// the caller no longer waits, so that the stored bytes are counted and no other request moves directories before
    /// that.
    pub(crate) async fn commit_with_effects(&self, changes: Changes, effects: FileEffects) -> Result<Vec<Rev>> {
        let files = self.clone();
        let committed = self.platform.tasks().spawn(async move {
            let FileEffects { usage_deltas: growth, placements: places } = effects;
            let counted = files.platform.inner.usage.begin_update(growth).await;
            let _held = files.lock_and_check_placements(places).await?;
            let revs = files.platform.store().commit(changes).await?;
            counted.apply();
            Ok(revs)
        });
        committed.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }
}
