//! Zip archives of several files, sent in the response or through a link that is valid for an hour.

use std::collections::HashSet;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{ARCHIVES, FILES};
use konnector_platform::file::{ArchiveSpec, LinkTarget, MAX_ARCHIVE_IDS};
use konnector_platform::instance::Instance;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use super::{access, download};
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, HostInstance};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind};

const ZIP: &str = "application/zip";
/// Maximum size of the name in bytes: with its extension it is a file name, which most systems limit to 255 bytes.
const MAX_NAME_SIZE: usize = 200;

pub fn routes() -> ApiRouter<Platform> {
    let create = post_with(create, |op| {
        op.summary("Creates a zip archive of files and directories")
            .description(
                "With Accept: application/zip, returns the archive; otherwise, a link to it that is valid for an hour.",
            )
            .field("name", SchemaKind::String, "Name of the archive without .zip; default: archive")
            .field("ids", SchemaKind::Strings, "Ids of files and directories")
            .field("files", SchemaKind::Strings, "Paths of further files and directories")
            .success::<200, BinaryContent>("The archive, or a link to it")
            .error(422, "An attribute is not valid")
    });
    ApiRouter::new().api_route("/files/archive", create)
}

/// Returns the routes of links to archives, which require no token.
pub fn link_routes() -> ApiRouter<Platform> {
    let follow = get_with(download, |op| {
        op.summary("Downloads an archive by its link").success::<200, BinaryContent>("The archive")
    });
    ApiRouter::new().api_route("/files/archive/{secret}/{name}", follow)
}

/// `POST /files/archive`.
async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    headers: HeaderMap,
    mut attributes: Attributes,
) -> Result<Response, ApiError> {
    caller.check_any(Verb::Get, &FILES)?;
    let name = attributes.take_string("name")?.filter(|name| !name.is_empty()).unwrap_or_else(|| "archive".to_owned());
    if name.contains('/') {
        return Err(ApiError::bad_request("name: the name must not contain a slash"));
    }
    if name.len() > MAX_NAME_SIZE {
        return Err(ApiError::attribute("name", format!("name: the name is longer than {MAX_NAME_SIZE} bytes")));
    }
    if attributes.take("pages").is_some_and(|pages| pages != json!([])) {
        return Err(ApiError::attribute(
            "pages",
            "pages: extracting pages is not supported; list the whole file in ids",
        ));
    }
    let (ids, paths) =
        (attributes.take_strings("ids")?.unwrap_or_default(), attributes.take_strings("files")?.unwrap_or_default());
    if ids.is_empty() && paths.is_empty() {
        return Err(ApiError::bad_request("ids and files: both are empty; list the ids or paths of files"));
    }
    if ids.len() + paths.len() > MAX_ARCHIVE_IDS {
        let message =
            format!("ids and files: there are more than {MAX_ARCHIVE_IDS} entries; list a parent directory instead");
        return Err(ApiError::attribute("ids", message));
    }
    let mut seen = HashSet::new();
    for id in ids.iter().filter(|id| seen.insert(*id)) {
        access::find_by_id(&platform, &caller, Verb::Get, id)?;
    }
    let mut all = ids.clone();
    for path in &paths {
        all.push(access::find_by_path(&platform, &caller, Verb::Get, path)?.id);
    }
    let archive = ArchiveSpec { name, ids: all };
    if headers.get_all(ACCEPT).iter().any(|accept| accept == ZIP) {
        return send(&platform, &caller.instance, &archive).await;
    }
    caller.principal.check_may_outlive_run("create links")?;
    let id = platform.files().save_archive_spec(&caller.instance, &archive).await?;
    let secret = platform.files().create_link(&caller.instance, &LinkTarget::Archive(id))?;
    let name = utf8_percent_encode(&archive.name, NON_ALPHANUMERIC);
    let link = format!("/files/archive/{secret}/{name}.zip");
    let attributes = json!({ "name": archive.name, "ids": ids, "files": paths, "href": link });
    let resource = Resource::new(ARCHIVES.as_str(), secret, &attributes)?;
    Ok(Document::one(resource).link("related", link).into_response())
}

/// `GET /files/archive/:secret/:name`, without a token.
async fn download(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path((secret, _)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    match platform.files().resolve_link(&instance, &secret)? {
        LinkTarget::Archive(id) => send(&platform, &instance, &platform.files().archive_spec(&instance, &id)?).await,
        LinkTarget::File(_) | LinkTarget::Version(_) => Err(download::invalid_link()),
    }
}

async fn send(platform: &Platform, instance: &Instance, archive: &ArchiveSpec) -> Result<Response, ApiError> {
    let parts = ReceiverStream::new(platform.files().stream_archive(instance, archive).await?);
    let parts = parts.inspect_err(|error| tracing::warn!(%error, "the stream of an archive failed"));
    let name = download::content_disposition(&format!("{}.zip", archive.name), true);
    let headers = [(CONTENT_TYPE, ZIP.to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(parts)).into_response())
}
