//! Konnectors as they are shown: their answers are kept until they change, because clients ask for them all the time.

use std::num::NonZeroUsize;

use konnector_manifest::{Slug, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::KONNECTORS;
use konnector_platform::konnector::doc_id;
use konnector_platform::memo::Memo;
use konnector_store::{DocRef, DocumentStamp, Map};

use super::{not_installed, resource};
use crate::error::Failure;
use crate::extract::Caller;
use crate::jsonapi::{Document, Ready};

/// How many answers are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The answers of the konnectors that were asked for last.
pub(super) struct Shown(Memo<DocRef, DocumentStamp, Answer>);

struct Answer {
    /// What rules may look at.
    members: Map,
    answer: Ready,
}

impl Default for Shown {
    fn default() -> Self {
        Self(Memo::new(KEPT))
    }
}

impl Shown {
    /// The answer about a konnector that the caller may see. One that is not installed is answered before a missing right, as clients expect.
    pub(super) fn visible(&self, platform: &Platform, caller: &Caller, slug: &Slug) -> Result<Ready, Failure> {
        let at = caller.instance.doc(&KONNECTORS, doc_id(slug));
        let write = |_: &DocumentStamp| -> Result<Answer, Failure> {
            let found = platform.stored_konnector(&caller.instance, slug)?;
            let shown = resource(platform, &found.value, &found.rev.to_string())?;
            Ok(Answer { members: found.value.members, answer: Document::one(shown).ready()? })
        };
        let kept = self
            .0
            .get(&platform.store, &at, || Ok(platform.store.stamp(&at)?), write)?
            .ok_or_else(|| not_installed(slug.as_ref()))?;
        caller.check_document(Verb::Get, &KONNECTORS, &at.id, &kept.members)?;
        Ok(kept.answer.clone())
    }
}
