//! Links that work for an hour and without a token: what a browser opens in a new window.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

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
            .fails(422, "No file is named")
    });
    let follow =
        get_with(follow, |op| sent(op.summary("The content that a link leads to")).query("Dl", Kind::Flag, SAVE));
    ApiRouter::new().api_route("/files/downloads", create).api_route("/files/downloads/{secret}/{name}", follow)
}

/// `POST /files/downloads?Id=` or `?Path=`.
async fn create(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
    let file = match (params.filled("Id"), params.filled("Path")) {
        (Some(id), _) => access::by_id(&platform, &caller, Verb::Get, id)?,
        (None, None) => return Err(Failure::parameter("Id", "give the parameter Id, or Path")),
        (None, Some(_)) => access::by_path(&platform, &caller, Verb::Get, &params)?,
    };
    let secret = platform.link(&caller.instance, &file)?;
    let name = utf8_percent_encode(&file.name, NON_ALPHANUMERIC);
    let own = resource(&platform, &caller, &file)?;
    Ok(Document::one(own).link("related", format!("/files/downloads/{secret}/{name}")))
}

/// `GET /files/downloads/:secret/:name[?Dl=1]`.
async fn follow(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((secret, _)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let file = platform.follow_link(&instance, &secret)?;
    download::content(&platform, &file, params.flag("Dl", false), &headers).await
}
