//! Links that work for an hour and without a token: what a browser opens in a new window.

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{access, download, resource};
use crate::error::Failure;
use crate::extract::{Caller, Host, Params};
use crate::jsonapi::Document;

/// `POST /files/downloads?Id=` or `?Path=`.
pub async fn create(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
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
pub async fn follow(
    State(platform): State<Platform>,
    Host(instance): Host,
    Path((secret, _)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let file = platform.follow_link(&instance, &secret)?;
    download::content(&platform, &file, params.flag("Dl", false), &headers).await
}
