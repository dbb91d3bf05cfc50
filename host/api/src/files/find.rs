//! Lookup of files by a selector or by their ids.

use std::time::Instant;

use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::FileKind;
use konnector_query::Query;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{access, resource};
use crate::data::execution_stats;
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::jsonapi::Document;

/// Fields that the response always contains, even if the client does not request them (Cozy API, files).
const REQUIRED_FIELDS: [&str; 3] = ["type", "size", "trashed"];

/// Maximum number of ids in one request; limited, because the response with all these files is held in memory.
const MAX_KEYS: usize = 1_000;

/// `POST /files/_find`.
pub async fn find(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Document, ApiError> {
    caller.check_type(Verb::Get, &FILES)?;
    let started = Instant::now();
    let mut query = Query::parse(&body).map_err(konnector_platform::Error::from)?;
    if let Some(cursor) = params.get_non_empty("page[cursor]") {
        query.bookmark = Some(cursor.to_owned());
    }
    let fields: Vec<String> = std::mem::take(&mut query.fields)
        .iter()
        .filter_map(|path| path.names().first().cloned())
        .chain(REQUIRED_FIELDS.map(str::to_owned))
        .collect();
    let (skipped, stats) = (query.skip, query.execution_stats);
    let page = platform.documents().find(&caller.instance, &caller.principal, &FILES, query).await?;
    let next = page.is_full().then(|| {
        let cursor = utf8_percent_encode(&page.bookmark, NON_ALPHANUMERIC);
        format!("/files/_find?page[cursor]={cursor}")
    });
    let mut resources = Vec::with_capacity(page.documents.len());
    for document in &page.documents {
        let Some(id) = document.get("_id").and_then(Value::as_str) else { continue };
        match platform.files().get(&caller.instance, id) {
            Ok(file) => {
                let mut resource = resource(&platform, &caller, &file)?;
                if !file.referenced_by.is_empty() {
                    // Here, clients expect it among the attributes (cozy-stack, `_find` on files).
                    resource = resource.attribute("referenced_by", json!(file.referenced_by));
                }
                resources.push(if fields.len() > REQUIRED_FIELDS.len() {
                    resource.retain_attributes(&fields)
                } else {
                    resource
                });
            }
            // It was deleted after it was found.
            Err(konnector_platform::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The total is unknown; Cozy's clients request another page if the count exceeds this one.
    let count = skipped + resources.len() + usize::from(next.is_some());
    let mut response = Document::list(resources).with_count(count).next(next);
    if stats {
        let stats = execution_stats(page.examined, page.documents.len(), started);
        response = response.meta("execution_stats", stats);
    }
    Ok(response)
}

/// `POST /files/_all_docs` with `keys`: returns files in the order of their ids; missing files are omitted.
pub async fn by_ids(
    State(platform): State<Platform>,
    caller: Caller,
    JsonObject(body): JsonObject,
) -> Result<Document, ApiError> {
    caller.check_any(Verb::Get, &FILES)?;
    let keys = body.get("keys").and_then(Value::as_array);
    let keys = keys.filter(|keys| keys.len() <= MAX_KEYS);
    let keys =
        keys.ok_or_else(|| ApiError::bad_request(format!("keys: the value is not a list of at most {MAX_KEYS} ids")))?;
    let mut resources = Vec::new();
    for id in keys.iter().filter_map(Value::as_str) {
        match access::find_by_id(&platform, &caller, Verb::Get, id) {
            Ok(file) => resources.push(resource(&platform, &caller, &file)?),
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Document::list(resources))
}

/// `HEAD /files/:id[?Type=]`.
pub async fn exists(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Get, &id)?;
    let kind = match file.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
    };
    let has_kind = params.get_non_empty("Type").is_none_or(|requested| requested == kind);
    if has_kind {
        Ok(StatusCode::OK)
    } else {
        Err(ApiError::request(StatusCode::NOT_FOUND, format!("'{id}' is a {kind}")))
    }
}

/// `GET /files/:id/size`: returns the size of a file, or of all files in a directory, in bytes.
pub async fn size(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Get, &id)?;
    let size = platform.files().total_size(&caller.instance, &file).await?;
    let attributes = json!({ "size": size.to_string() });
    Ok(axum::Json(json!({ "data": { "type": "io.cozy.files.sizes", "id": id, "attributes": attributes } })))
}
