//! Several files as one zip archive, sent at once or under a link that works for an hour.

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
use konnector_platform::file::{Archive, MAX_NAMED, Target};
use konnector_platform::instance::Instance;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use super::{access, download};
use crate::error::Failure;
use crate::extract::{Attributes, Caller, Host};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Content, Describe as _, Kind};

const ZIP: &str = "application/zip";
/// Bytes of the name of an archive: with its ending it is the name of a file, of which most systems take 255 bytes.
const MAX_NAME_SIZE: usize = 200;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let create = post_with(create, |op| {
        op.summary("Packs files and directories into a zip archive")
            .description("With Accept: application/zip the answer is the archive, otherwise a link to it that works for an hour.")
            .member("name", Kind::Text, "Its name without .zip; archive unless told")
            .member("ids", Kind::Texts, "Files and directories")
            .member("files", Kind::Texts, "More of them, by their paths")
            .answers::<200, Content>("The archive, or the link")
            .fails(422, "An attribute is wrong")
    });
    ApiRouter::new().api_route("/files/archive", create)
}

/// The links to archives.
pub fn links() -> ApiRouter<Platform> {
    let follow = get_with(follow, |op| op.summary("The archive that a link leads to").answers::<200, Content>("It"));
    ApiRouter::new().api_route("/files/archive/{secret}/{name}", follow)
}

/// `POST /files/archive`.
async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    headers: HeaderMap,
    mut attributes: Attributes,
) -> Result<Response, Failure> {
    caller.check_any(Verb::Get, &FILES)?;
    let name = attributes.take_text("name")?.filter(|name| !name.is_empty()).unwrap_or_else(|| "archive".to_owned());
    if name.contains('/') {
        return Err(Failure::bad_request("the name of an archive contains no slash"));
    }
    if name.len() > MAX_NAME_SIZE {
        return Err(Failure::attribute("name", format!("the name of an archive has at most {MAX_NAME_SIZE} bytes")));
    }
    if attributes.take("pages").is_some_and(|pages| pages != json!([])) {
        return Err(Failure::attribute("pages", "pages cannot be taken out of a file; name the whole file in ids"));
    }
    let (ids, paths) =
        (attributes.take_texts("ids")?.unwrap_or_default(), attributes.take_texts("files")?.unwrap_or_default());
    if ids.is_empty() && paths.is_empty() {
        return Err(Failure::bad_request("an archive needs files: give ids, or files, which are paths"));
    }
    if ids.len() + paths.len() > MAX_NAMED {
        let message =
            format!("an archive names at most {MAX_NAMED} files and directories; name a directory above them");
        return Err(Failure::attribute("ids", message));
    }
    let mut known = HashSet::new();
    for id in ids.iter().filter(|id| known.insert(*id)) {
        access::by_id(&platform, &caller, Verb::Get, id)?;
    }
    let mut all = ids.clone();
    for path in &paths {
        all.push(access::at_path(&platform, &caller, Verb::Get, path)?.id);
    }
    let archive = Archive { name, ids: all };
    if headers.get_all(ACCEPT).iter().any(|accept| accept == ZIP) {
        return send(&platform, &caller.instance, &archive).await;
    }
    caller.principal.check_lasting("make links")?;
    let id = platform.leave_archive(&caller.instance, &archive).await?;
    let secret = platform.link(&caller.instance, &Target::Archive(id))?;
    let name = utf8_percent_encode(&archive.name, NON_ALPHANUMERIC);
    let link = format!("/files/archive/{secret}/{name}.zip");
    let shown = json!({ "name": archive.name, "ids": ids, "files": paths, "href": link });
    let own = Resource::new(ARCHIVES.as_str(), secret, &shown)?;
    Ok(Document::one(own).link("related", link).into_response())
}

/// `GET /files/archive/:secret/:name`, without a token.
async fn follow(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((secret, _)): Path<(String, String)>,
) -> Result<Response, Failure> {
    match platform.follow_link(&instance, &secret)? {
        Target::Archive(id) => send(&platform, &instance, &platform.archive_left(&instance, &id)?).await,
        Target::File(_) | Target::Version(_) => Err(download::no_link()),
    }
}

async fn send(platform: &Platform, instance: &Instance, archive: &Archive) -> Result<Response, Failure> {
    let parts = ReceiverStream::new(platform.pack(instance, archive).await?);
    let parts = parts.inspect_err(|error| tracing::warn!(%error, "an archive broke off"));
    let name = download::disposition(&format!("{}.zip", archive.name), true);
    let headers = [(CONTENT_TYPE, ZIP.to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(parts)).into_response())
}
