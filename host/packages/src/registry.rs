//! Client of konnector registries and their HTTP API (cozy-apps-registry). The operator lists registries; they are
//! queried in that order, and the first one that has a konnector wins. A failing registry is an error and is not
//! skipped; otherwise an attacker who can block the operator's own registry could have another registry's konnector
//! installed in its place.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use konnector_manifest::{Slug, Source};
use lru::LruCache;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use super::Konnector;
use super::download::{MAX_TEXT_SIZE, header, into_bytes};
use super::maintenance::{Maintenance, is_exempt};
use crate::Konnectors;
use crate::Registries;
use crate::{Error, Result};
use konnector_documents::instance::Instance;

/// Timeout of one request.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Lifetime of a cached response, for queries that do not need the newest one.
const REGISTRY_CACHE_TTL: Duration = Duration::from_secs(300);
/// Maximum number of cached responses; the least recently used ones are evicted.
const MAX_CACHED_RESPONSES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Maximum size of the cached responses in bytes. A response has a few KiB, but may be a thousand times larger.
const MAX_CACHED_BYTES: usize = 16 << 20;

/// Maximum length of a slug in bytes; nothing with a longer slug can be installed.
const MAX_SLUG_LEN: usize = 128;
/// Maximum number of pages of a list, with at most 200 konnectors each.
const MAX_PAGES: usize = 100;

/// A version that a registry offers.
#[derive(Debug, Clone, Deserialize)]
pub struct RegistryVersion {
    /// Version number, by semver.
    pub version: String,
    /// URL of its archive.
    pub url: Url,
    /// SHA-256 of the archive.
    #[serde(deserialize_with = "deserialize_sha256")]
    pub sha256: [u8; 32],
}

/// A registry's response to a proxied request.
#[derive(Debug, Clone)]
pub struct RegistryResponse {
    /// Media type.
    pub content_type: String,
    /// Body.
    pub body: Bytes,
}

/// Cache of recent registry responses.
#[derive(Debug, Default)]
pub(crate) struct RegistryCache {
    responses: Mutex<ResponseCache>,
    slugs: Mutex<ListedSlugs>,
}

/// Slugs of each registry, and when they were listed.
type ListedSlugs = HashMap<Url, (Duration, Arc<HashSet<String>>)>;

/// Responses by path, and when they arrived.
#[derive(Debug)]
struct ResponseCache {
    entries: LruCache<String, (Duration, Option<RegistryResponse>)>,
    bytes: usize,
}

impl Default for ResponseCache {
    fn default() -> Self {
        Self { entries: LruCache::new(MAX_CACHED_RESPONSES), bytes: 0 }
    }
}

impl ResponseCache {
    fn put(&mut self, path: &str, received_at: Duration, response: Option<RegistryResponse>) {
        self.bytes += response_size(response.as_ref());
        if let Some((_, (_, before))) = self.entries.push(path.to_owned(), (received_at, response)) {
            self.bytes -= response_size(before.as_ref());
        }
        while self.bytes > MAX_CACHED_BYTES {
            let Some((_, (_, oldest))) = self.entries.pop_lru() else { break };
            self.bytes -= response_size(oldest.as_ref());
        }
    }
}

fn response_size(response: Option<&RegistryResponse>) -> usize {
    response.map_or(0, |response| response.body.len() + response.content_type.len())
}

impl RegistryCache {
    fn responses(&self) -> MutexGuard<'_, ResponseCache> {
        self.responses.lock()
    }

    fn slugs(&self) -> MutexGuard<'_, ListedSlugs> {
        self.slugs.lock()
    }

    /// Replaces a cached response, if there is one, with a registry's new response.
    fn refresh(&self, path: &str, now: Duration, response: Option<&RegistryResponse>) {
        let mut cached = self.responses();
        if cached.entries.contains(path) {
            cached.put(path, now, response.cloned());
        }
    }
}

fn app_slug(app: &Value) -> Option<&str> {
    app.get("slug").and_then(Value::as_str)
}

/// Returns the slugs on a page of a list.
fn listed_slugs(list: &RegistryList) -> impl Iterator<Item = String> {
    list.data.iter().filter_map(app_slug).filter(|slug| slug.len() <= MAX_SLUG_LEN).map(str::to_owned)
}

