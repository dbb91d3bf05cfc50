//! Conversion of changes into the batch that applies them.

use crate::blob::{BlobId, Blobs};
use crate::changes::{ChangeOp, Changes, DeleteMode};
use crate::document::DocumentRecord;
use crate::error::Result;
use crate::id::DocRef;
use crate::kv::{Batch, Kv};
use crate::rev::Rev;
use crate::view::View;
use crate::{document, feed, queue, schedule, secondary_index, unique_index};

/// Result of planning: the batch to apply, and the consequences of applying it.
pub(crate) struct CommitPlan {
    /// Conditional on everything that the plan is based on.
    pub(crate) batch: Batch,
    /// The revisions of the written documents, in order.
    pub(crate) revs: Vec<Rev>,
    /// Blobs that no document refers to afterwards.
    pub(crate) unlinked_blobs: Vec<BlobId>,
}

/// Plans the changes against the stored data.
///
/// # Errors
///
/// If a change cannot be applied; then none is applied. [`crate::Error::BlobNotFound`] if a document is being replaced;
/// plan again then.
pub(crate) fn plan(kv: &dyn Kv, blobs: &dyn Blobs, changes: &Changes) -> Result<CommitPlan> {
    let mut view = View::new(kv);
    let (mut revs, mut freed) = (Vec::new(), Vec::new());
    for lease in &changes.fences {
        queue::fence(&mut view, lease)?;
    }
    for step in &changes.ops {
        match step {
            ChangeOp::Create { document, body, assigned } => {
                let rev = document::create(&mut view, document, body, assigned.as_ref())?;
                feed::record(&mut view, document, &rev, false)?;
                revs.push(rev);
                secondary_index::update(&mut view, document, || Ok(None), || Ok(Some(body.map().clone())))?;
            }
            ChangeOp::Put { document, expected, body, assigned } => {
                let (rev, old) = document::replace(&mut view, document, expected, body, assigned.as_ref())?;
                feed::record(&mut view, document, &rev, false)?;
                let before = || document::body(blobs, &old).map(Some);
                secondary_index::update(&mut view, document, before, || Ok(Some(body.map().clone())))?;
                revs.push(rev);
                freed.extend(old.body.blob());
            }
            ChangeOp::Delete { document, expected, mode, assigned } => {
                let (rev, old) = delete(&mut view, document, expected, *mode, assigned.as_ref())?;
                let before = || document::body(blobs, &old).map(Some);
                secondary_index::update(&mut view, document, before, || Ok(None))?;
                revs.push(rev);
                freed.extend(old.body.blob());
            }
            ChangeOp::PutUnique { instance, index, key, value } => {
                unique_index::put(&mut view, instance, index, key, value)?
            }
            ChangeOp::RemoveUnique { instance, index, key } => unique_index::remove(&mut view, instance, index, key)?,
            ChangeOp::Require { document } => document::require(&mut view, document)?,
            ChangeOp::Enqueue { job, entry } => queue::enqueue(&mut view, job, entry)?,
            ChangeOp::Promote { queued } => queue::promote(&mut view, queued)?,
            ChangeOp::Dequeue { job } => queue::dequeue(&mut view, job)?,
            ChangeOp::Claim { lease, entry } => queue::start_lease(&mut view, lease, entry)?,
            ChangeOp::Renew { lease } => queue::renew(&mut view, lease)?,
            ChangeOp::Complete { lease } => queue::complete(&mut view, lease)?,
            ChangeOp::Expire { lease } => queue::expire(&mut view, lease)?,
            ChangeOp::Schedule { trigger, due } => schedule::set(&mut view, trigger, *due)?,
            ChangeOp::Fire { trigger, instant, next } => schedule::fire(&mut view, trigger, *instant, *next)?,
        }
    }
    Ok(CommitPlan { batch: view.into_batch()?, revs, unlinked_blobs: freed })
}

fn delete(
    view: &mut View<'_>,
    document: &DocRef,
    expected: &Rev,
    mode: DeleteMode,
    assigned: Option<&Rev>,
) -> Result<(Rev, DocumentRecord)> {
    let deleted = document::delete(view, document, expected, mode, assigned)?;
    match mode {
        DeleteMode::Tombstone => feed::record(view, document, &deleted.0, true)?,
        DeleteMode::Purge => feed::remove(view, document)?,
    }
    queue::remove(view, document)?;
    schedule::set(view, document, None)?;
    Ok(deleted)
}
