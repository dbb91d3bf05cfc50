//! Bulk operations, which process each document independently: the failure of one does not affect the others.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::document::{check_readable, check_writable};
use konnector_store::{Map, Rev, approximate_size};
use serde_json::{Value, json};

use super::revisions::LatestRevision;
use super::{check_id, check_special_fields, parse_doctype, parse_revision};
use crate::error::{ApiError, couch};
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind};

/// Maximum number of documents in one request.
const MAX_BULK_DOCUMENTS: usize = 1_000;
/// Approximate limit in bytes of the memory that the documents of one `_bulk_get` occupy. All of them are held until
/// the response is written. Four of the largest documents fit, or a thousand ordinary ones.
const MAX_READ_BYTES: usize = 32 << 20;

pub fn routes() -> ApiRouter<Platform> {
    let write = post_with(bulk_docs, |op| {
        op.summary("Creates, updates and deletes several documents, each independently")
            .field(
                "docs",
                SchemaKind::Objects,
                "The documents; with _id and _rev to update one, also with _deleted to delete it",
            )
            .field(
                "new_edits",
                SchemaKind::Boolean,
                "Whether to assign new revisions; false keeps the revisions of another database",
            )
            .success::<201, Json<Vec<Value>>>("The result for each document")
    });
    let read = post_with(bulk_get, |op| {
        op.summary("Returns the latest revisions of several documents, including those of deleted documents")
            .query(
                "revs",
                SchemaKind::Boolean,
                "Whether to include the revision history, which contains only the latest revision",
            )
            .field("docs", SchemaKind::Objects, "The id and an optional rev of each document")
    });
    ApiRouter::new().api_route("/data/{doctype}/_bulk_docs", write).api_route("/data/{doctype}/_bulk_get", read)
}

fn documents(body: &mut Map) -> Result<Vec<Map>, ApiError> {
    let malformed = || ApiError::bad_request("docs: the value is not a list of objects");
    let Some(Value::Array(items)) = body.shift_remove("docs") else { return Err(malformed()) };
    if items.len() > MAX_BULK_DOCUMENTS {
        let message =
            format!("docs: there are {} documents; at most {MAX_BULK_DOCUMENTS} are allowed per request", items.len());
        return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    items
        .into_iter()
        .map(|item| match item {
            Value::Object(members) => Ok(members),
            _ => Err(malformed()),
        })
        .collect()
}

/// `POST /data/:type/_bulk_docs`. A document with `_id` and `_rev` is replaced, or deleted if it has `_deleted`; any
/// other document is created. With `new_edits: false` the documents keep their revisions from another database, and the
/// response contains only failures.
async fn bulk_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(mut body): JsonObject,
) -> Result<(StatusCode, Json<Vec<Value>>), ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Post, &doctype)?;
    check_writable(&doctype)?;
    let new_edits = match body.get("new_edits") {
        None => true,
        Some(Value::Bool(new_edits)) => *new_edits,
        Some(_) => return Err(ApiError::bad_request("new_edits must be true or false")),
    };
    let mut results = Vec::new();
    for document in documents(&mut body)? {
        if !new_edits {
            let (id, rev) = (document.get("_id").cloned(), document.get("_rev").cloned());
            if let Err(failure) = replicate(&platform, &caller, &doctype, document).await {
                let (error, reason) = (couch::error_name(&failure), failure.client_message());
                results.push(json!({ "id": id, "rev": rev, "error": error, "reason": reason }));
            }
            continue;
        }
        let id = document.get("_id").and_then(Value::as_str).map(str::to_owned);
        results.push(match write_one(&platform, &caller, &doctype, id.clone(), document).await {
            Ok((id, rev)) => json!({ "ok": true, "id": id, "rev": rev }),
            Err(failure) => {
                json!({ "id": id, "error": couch::error_name(&failure), "reason": failure.client_message() })
            }
        });
    }
    Ok((StatusCode::CREATED, Json(results)))
}