fn invalid_version(name: Slug) -> impl FnOnce(serde_json::Error) -> Error + Send {
    move |error| Error::Unreachable(format!("the registry's description of '{name}' is invalid: {error}"))
}

fn deserialize_sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&text, &mut hash)
        .map_err(|_| serde::de::Error::custom(format!("'{text}' is not a SHA-256: expected 64 hexadecimal digits")))?;
    Ok(hash)
}

impl Registries {
    /// Resolves the version of a konnector that a registry source currently refers to.
    pub(super) async fn resolve_version(
        &self,
        name: &Slug,
        channel: &str,
        version: Option<&str>,
    ) -> Result<RegistryVersion> {
        if self.context.state.settings.registries.is_empty() {
            return Err(Error::InvalidParameter {
                name: "Source",
                message: format!(
                    "no registry is configured to look up '{name}'; the operator can add one with --registry URL, \
                     or use another Source such as https://….tar.gz#<sha256>"
                ),
            });
        }
        let path = match version {
            Some(version) => format!("{name}/{}", utf8_percent_encode(version, NON_ALPHANUMERIC)),
            None => format!("{name}/{channel}/latest"),
        };
        let now = self.context.core.clock().elapsed();
        let response = self.query_all(&path).await?.map(|(_, response)| response);
        self.context.state.registry_cache.refresh(&path, now, response.as_ref());
        let Some(response) = response else {
            return Err(Error::Unreachable(match version {
                Some(version) => format!("no registry of this server offers version {version} of '{name}'"),
                None => format!("no registry of this server offers '{name}' in the channel '{channel}'"),
            }));
        };
        self.parse_response(response, invalid_version(name.clone())).await
    }

    /// Returns the newest version for a registry source, possibly from the cache; `None` for other sources.
    pub(super) async fn latest_version(&self, source: &Source) -> Result<Option<RegistryVersion>> {
        let Source::Registry { name, channel, version: None } = source else { return Ok(None) };
        let response = self.query_cached(&format!("{name}/{channel}/latest")).await?;
        match response {
            Some(response) => self.parse_response(response, invalid_version(name.clone())).await.map(Some),
            None => Ok(None),
        }
    }

