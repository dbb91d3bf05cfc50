//! Side effects of a commit that writes files: on the index of references, the disk usage, and the tree.

use std::sync::Arc;

use async_trait::async_trait;
use konnector_documents::Core;
use konnector_documents::hook::{CommitGuard, CommitHook};
use konnector_documents::instance::Instance;
use konnector_store::{Changes, DocumentWrite};

use super::placement::{PlacementChanges, TreeGuard};
use super::reference;
use super::usage::{UsageDeltas, UsageUpdate, add_delta};
use super::{FileState, stage_root_directories};
use crate::Files;
use crate::Result;
use konnector_documents::doctype::{FILES, INSTANCES, VERSIONS};

/// Remaining effects of a commit that writes files or versions.
#[derive(Debug, Default)]
struct FileEffects {
    usage_deltas: UsageDeltas,
    placements: PlacementChanges,
}

impl FileEffects {
    /// Returns whether the commit has no further effects.
    fn is_empty(&self) -> bool {
        self.usage_deltas.is_empty() && self.placements.is_empty()
    }
}

impl Files {
    /// Adds the effects of the written files on the index of references to `changes`; returns the remaining effects.
    fn stage_effects(&self, changes: &mut Changes) -> Result<FileEffects> {
        let (mut references, mut effects) = (Vec::new(), FileEffects::default());
        for written in changes.document_writes() {
            let DocumentWrite { document, body, previous_rev: replaces } = written;
            if document.doctype != *FILES && document.doctype != *VERSIONS {
                continue;
            }
            let before = self.core.document_before(written)?;
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

    /// Adds the root directory and the trash of each instance that `changes` create.
    fn stage_new_instances(&self, changes: &mut Changes) -> Result<()> {
        let mut created = Vec::new();
        for DocumentWrite { document, body, previous_rev } in changes.document_writes() {
            if let (Some(body), None) = (body, previous_rev)
                && document.doctype == *INSTANCES
                && document.instance.is_global()
            {
                created.push(Instance::from_body(&document.id, body.clone())?);
            }
        }
        for instance in created {
            stage_root_directories(&instance, changes, self.core.clock().now())?;
        }
        Ok(())
    }
}

/// Keeps references, disk usage and the tree right at every commit that writes files.
pub struct FileHook(pub Arc<FileState>);

impl CommitHook for FileHook {
    fn stage(&self, core: &Core, changes: &mut Changes) -> Result<Option<Box<dyn CommitGuard>>> {
        let files = Files::new(core.clone(), Arc::clone(&self.0));
        files.stage_new_instances(changes)?;
        let effects = files.stage_effects(changes)?;
        if effects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(FileGuard { files, effects, usage_update: None, trees: Vec::new() })))
    }
}

/// Blocks full counts and moves of directories until the growth of a commit is counted.
struct FileGuard {
    files: Files,
    effects: FileEffects,
    usage_update: Option<UsageUpdate>,
    trees: Vec<TreeGuard>,
}

#[async_trait]
impl CommitGuard for FileGuard {
    async fn begin(&mut self, _core: &Core) -> Result<()> {
        let FileEffects { usage_deltas, placements } = std::mem::take(&mut self.effects);
        self.usage_update = Some(self.files.state.usage.begin_update(usage_deltas).await);
        self.trees = self.files.lock_and_check_placements(placements).await?;
        Ok(())
    }

    fn committed(mut self: Box<Self>) {
        if let Some(update) = self.usage_update.take() {
            update.apply();
        }
    }
}
