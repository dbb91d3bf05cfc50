//! Cache of the responses for single konnectors, until the konnectors change, because clients request them often.

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

/// Maximum number of cached responses.
const CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Responses for the konnectors that were requested most recently.
pub(super) struct KonnectorResponseCache(RevalidatingCache<DocRef, DocumentStamp, CachedResponse>);

struct CachedResponse {
    /// Fields that permission rules may select by.
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
    /// before a missing permission, as clients expect.
    pub(super) fn get(
        &self,
        platform: &Platform,
        caller: &Caller,
        slug: &Slug,
    ) -> Result<SerializedDocument, ApiError> {
        let doc_ref = caller.instance.doc(&KONNECTORS, doc_id(slug));
        let render = |_: &DocumentStamp| -> Result<CachedResponse, ApiError> {
            let found = platform.konnectors().get_stored(&caller.instance, slug)?;
            let body = resource(platform, &found.value, &found.rev.to_string())?;
            Ok(CachedResponse { fields: found.value.manifest_fields, response: Document::one(body).serialize()? })
        };
        let documents = platform.documents();
        let cached = self
            .0
            .get(documents.write_count(), &doc_ref, || Ok(documents.stamp(&doc_ref)?), render)?
            .ok_or_else(|| not_installed(slug.as_ref()))?;
        caller.check_document(Verb::Get, &KONNECTORS, &doc_ref.id, &cached.fields)?;
        Ok(cached.response.clone())
    }
}
