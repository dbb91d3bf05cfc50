//! Konnectors as they are shown: their answers are kept until they change, because clients ask for them all the time.

use std::num::NonZeroUsize;

use konnector_manifest::{Slug, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::KONNECTORS;
use konnector_platform::konnector::doc_id;
use konnector_platform::revalidating_cache::RevalidatingCache;
use konnector_store::{DocRef, DocumentStamp, Map};

use super::{not_installed, resource};
use crate::error::ApiError;
use crate::extract::Caller;
use crate::jsonapi::{Document, SerializedDocument};

/// How many answers are kept.
const CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The answers of the konnectors that were asked for last.
pub(super) struct KonnectorResponseCache(RevalidatingCache<DocRef, DocumentStamp, CachedResponse>);

struct CachedResponse {
    /// What rules may look at.
    fields: Map,
    response: SerializedDocument,
}

impl Default for KonnectorResponseCache {
    fn default() -> Self {
        Self(RevalidatingCache::new(CACHE_CAPACITY))
    }
}

impl KonnectorResponseCache {
    /// Returns the response for a konnector that the caller may see. A konnector that is not installed is reported
    /// before a missing right, as clients expect.
    pub(super) fn get(
        &self,
        platform: &Platform,
        caller: &Caller,
        slug: &Slug,
    ) -> Result<SerializedDocument, ApiError> {
        let at = caller.instance.doc(&KONNECTORS, doc_id(slug));
        let write = |_: &DocumentStamp| -> Result<CachedResponse, ApiError> {
            let found = platform.stored_konnector(&caller.instance, slug)?;
            let shown = resource(platform, &found.value, &found.rev.to_string())?;
            Ok(CachedResponse { fields: found.value.manifest_fields, response: Document::one(shown).serialize()? })
        };
        let kept = self
            .0
            .get(&platform.store, &at, || Ok(platform.store.stamp(&at)?), write)?
            .ok_or_else(|| not_installed(slug.as_ref()))?;
        caller.check_document(Verb::Get, &KONNECTORS, &at.id, &kept.fields)?;
        Ok(kept.response.clone())
    }
}