    /// Parses a response, which may be large.
    async fn parse_response<T: DeserializeOwned + Send + 'static>(
        &self,
        response: RegistryResponse,
        wrong: impl FnOnce(serde_json::Error) -> Error + Send + 'static,
    ) -> Result<T> {
        self.context.konnectors().run_install_task(move || serde_json::from_slice(&response.body).map_err(wrong)).await
    }

    /// Queries the registries, unless a recent response is cached.
    async fn query_cached(&self, path: &str) -> Result<Option<RegistryResponse>> {
        let now = self.context.core.clock().elapsed();
        let known = self.context.state.registry_cache.responses().entries.get(path).cloned();
        if let Some((received_at, response)) = known
            && now.saturating_sub(received_at) < REGISTRY_CACHE_TTL
        {
            return Ok(response);
        }
        let response = self.query_all(path).await?.map(|(_, response)| response);
        self.context.state.registry_cache.responses().put(path, now, response.clone());
        Ok(response)
    }

    /// Queries the registries in order, below `/registry`; `None` if no registry has a result.
    async fn query_all(&self, path_and_query: &str) -> Result<Option<(&Url, RegistryResponse)>> {
        for base in &self.context.state.settings.registries {
            if let Some(response) = self.query(base, path_and_query).await? {
                return Ok(Some((base, response)));
            }
        }
        Ok(None)
    }

    async fn query(&self, base: &Url, path_and_query: &str) -> Result<Option<RegistryResponse>> {
        let written = format!("{}/registry/{path_and_query}", base.as_str().trim_end_matches('/'));
        let failed = |reason: String| Error::Unreachable(format!("the registry {base} cannot be queried: {reason}"));
        let url = Url::parse(&written).map_err(|error| failed(error.to_string()))?;
        let response = self
            .context
            .konnectors()
            .fetch_url(&url, &[("accept", "application/json, */*;q=0.5")], MAX_TEXT_SIZE, REGISTRY_TIMEOUT)
            .await
            .map_err(|error| failed(error.to_string()))?;
        match response.status {
            200 => {
                let content_type = header(&response, "content-type").unwrap_or("application/octet-stream").to_owned();
                Ok(Some(RegistryResponse { content_type, body: into_bytes(response.body) }))
            }
            404 => Ok(None),
            status => Err(failed(format!("it responded with status {status}"))),
        }
    }

    /// Proxies a request to the registries; the path is relative to `/registry/`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no registry has a result, [`Error::Unreachable`] if one does not respond.
    pub async fn proxy(&self, path_and_query: &str) -> Result<RegistryResponse> {
        let found = self.query_all(path_and_query).await?;
        found.map(|(_, response)| response).ok_or_else(|| {
            Error::NotFound(match self.context.state.settings.registries.is_empty() {
                true => "no registry is configured; the operator can add one with --registry URL".to_owned(),
                false => "no registry of this server has the requested konnector or version".to_owned(),
            })
        })
    }

    /// Lists the installable konnectors, page by page and one registry after the other; a konnector that several
    /// registries have is listed by the first. `cursor` is the cursor that the previous page returned: the number of a
    /// registry, `|`, and that registry's own cursor.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] for an invalid cursor, [`Error::Unreachable`] if a registry does not respond.
    pub async fn list(&self, query: &[(String, String)], cursor: Option<&str>) -> Result<RegistryPage> {
        let wrong = || {
            let text = "cursor: the value is not a cursor of this server; pass the next_cursor of the previous page, \
                        or omit it for the first page";
            Error::BadRequest(text.to_owned())
        };
        let (mut position, mut own) = match cursor.filter(|cursor| !cursor.is_empty()) {
            None => (0, String::new()),
            Some(cursor) => {
                let (position, own) = cursor.split_once('|').ok_or_else(wrong)?;
                (position.parse().map_err(|_| wrong())?, own.to_owned())
            }
        };
        // All entries of a page may be in earlier registries, too; clients do not expect an empty page in the middle.
        while let Some(base) = self.context.state.settings.registries.get(position) {
            let RegistryList { data, meta } = self.page(base, query, &own).await?;
            let apps = self.without_shadowed(position, data).await?;
            (position, own) = match meta.next_cursor {
                next if next.is_empty() => (position + 1, next),
                next => (position, next),
            };
            if !apps.is_empty() {
                let more = position < self.context.state.settings.registries.len();
                return Ok(RegistryPage { apps, next_cursor: more.then(|| format!("{position}|{own}")) });
            }
        }
        Ok(RegistryPage::default())
    }

    /// Fetches a page of one registry.
    async fn page(&self, base: &Url, query: &[(String, String)], cursor: &str) -> Result<RegistryList> {
        let cursor = Some(("cursor", cursor)).filter(|(_, cursor)| !cursor.is_empty());
        let pairs = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(cursor);
        let words = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let listed = self.query(base, &format!("?{words}")).await?;
        let Some(response) = listed else { return Ok(RegistryList::default()) };
        let base = base.clone();
        let wrong = move |error| {
            Error::Unreachable(format!("the registry {base} returned an invalid list of konnectors: {error}"))
        };
        self.parse_response(response, wrong).await
    }

    /// Removes the konnectors that an earlier registry has, too, because they would be installed from there.
    async fn without_shadowed(&self, position: usize, mut apps: Vec<Value>) -> Result<Vec<Value>> {
        for base in self.context.state.settings.registries.iter().take(position) {
            if apps.is_empty() {
                return Ok(apps);
            }
            let theirs = self.slugs(base).await?;
            apps.retain(|app| !app_slug(app).is_some_and(|slug| theirs.contains(slug)));
        }
        Ok(apps)
    }

    /// Returns the slugs of a registry. Its first page is read each time, so that a failing registry is noticed; the
    /// following pages are cached, however many pages of the other registries are listed.
    async fn slugs(&self, base: &Url) -> Result<Arc<HashSet<String>>> {
        let now = self.context.core.clock().elapsed();
        let mut list = self.page(base, &[], "").await?;
        let mut slugs: HashSet<String> = listed_slugs(&list).collect();
        let known = self
            .context
            .state
            .registry_cache
            .slugs()
            .get(base)
            .filter(|(received_at, _)| now.saturating_sub(*received_at) < REGISTRY_CACHE_TTL)
            .cloned();
        if let Some((_, known)) = known.filter(|_| !list.meta.next_cursor.is_empty()) {
            slugs.extend(known.iter().cloned());
            return Ok(Arc::new(slugs));
        }
        for _ in 1..MAX_PAGES {
            if list.meta.next_cursor.is_empty() {
                break;
            }
            list = self.page(base, &[], &list.meta.next_cursor).await?;
            slugs.extend(listed_slugs(&list));
        }
        if !list.meta.next_cursor.is_empty() {
            return Err(Error::Unreachable(format!("the list of the registry {base} has more than {MAX_PAGES} pages")));
        }
        let slugs = Arc::new(slugs);
        self.context.state.registry_cache.slugs().insert(base.clone(), (now, Arc::clone(&slugs)));
        Ok(slugs)
    }

    /// Returns the konnectors that the registries declare to be in maintenance, as the registries describe them; if
    /// several have a konnector, the first registry decides.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] if a registry does not respond.
    pub async fn maintenances(&self) -> Result<Vec<Value>> {
        let mut apps: Vec<Value> = Vec::new();
        for (position, base) in self.context.state.settings.registries.iter().enumerate() {
            let Some(response) = self.query(base, "maintenance").await? else { continue };
            let registry = base.clone();
            let wrong = move |error| {
                Error::Unreachable(format!("the registry {registry} returned an invalid list of maintenances: {error}"))
            };
            let theirs = self.parse_response(response, wrong).await?;
            apps.extend(self.without_shadowed(position, theirs).await?);
        }
        Ok(apps)
    }

    /// Returns the maintenance of a konnector that its registry declares, if it applies to the instance; a registry
    /// that does not respond counts as declaring none.
    pub async fn maintenance_of(&self, instance: &Instance, konnector: &Konnector) -> Option<Maintenance> {
        if is_exempt(instance, &konnector.slug) {
            return None;
        }
        let Ok(Source::Registry { name, .. }) = Konnectors::installed_source(konnector) else { return None };
        let response = self.query_cached(name.as_ref()).await.ok()??;
        let app: Value = serde_json::from_slice(&response.body).ok()?;
        let active = app.get("maintenance_activated").and_then(Value::as_bool).unwrap_or_default();
        active.then(|| Maintenance::from_registry(&name, app.get("maintenance_options").unwrap_or(&Value::Null)))
    }
}

