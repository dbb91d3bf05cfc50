//! Download links that are valid for an hour without a token, so that a browser can open them in a new window.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::file::{File, LinkTarget, validate_name};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::routes::{DL_DESCRIPTION, content_operation};
use super::{access, download, resource};
use crate::error::ApiError;
use crate::extract::{Caller, HostInstance, Params};
use crate::jsonapi::Document;
use crate::openapi::{Describe as _, SchemaKind};

pub fn routes() -> ApiRouter<Platform> {
    let create = post_with(create, |op| {
        op.summary("Creates a link to the content of a file, which is valid for an hour without a token")
            .query("Id", SchemaKind::String, "Id of the file")
            .query("Path", SchemaKind::String, "Path of the file, instead of its id")
            .query("VersionId", SchemaKind::String, "Id of a version of a file, instead of the file")
            .query("Filename", SchemaKind::String, "Name of the download; default: the name of the file")
            .error(422, "Id, Path and VersionId are missing")
    });
    ApiRouter::new().api_route("/files/downloads", create)
}

/// Returns the routes of the links, which require no token.
pub fn link_routes() -> ApiRouter<Platform> {
    let follow = get_with(download, |op| {
        content_operation(op.summary("Downloads the content of a file by its link")).query(
            "Dl",
            SchemaKind::Boolean,
            DL_DESCRIPTION,
        )
    });
    ApiRouter::new().api_route("/files/downloads/{secret}/{name}", follow)
}

/// `POST /files/downloads?Id=`, `?Path=` or `?VersionId=`, with `&Filename=` to override the name of the file.
async fn create(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, ApiError> {
    caller.principal.check_may_outlive_run("create links")?;
    let (file, target) = match (params.get_non_empty("VersionId"), params.get_non_empty("Id")) {
        (Some(version), _) => {
            let (id, rev) = version.split_once('/').unwrap_or((version, ""));
            let version = access::find_version(&platform, &caller, Verb::Get, id, rev)?;
            (access::find_by_id(&platform, &caller, Verb::Get, id)?, LinkTarget::Version(version.id))
        }
        (None, Some(id)) => {
            let file = access::find_by_id(&platform, &caller, Verb::Get, id)?;
            let target = LinkTarget::File(file.id.clone());
            (file, target)
        }
        (None, None) if params.get_non_empty("Path").is_none() => {
            return Err(ApiError::parameter("Id", "Id: the parameter is missing; send Id, Path or VersionId"));
        }
        (None, None) => {
            let file = access::find_by_path_parameter(&platform, &caller, Verb::Get, &params)?;
            let target = LinkTarget::File(file.id.clone());
            (file, target)
        }
    };
    if file.content.is_none() {
        return Err(ApiError::bad_request(format!("'{}' is a directory and has no content", file.name)));
    }
    let secret = platform.files().create_link(&caller.instance, &target)?;
    // Cozy's client encodes it twice.
    let name = params.get_non_empty("Filename").map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
    let name = name.unwrap_or_else(|| file.name.clone());
    let resource = resource(&platform, &caller, &file)?;
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    Ok(Document::one(resource).link("related", format!("/files/downloads/{secret}/{name}")))
}

/// `GET /files/downloads/:secret/:name[?Dl=1]`.
async fn download(
    State(platform): State<Platform>,
    HostInstance(instance): HostInstance,
    Path((secret, name)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = match platform.files().resolve_link(&instance, &secret)? {
        LinkTarget::File(id) => platform.files().get(&instance, &id)?,
        LinkTarget::Version(id) => {
            let version = platform.files().version(&instance, &id)?;
            let file = platform.files().get(&instance, &version.file_id)?;
            version.apply_to(file)
        }
        LinkTarget::Archive(_) => return Err(download::invalid_link()),
    };
    let file = File { name: validate_name(&name).unwrap_or_else(|_| file.name.clone()), ..file };
    download::content_response(&platform, &file, params.flag("Dl", false), &headers).await
}
