//! Registry of konnectors: the part of cozy-apps-registry's HTTP API that clients need to list and install konnectors.
//! It is public.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, Uri};
use konnector_media_type::from_name;
use konnector_platform::konnector::{App, BundleDirectory, PublishedVersion};
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::extract::{Params, request_host};
use crate::limits;

/// Default and maximum number of konnectors on a page.
const MAX_PAGE_SIZE: usize = 200;
/// The channels, the most stable one first.
const CHANNELS: [&str; 3] = ["stable", "beta", "dev"];

/// Creates a registry that offers the bundles of a directory. URLs in its responses begin with `public_url`, or with
/// the host of the request.
#[expect(clippy::disallowed_methods, reason = "a registry is not part of the API that describes itself")]
pub fn registry_server(directory: BundleDirectory, public_url: Option<String>) -> Router {
    let registry = RegistryServer { directory: Arc::new(directory), public_url: public_url.map(Arc::from) };
    let routes = Router::new()
        .route("/registry", get(list))
        .route("/registry/", get(list))
        .route("/registry/maintenance", get(maintenances))
        .route("/registry/{app}", get(show))
        .route("/registry/{app}/icon", get(icon))
        .route("/registry/{app}/{version}", get(version))
        .route("/registry/{app}/{version}/latest", get(latest))
        .route("/registry/{app}/{version}/latest/icon", get(latest_icon))
        .route("/registry/{app}/{version}/icon", get(icon_of_version))
        .route("/registry/{app}/{version}/tarball/{file}", get(tarball))
        .fallback(limits::no_such_route)
        .method_not_allowed_fallback(limits::no_such_method);
    limits::with_common_middleware(routes, None).with_state(registry)
}

#[derive(Clone)]
struct RegistryServer {
    directory: Arc<BundleDirectory>,
    public_url: Option<Arc<str>>,
}

impl RegistryServer {
    /// Reads the directory on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&BundleDirectory) -> konnector_platform::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let directory = Arc::clone(&self.directory);
        match tokio::task::spawn_blocking(move || read(&directory)).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(ApiError::server(format!("reading the bundle directory was aborted: {error}"))),
        }
    }

    async fn app(&self, slug: &str) -> Result<App, ApiError> {
        let not_found =
            || ApiError::request(http::StatusCode::NOT_FOUND, format!("this registry has no konnector '{slug}'"));
        let parsed = slug.parse().map_err(|_| not_found())?;
        self.read(move |directory| directory.app(&parsed)).await?.ok_or_else(not_found)
    }

    async fn version(&self, slug: &str, number: &str) -> Result<(App, Arc<PublishedVersion>), ApiError> {
        let app = self.app(slug).await?;
        let found = app.version(number).map(Arc::clone);
        Ok((app, found.ok_or_else(|| version_not_found(slug, number))?))
    }

    async fn latest(&self, slug: &str, channel: &str) -> Result<(App, Arc<PublishedVersion>), ApiError> {
        let app = self.app(slug).await?;
        let found = app.latest(channel).map(Arc::clone);
        Ok((app, found.ok_or_else(|| version_not_found(slug, channel))?))
    }

    fn base_url(&self, uri: &Uri, headers: &HeaderMap) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", request_host(uri, headers).unwrap_or_default()),
        }
    }
}

fn version_not_found(slug: &str, requested: &str) -> ApiError {
    ApiError::request(
        http::StatusCode::NOT_FOUND,
        format!("this registry has no version of '{slug}' for '{requested}'"),
    )
}

/// Serialises a version in the registry's format.
fn version_json(app: &App, version: &PublishedVersion, base: &str) -> Value {
    let (slug, number) = (&app.slug, &version.number);
    json!({
        "slug": slug,
        "type": "konnector",
        "editor": version.manifest.editor,
        "version": number.to_string(),
        "manifest": version.manifest.raw(),
        "created_at": version.created_at,
        "url": format!("{base}/registry/{slug}/{number}/tarball/{slug}-{number}.tar.gz"),
        "size": version.size.to_string(),
        "sha256": version.sha256,
        "tar_prefix": "",
    })
}

