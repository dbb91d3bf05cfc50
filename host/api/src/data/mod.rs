//! `/data`: the user's JSON documents, through an API that is compatible with `CouchDB` (Cozy API: data system).

mod all_docs;
mod bulk;
pub mod changes;
mod find;
mod list;
mod references;
mod revisions;

use std::time::Instant;

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use axum::Json;
use axum::extract::{Path, State};
use http::header::IF_MATCH;
use http::{HeaderMap, StatusCode};
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::principal::Principal;
use konnector_store::{Document, Map, Rev};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind};
use revisions::{LatestRevision, OpenRevs};

pub fn routes() -> ApiRouter<Platform> {
    let whole_type = post_with(create, |op| {
        op.summary("Creates a document with a generated id").success::<201, Json<Value>>("The document as stored")
    })
    .delete_with(delete_all, |op| op.summary("Deletes every document of a doctype"));
    ApiRouter::new()
        .api_route("/data/_all_doctypes", get_with(doctypes, |op| op.summary("Lists the doctypes that have documents")))
        .api_route("/data/{doctype}", whole_type.clone())
        .api_route("/data/{doctype}/", whole_type)
        .merge(all_docs::routes())
        .merge(list::routes())
        .merge(find::routes())
        .merge(bulk::routes())
        .merge(changes::routes())
        .merge(references::routes())
        .api_route("/data/{doctype}/{id}", document_routes())
}

/// Returns the routes of the operations on one document.
fn document_routes() -> ApiMethodRouter<Platform> {
    get_with(read, |op| {
        op.summary("Returns a document")
            .query("rev", SchemaKind::String, "Revision of the document; only the current one is available")
            .query(
                "revs",
                SchemaKind::Boolean,
                "Whether to include the revision history, which contains only the latest revision",
            )
            .query("revs_info", SchemaKind::Boolean, "Whether to include the available revisions")
            .query(
                "open_revs",
                SchemaKind::String,
                "all, or a JSON list of revisions; returns a list of these revisions, including that of a deletion",
            )
    })
    .put_with(write, |op| {
        op.summary("Creates or updates the document with an id")
            .field("_id", SchemaKind::String, "To update: the id, as in the path")
            .field("_rev", SchemaKind::String, "To update: the current revision")
            .error(409, "Concurrent modification, or the document to create exists already")
    })
    .delete_with(delete, |op| {
        op.summary("Deletes a document")
            .query("rev", SchemaKind::String, "The revision to delete")
            .header("If-Match", "The revision to delete, instead of the parameter rev")
            .error(409, "Concurrent modification")
    })
}

/// Parses the doctype of a path.
fn parse_doctype(name: &str) -> Result<Doctype, ApiError> {
    name.parse().map_err(|error: konnector_manifest::Error| {
        ApiError::document(StatusCode::BAD_REQUEST, "illegal_database_name", error.to_string())
    })
}

fn parse_revision(text: &str) -> Result<Rev, ApiError> {
    text.parse().map_err(|error: konnector_store::Error| ApiError::bad_request(error.to_string()))
}

/// Rejects ids that begin with `_`, which are reserved for `CouchDB`.
fn check_id(id: &str) -> Result<(), ApiError> {
    if id.starts_with('_') {
        let reason = format!("the id '{id}' begins with _, which is reserved for the database");
        return Err(ApiError::document(StatusCode::BAD_REQUEST, "bad_id", reason));
    }
    Ok(())
}

/// Fields that begin with `_` and are ignored in a document: Cozy's type, and fields that `CouchDB` adds to the documents
/// it returns, which clients send back.
const IGNORED_FIELDS: [&str; 6] =
    ["_type", "_revisions", "_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq"];

/// Rejects a document whose special fields are unknown or have the wrong type. If they were treated as absent, the
/// request would lose data or make a different kind of change.
fn check_special_fields(body: &Map) -> Result<(), ApiError> {
    for (name, expected) in [("_id", "a string"), ("_rev", "a string"), ("_deleted", "true or false")] {
        let is_valid = match (name, body.get(name)) {
            (_, None) => true,
            ("_deleted", Some(value)) => value.is_boolean(),
            (_, Some(value)) => value.is_string(),
        };
        if !is_valid {
            let reason = format!("{name} is not {expected}");
            return Err(ApiError::document(StatusCode::BAD_REQUEST, "doc_validation", reason));
        }
    }
    let is_unknown = |(name, value): &(&String, &Value)| match name.as_str() {
        "_id" | "_rev" | "_deleted" => false,
        // An empty list of attachments loses nothing.
        "_attachments" => value.as_object().is_none_or(|attachments| !attachments.is_empty()),
        name => name.starts_with('_') && !IGNORED_FIELDS.contains(&name),
    };
    match body.iter().find(is_unknown) {
        None => Ok(()),
        Some((name, _)) => {
            let advice = if name == "_attachments" {
                "attachments are not supported; save a file under /files"
            } else {
                "names that begin with _ belong to the database; use another name"
            };
            Err(ApiError::document(StatusCode::BAD_REQUEST, "doc_validation", format!("{name}: {advice}")))
        }
    }
}

/// Like `check_special_fields`, for routes that cannot delete.
fn check_not_deleted(body: &Map) -> Result<(), ApiError> {
    check_special_fields(body)?;
    match body.get("_deleted") {
        Some(Value::Bool(true)) => Err(ApiError::document(
            StatusCode::BAD_REQUEST,
            "doc_validation",
            "_deleted: must not be true here; to delete the document, send DELETE with its rev",
        )),
        _ => Ok(()),
    }
}

