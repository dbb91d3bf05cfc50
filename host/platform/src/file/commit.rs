//! What a commit that writes files means besides: for the index of references, for the room that files take, and for the tree.

use konnector_store::{Changes, DocumentWrite, Rev};

use super::placement::PlacementChanges;
use super::reference;
use super::usage::{UsageDeltas, add_delta};
use crate::doctype::{FILES, VERSIONS};
use crate::{Platform, Result};

/// What is left to do with a commit that writes files or versions.
#[derive(Debug, Default)]
pub(crate) struct FileEffects {
    usage_deltas: UsageDeltas,
    placements: PlacementChanges,
}

impl FileEffects {
    /// Whether the commit needs no more than to be made.
    pub(crate) fn is_empty(&self) -> bool {
        self.usage_deltas.is_empty() && self.placements.is_empty()
    }
}

impl Platform {
    /// Adds to some changes what the files among them mean for the index of references; returns what else they mean.
    pub(crate) fn stage_file_effects(&self, changes: &mut Changes) -> Result<FileEffects> {
        let (mut references, mut effects) = (Vec::new(), FileEffects::default());
        for written in changes.document_writes() {
            let DocumentWrite { document, body, previous_rev: replaces } = written;
            if document.doctype != *FILES && document.doctype != *VERSIONS {
                continue;
            }
            let before = self.document_before(written)?;
            add_delta(&mut effects.usage_deltas, &document.instance, before.as_ref(), body);
            // A commit that replaces what is there no more conflicts, wherever the file was to be.
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

    /// Makes changes, checks the places of files with them and counts their growth. Goes on to the end when whoever asked for it no longer
    /// waits: what is stored is counted, and nobody else moves directories before it is.
    pub(crate) async fn commit_files(&self, changes: Changes, effects: FileEffects) -> Result<Vec<Rev>> {
        let platform = self.clone();
        let committed = self.tasks().spawn(async move {
            let FileEffects { usage_deltas: growth, placements: places } = effects;
            let counted = platform.usage.begin_update(growth).await;
            let _held = platform.lock_and_check_placements(places).await?;
            let revs = platform.store.commit(changes).await?;
            counted.apply();
            Ok(revs)
        });
        committed.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }
}
