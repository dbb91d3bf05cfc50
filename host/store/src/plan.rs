//! From changes to the batch that makes them.

use crate::blob::{BlobId, Blobs};
use crate::changes::{Changes, Step, Trace};
use crate::document::Record;
use crate::error::Result;
use crate::id::DocRef;
use crate::kv::{Batch, Kv};
use crate::rev::Rev;
use crate::view::View;
use crate::{document, due, feed, index, queue, secondary};

/// What to apply, and what follows once it is.
pub(crate) struct Plan {
    /// Conditional on everything that the plan was made from.
    pub(crate) batch: Batch,
    /// The revisions of the documents written, in order.
    pub(crate) revs: Vec<Rev>,
    /// Blobs that no document refers to afterwards.
    pub(crate) freed: Vec<BlobId>,
}

/// Works out what the changes mean for what is stored now.
///
/// # Errors
/// The first change that cannot be made, and then none is. [`crate::Error::BlobNotFound`] when a document is being replaced: plan anew.
pub(crate) fn plan(kv: &dyn Kv, blobs: &dyn Blobs, changes: &Changes) -> Result<Plan> {
    let mut view = View::new(kv);
    let (mut revs, mut freed) = (Vec::new(), Vec::new());
    for lease in &changes.fences {
        queue::fence(&mut view, lease)?;
    }
    for step in &changes.steps {
        match step {
            Step::Create { document, body, given } => {
                let rev = document::create(&mut view, document, body, given.as_ref())?;
                feed::note(&mut view, document, &rev, false)?;
                revs.push(rev);
                secondary::maintain(&mut view, document, || Ok(None), || Ok(Some(body.map().clone())))?;
            }
            Step::Put { document, expected, body, given } => {
                let (rev, old) = document::replace(&mut view, document, expected, body, given.as_ref())?;
                feed::note(&mut view, document, &rev, false)?;
                let before = || document::body(blobs, &old).map(Some);
                secondary::maintain(&mut view, document, before, || Ok(Some(body.map().clone())))?;
                revs.push(rev);
                freed.extend(old.content.blob());
            }
            Step::Delete { document, expected, trace, given } => {
                let (rev, old) = delete(&mut view, document, expected, *trace, given.as_ref())?;
                let before = || document::body(blobs, &old).map(Some);
                secondary::maintain(&mut view, document, before, || Ok(None))?;
                revs.push(rev);
                freed.extend(old.content.blob());
            }
            Step::Unique { instance, index, key, value } => index::take(&mut view, instance, index, key, value)?,
            Step::Release { instance, index, key } => index::release(&mut view, instance, index, key)?,
            Step::Require { document } => document::require(&mut view, document)?,
            Step::Enqueue { job, turn } => queue::enqueue(&mut view, job, turn)?,
            Step::Promote { queued } => queue::promote(&mut view, queued)?,
            Step::Dequeue { job } => queue::dequeue(&mut view, job)?,
            Step::Claim { lease, turn } => queue::start(&mut view, lease, turn)?,
            Step::Renew { lease } => queue::renew(&mut view, lease)?,
            Step::Complete { lease } => queue::complete(&mut view, lease)?,
            Step::TakeOver { lease } => queue::take_over(&mut view, lease)?,
            Step::Schedule { trigger, at } => due::schedule(&mut view, trigger, *at)?,
            Step::Fire { trigger, instant, next } => due::fire(&mut view, trigger, *instant, *next)?,
        }
    }
    Ok(Plan { batch: view.into_batch()?, revs, freed })
}

fn delete(
    view: &mut View<'_>,
    document: &DocRef,
    expected: &Rev,
    trace: Trace,
    given: Option<&Rev>,
) -> Result<(Rev, Record)> {
    let deleted = document::delete(view, document, expected, trace, given)?;
    match trace {
        Trace::Tombstone => feed::note(view, document, &deleted.0, true)?,
        Trace::Nothing => feed::forget(view, document)?,
    }
    queue::forget(view, document)?;
    due::schedule(view, document, None)?;
    Ok(deleted)
}