/// Serialises a konnector in the registry's format.
fn app_json(app: &App, base: &str) -> Value {
    let numbers = |channel: &str| -> Vec<String> {
        let offered = app.versions.iter().filter(|version| version.channel() == channel);
        offered.map(|version| version.number.to_string()).collect()
    };
    let mut versions = Map::from_iter([("has_versions".to_owned(), json!(true))]);
    versions.extend(CHANNELS.map(|channel| (channel.to_owned(), json!(numbers(channel)))));
    let newest = CHANNELS.iter().find_map(|channel| app.latest(channel));
    json!({
        "slug": app.slug,
        "type": "konnector",
        "editor": newest.and_then(|version| version.manifest.editor.clone()),
        "created_at": app.versions.first().map(|version| version.created_at),
        "versions": versions,
        "latest_version": newest.map(|version| version_json(app, version, base)),
        "maintenance_activated": app.maintenance.is_some(),
        "maintenance_options": app.maintenance.clone().unwrap_or_default(),
    })
}

async fn list(
    State(registry): State<RegistryServer>,
    params: Params,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let apps = registry.read(BundleDirectory::apps).await?;
    let apps = if params.get("filter[type]") == Some("webapp") { Vec::new() } else { apps };
    let limit = params.number("limit")?.filter(|limit| *limit > 0).unwrap_or(MAX_PAGE_SIZE).min(MAX_PAGE_SIZE);
    let from = params.number("cursor")?.unwrap_or_default();
    let base = registry.base_url(&uri, &headers);
    let page: Vec<Value> = apps.iter().skip(from).take(limit).map(|app| app_json(app, &base)).collect();
    let end = from.saturating_add(limit);
    let next = if end < apps.len() { end.to_string() } else { String::new() };
    Ok(Json(json!({ "meta": { "count": page.len(), "next_cursor": next }, "data": page })))
}

async fn maintenances(
    State(registry): State<RegistryServer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let base = registry.base_url(&uri, &headers);
    let apps = registry.read(BundleDirectory::apps).await?;
    Ok(Json(apps.iter().filter(|app| app.maintenance.is_some()).map(|app| app_json(app, &base)).collect()))
}

async fn show(
    State(registry): State<RegistryServer>,
    Path(app): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(app_json(&registry.app(&app).await?, &registry.base_url(&uri, &headers))))
}

async fn version(
    State(registry): State<RegistryServer>,
    Path((app, version)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (app, version) = registry.version(&app, &version).await?;
    Ok(Json(version_json(&app, &version, &registry.base_url(&uri, &headers))))
}

async fn latest(
    State(registry): State<RegistryServer>,
    Path((app, channel)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (app, version) = registry.latest(&app, &channel).await?;
    Ok(Json(version_json(&app, &version, &registry.base_url(&uri, &headers))))
}

async fn icon(State(registry): State<RegistryServer>, Path(app): Path<String>) -> Result<Response, ApiError> {
    let app = registry.app(&app).await?;
    let newest = CHANNELS.iter().find_map(|channel| app.latest(channel));
    icon_response(newest.ok_or_else(|| version_not_found(app.slug.as_ref(), "any channel"))?)
}

async fn icon_of_version(
    State(registry): State<RegistryServer>,
    Path((app, version)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    icon_response(&registry.version(&app, &version).await?.1)
}

async fn latest_icon(
    State(registry): State<RegistryServer>,
    Path((app, channel)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    icon_response(&registry.latest(&app, &channel).await?.1)
}

fn icon_response(version: &PublishedVersion) -> Result<Response, ApiError> {
    let no_icon = || ApiError::request(http::StatusCode::NOT_FOUND, "this version has no icon");
    let (name, icon) = version.manifest.icon.as_ref().zip(version.icon.clone()).ok_or_else(no_icon)?;
    let headers = [
        (CONTENT_TYPE, from_name(name).to_owned()),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'".to_owned()),
    ];
    Ok((headers, icon).into_response())
}

/// Returns the archive of a version. The file name in the path is only informative.
async fn tarball(
    State(registry): State<RegistryServer>,
    Path((app, version, _)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let (_, version) = registry.version(&app, &version).await?;
    let archive = registry.read(move |_| version.archive()).await?;
    let headers = [(CONTENT_TYPE, "application/gzip"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, archive).into_response())
}