async fn write_one(
    platform: &Platform,
    caller: &Caller,
    doctype: &Doctype,
    id: Option<String>,
    mut document: Map,
) -> Result<(String, String), ApiError> {
    let Caller { instance, principal } = caller;
    if let Some(id) = &id {
        check_id(id)?;
    }
    check_special_fields(&document)?;
    let rev = document.get("_rev").and_then(Value::as_str).map(parse_revision).transpose()?;
    let deleted = document.shift_remove("_deleted") == Some(Value::Bool(true));
    let written = match (id, rev) {
        (Some(id), Some(rev)) if deleted => {
            let rev = platform.documents().delete(instance, principal, doctype, &id, &rev).await?;
            return Ok((id, rev.to_string()));
        }
        (_, None) if deleted => {
            return Err(ApiError::bad_request("_rev: the field is missing; set it to the revision to delete"));
        }
        (Some(id), Some(rev)) => platform.documents().update(instance, principal, doctype, &id, &rev, document).await?,
        (None, Some(_)) => {
            return Err(ApiError::bad_request(
                "_id: the field is missing, although the document has a _rev; set both, or neither to create a \
                 document",
            ));
        }
        (id, None) => platform.documents().create(instance, principal, doctype, id, document).await?,
    };
    Ok((written.id, written.rev.to_string()))
}

/// Stores a document under its revision from another database.
async fn replicate(platform: &Platform, caller: &Caller, doctype: &Doctype, mut document: Map) -> Result<(), ApiError> {
    let Caller { instance, principal } = caller;
    check_special_fields(&document)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let (Some(id), Some(rev)) = (text("_id"), text("_rev")) else {
        return Err(ApiError::bad_request(
            "_id and _rev: at least one of the fields is missing; set both in each document if new_edits is false",
        ));
    };
    check_id(id)?;
    let (id, history) = (id.to_owned(), history(parse_revision(rev)?, document.get("_revisions"))?);
    let deleted = document.shift_remove("_deleted") == Some(Value::Bool(true));
    let body = Some(document).filter(|_| !deleted);
    Ok(platform.documents().replicate(instance, principal, doctype, &id, &history, body).await?)
}

/// Parses `_revisions` into the revision of a document and its ancestors: `{"start": 3, "ids": ["<digits of 3>",
/// "<digits of 2>"]}`.
fn history(newest: Rev, revisions: Option<&Value>) -> Result<Vec<Rev>, ApiError> {
    let Some(revisions) = revisions else { return Ok(vec![newest]) };
    let malformed = || {
        ApiError::bad_request(
            "_revisions: the value is not {\"start\": …, \"ids\": […]}, beginning with the _rev of the document",
        )
    };
    let start = revisions.get("start").and_then(Value::as_u64).ok_or_else(malformed)?;
    let ids = revisions.get("ids").and_then(Value::as_array).ok_or_else(malformed)?;
    let generations = (1..=start).rev();
    let revs = generations.zip(ids).map(|(generation, id)| {
        let digits = id.as_str().ok_or_else(malformed)?;
        parse_revision(&format!("{generation}-{digits}"))
    });
    let revs = revs.collect::<Result<Vec<_>, _>>()?;
    if revs.first() != Some(&newest) { Err(malformed()) } else { Ok(revs) }
}

/// `POST /data/:type/_bulk_get`.
async fn bulk_get(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
    JsonObject(mut body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    check_readable(&doctype)?;
    let (mut results, mut bytes) = (Vec::new(), 0);
    for requested in documents(&mut body)? {
        let id = requested.get("id").and_then(Value::as_str).unwrap_or_default();
        let rev = requested.get("rev").and_then(Value::as_str);
        let found = match LatestRevision::load(&platform, &caller, &doctype, id).await {
            Ok(last) if rev.is_none_or(|rev| rev == last.rev.to_string()) => json!({ "ok": last.into_json(&params) }),
            Ok(_) => json!({ "error": { "id": id, "rev": rev, "error": "not_found", "reason": "missing" } }),
            Err(failure) => {
                let (error, reason) = (couch::error_name(&failure), failure.client_message());
                json!({ "error": { "id": id, "rev": rev, "error": error, "reason": reason } })
            }
        };
        bytes += found.get("ok").and_then(Value::as_object).map_or(0, approximate_size);
        if bytes > MAX_READ_BYTES {
            let limit = MAX_READ_BYTES >> 20;
            let message =
                format!("docs: the documents occupy more than {limit} MiB of memory; request fewer at a time");
            return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        results.push(json!({ "id": id, "docs": [found] }));
    }
    Ok(Json(json!({ "results": results })))
}
