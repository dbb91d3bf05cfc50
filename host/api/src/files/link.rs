//! Links that work for an hour and without a token: what a browser opens in a new window.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::file::{File, Target, valid_name};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::routes::{SAVE, sent};
use super::{access, download, resource};
use crate::error::Failure;
use crate::extract::{Caller, Host, Params};
use crate::jsonapi::Document;
use crate::openapi::{Describe as _, Kind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let create = post_with(create, |op| {
        op.summary("Makes a link to the content of a file, which works for an hour and without a token")
            .query("Id", Kind::Text, "The file")
            .query("Path", Kind::Text, "Its path, instead")
            .query("VersionId", Kind::Text, "A version of a file, instead")
            .query("Filename", Kind::Text, "Another name than the file's")
            .fails(422, "No file is named")
    });
    ApiRouter::new().api_route("/files/downloads", create)
}

/// The links themselves.
pub fn links() -> ApiRouter<Platform> {
    let follow =
        get_with(follow, |op| sent(op.summary("The content that a link leads to")).query("Dl", Kind::Flag, SAVE));
    ApiRouter::new().api_route("/files/downloads/{secret}/{name}", follow)
}

/// `POST /files/downloads?Id=`, `?Path=` or `?VersionId=`, with `&Filename=` for another name than the file's.
async fn create(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
    caller.principal.check_lasting("make links")?;
    let (file, target) = match (params.filled("VersionId"), params.filled("Id")) {
        (Some(version), _) => {
            let (id, rev) = version.split_once('/').unwrap_or((version, ""));
            let version = access::version(&platform, &caller, Verb::Get, id, rev)?;
            (access::by_id(&platform, &caller, Verb::Get, id)?, Target::Version(version.id))
        }
        (None, Some(id)) => {
            let file = access::by_id(&platform, &caller, Verb::Get, id)?;
            let target = Target::File(file.id.clone());
            (file, target)
        }
        (None, None) if params.filled("Path").is_none() => {
            return Err(Failure::parameter("Id", "give the parameter Id, Path or VersionId"));
        }
        (None, None) => {
            let file = access::by_path(&platform, &caller, Verb::Get, &params)?;
            let target = Target::File(file.id.clone());
            (file, target)
        }
    };
    if file.content.is_none() {
        return Err(Failure::bad_request(format!("'{}' is a directory and has no content", file.name)));
    }
    let secret = platform.link(&caller.instance, &target)?;
    // Cozy's client encodes it twice.
    let name = params.filled("Filename").map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
    let name = name.unwrap_or_else(|| file.name.clone());
    let own = resource(&platform, &caller, &file)?;
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    Ok(Document::one(own).link("related", format!("/files/downloads/{secret}/{name}")))
}

/// `GET /files/downloads/:secret/:name[?Dl=1]`.
async fn follow(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((secret, name)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let file = match platform.follow_link(&instance, &secret)? {
        Target::File(id) => platform.file(&instance, &id)?,
        Target::Version(id) => {
            let version = platform.version(&instance, &id)?;
            let file = platform.file(&instance, &version.file_id)?;
            version.restored(file)
        }
        Target::Archive(_) => return Err(download::no_link()),
    };
    let file = File { name: valid_name(&name).unwrap_or_else(|_| file.name.clone()), ..file };
    download::content(&platform, &file, params.flag("Dl", false), &headers).await
}