/// Returns a document with the fields that `CouchDB` and Cozy add.
fn to_json(doctype: &Doctype, document: Document) -> Map {
    let Document { id, rev, body } = document;
    let mut members = Map::new();
    members.insert("_id".to_owned(), json!(id));
    members.insert("_rev".to_owned(), json!(rev));
    members.insert("_type".to_owned(), json!(doctype));
    members.extend(body);
    members
}

/// Returns the statistics of a read, in the fields of CouchDB.
pub fn execution_stats(examined: u64, returned: usize, started: Instant) -> Value {
    json!({
        "total_keys_examined": examined,
        "total_docs_examined": examined,
        "total_quorum_docs_examined": 0,
        "results_returned": returned,
        "execution_time_ms": started.elapsed().as_secs_f64() * 1_000.0,
    })
}

/// Returns the response to a write.
fn write_response(doctype: &Doctype, document: Document) -> Json<Value> {
    let (id, rev) = (document.id.clone(), document.rev.clone());
    Json(json!({ "ok": true, "id": id, "rev": rev, "type": doctype, "data": to_json(doctype, document) }))
}

async fn doctypes(State(platform): State<Platform>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Get, &parse_doctype("io.cozy.doctypes")?)?;
    Ok(Json(json!(platform.documents().doctypes(&caller.instance)?)))
}

async fn read(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_any(Verb::Get, &doctype)?;
    check_id(&id)?;
    if let Some(open_revs) = OpenRevs::parse(&params)? {
        return Ok(Json(json!(
            open_revs.rows(LatestRevision::load(&platform, &caller, &doctype, &id).await, &params)?
        )));
    }
    let wants_credentials = params.list("include").iter().any(|item| item == "credentials");
    let principal = Principal { wants_credentials, ..caller.principal };
    let last = LatestRevision::load_existing(&platform, &caller.instance, &principal, &doctype, &id)?;
    match params.get_non_empty("rev").map(parse_revision).transpose()? {
        Some(rev) if rev != last.rev => Err(ApiError::document(StatusCode::NOT_FOUND, "not_found", "missing")),
        _ => Ok(Json(json!(last.into_json(&params)))),
    }
}

async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_any(Verb::Post, &doctype)?;
    check_not_deleted(&body)?;
    if body.get("_id").is_some_and(|id| id.as_str() != Some("")) {
        return Err(ApiError::bad_request("document _id should be empty"));
    }
    let document = platform.documents().create(&caller.instance, &caller.principal, &doctype, None, body).await?;
    Ok((StatusCode::CREATED, write_response(&doctype, document)))
}

/// Kind of change that a PUT requests.
#[derive(Debug, PartialEq, Eq)]
enum Write {
    Create,
    Update(Rev),
}

impl Write {
    fn verb(&self) -> Verb {
        match self {
            Self::Create => Verb::Post,
            Self::Update(_) => Verb::Put,
        }
    }

    /// Determines the kind of change. A body with neither `_id` nor `_rev` creates; with both it updates; any other
    /// combination is an error.
    fn from_body(body: &Map, id: &str) -> Result<Self, ApiError> {
        match (body.get("_id"), body.get("_rev")) {
            (None, None) => Ok(Self::Create),
            (Some(Value::String(body_id)), Some(Value::String(rev))) if body_id == id => {
                parse_revision(rev).map(Self::Update)
            }
            (Some(Value::String(body_id)), Some(Value::String(_))) => {
                Err(ApiError::bad_request(format!("_id: '{body_id}' is not the id '{id}' in the path")))
            }
            _ => Err(ApiError::bad_request(
                "_id and _rev: only one of the fields is set, or one is not a string; set both to strings to update a \
                 document, or neither to create one",
            )),
        }
    }
}

async fn write(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    check_id(&id)?;
    check_not_deleted(&body)?;
    let write = Write::from_body(&body, &id)?;
    caller.check_any(write.verb(), &doctype)?;
    let Caller { instance, principal } = &caller;
    let document = match write {
        Write::Create => platform.documents().create(instance, principal, &doctype, Some(id), body).await?,
        Write::Update(rev) => platform.documents().update(instance, principal, &doctype, &id, &rev, body).await?,
    };
    Ok(write_response(&doctype, document))
}

/// Returns the revision to delete: from `rev`, from `If-Match`, or from both if they agree.
fn revision_to_delete(params: &Params, headers: &HeaderMap) -> Result<Rev, ApiError> {
    let header = headers.get(IF_MATCH).and_then(|value| value.to_str().ok()).map(|value| value.trim_matches('"'));
    match (params.get_non_empty("rev"), header) {
        (Some(rev), Some(other)) if rev != other => {
            Err(ApiError::bad_request("rev and If-Match: the revisions differ; send only one of them"))
        }
        (Some(rev), _) | (None, Some(rev)) => parse_revision(rev),
        (None, None) => Err(ApiError::bad_request(
            "the revision to delete is missing; send the parameter rev or the header If-Match",
        )),
    }
}

async fn delete(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_any(Verb::Delete, &doctype)?;
    check_id(&id)?;
    let rev = revision_to_delete(&params, &headers)?;
    let rev = platform.documents().delete(&caller.instance, &caller.principal, &doctype, &id, &rev).await?;
    Ok(Json(json!({ "ok": true, "id": id, "rev": rev, "type": doctype, "deleted": true })))
}

/// `DELETE /data/:type/`: deletes every document of the doctype.
async fn delete_all(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Delete, &doctype)?;
    platform.documents().delete_all(&caller.instance, &caller.principal, &doctype).await?;
    Ok(Json(json!({ "deleted": true })))
}