/// A page of the registries' konnectors.
#[derive(Debug, Clone, Default)]
pub struct RegistryPage {
    /// Konnectors, as the registries describe them.
    pub apps: Vec<Value>,
    /// Cursor of the next page.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RegistryList {
    data: Vec<Value>,
    #[serde(default)]
    meta: RegistryListMeta,
}

#[derive(Debug, Default, Deserialize)]
struct RegistryListMeta {
    #[serde(default)]
    next_cursor: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_answers_are_bounded_in_bytes() {
        let mut answers = ResponseCache::default();
        let answer = |size: usize| RegistryResponse { content_type: String::new(), body: vec![0; size].into() };
        for number in 0..100 {
            answers.put(&format!("{number}"), Duration::ZERO, Some(answer(1 << 20)));
            assert!(answers.bytes <= MAX_CACHED_BYTES);
        }
        assert_eq!(answers.entries.len(), 16);
        assert!(answers.entries.contains("99") && !answers.entries.contains("0"));
        // Replaced, then removed.
        answers.put("99", Duration::ZERO, Some(answer(10)));
        answers.put("98", Duration::ZERO, None);
        assert_eq!(answers.bytes, (14 << 20) + 10);
        for number in 0..2 * MAX_CACHED_RESPONSES.get() {
            answers.put(&format!("small {number}"), Duration::ZERO, None);
        }
        assert_eq!((answers.entries.len(), answers.bytes), (MAX_CACHED_RESPONSES.get(), 0));
    }
}
