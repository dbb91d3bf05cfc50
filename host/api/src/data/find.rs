//! Mango queries (`_find`) and their indexes.

use std::time::Instant;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::design::NewIndex;
use konnector_query::Query;
use konnector_store::Map;
use serde_json::{Value, json};

use super::{execution_stats, parse_doctype, parse_revision};
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind, query_fields};

pub fn routes() -> ApiRouter<Platform> {
    let find = post_with(find, |op| query_fields(op.summary("Finds the documents of a doctype that match a selector")));
    let declare = post_with(create_index, |op| {
        op.summary("Creates an index if it does not exist")
            .field("index", SchemaKind::Object, "Fields of the index, and an optional selector that restricts it")
            .field("ddoc", SchemaKind::String, "Id of the design document that contains the index")
            .field("name", SchemaKind::String, "Name of the index")
    });
    let one = get_with(get_design, |op| op.summary("Shows a design document")).delete_with(delete_design, |op| {
        op.summary("Deletes a design document and its index")
            .query("rev", SchemaKind::String, "The revision to delete")
            .error(409, "Concurrent modification")
    });
    let copy = post_with(copy_design, |op| {
        op.summary("Copies a design document")
            .header("Destination", "Id of the copy, with the prefix _design/")
            .success::<201, Json<Value>>("The id and the revision of the copy")
            .error(409, "A design document with this id exists already")
    });
    ApiRouter::new()
        .api_route("/data/{doctype}/_find", find)
        .api_route("/data/{doctype}/_index", declare)
        .api_route(
            "/data/{doctype}/_design_docs",
            get_with(list_designs, |op| op.summary("Lists the design documents of a doctype")),
        )
        .api_route("/data/{doctype}/_design/{id}", one)
        .api_route("/data/{doctype}/_design/{id}/copy", copy)
}

/// `POST /data/:type/_find`.
async fn find(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Json<Map>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let started = Instant::now();
    let query = Query::parse(&body).map_err(konnector_platform::Error::from)?;
    let stats = query.execution_stats;
    let page = platform.documents().find(&caller.instance, &caller.principal, &doctype, query).await?;
    let mut response = Map::new();
    response.insert("limit".to_owned(), json!(page.limit));
    response.insert("next".to_owned(), json!(page.is_full()));
    response.insert("bookmark".to_owned(), json!(page.bookmark));
    if stats {
        response.insert("execution_stats".to_owned(), execution_stats(page.examined, page.documents.len(), started));
    }
    if page.scan_warning {
        // CouchDB's wording, which clients search for.
        let warning = "The number of documents examined is high in proportion to the number of results returned. \
            Consider adding a more specific index to improve this.";
        response.insert("warning".to_owned(), json!(warning));
    }
    response.insert("docs".to_owned(), page.documents.into_iter().map(Value::Object).collect());
    Ok(Json(response))
}

/// `POST /data/:type/_index`.
async fn create_index(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let new = NewIndex::parse(&body).map_err(konnector_platform::Error::from)?;
    let declared = platform.documents().declare_index(&caller.instance, &caller.principal, &doctype, new).await?;
    let result = if declared.created { "created" } else { "exists" };
    Ok(Json(json!({ "result": result, "id": format!("_design/{}", declared.design), "name": declared.name })))
}

/// `GET /data/:type/_design_docs`.
async fn list_designs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let designs = platform.documents().designs(&caller.instance, &caller.principal, &doctype)?;
    let rows = designs.iter().map(|(design, rev)| {
        let id = format!("_design/{}", design.id);
        json!({ "id": id, "key": id, "value": { "rev": rev }, "doc": design.to_json(rev) })
    });
    let rows: Vec<Value> = rows.collect();
    Ok(Json(json!({ "total_rows": rows.len(), "offset": 0, "rows": rows })))
}

/// `GET /data/:type/_design/:id`.
async fn get_design(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Map>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let (design, rev) = platform.documents().design(&caller.instance, &caller.principal, &doctype, &id)?;
    Ok(Json(design.to_json(&rev)))
}

/// `DELETE /data/:type/_design/:id?rev=`.
async fn delete_design(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Delete, &doctype)?;
    let rev = params
        .get_non_empty("rev")
        .ok_or_else(|| ApiError::bad_request("rev: the parameter is missing; set it to the revision to delete"))?;
    platform
        .documents()
        .delete_design(&caller.instance, &caller.principal, &doctype, &id, &parse_revision(rev)?)
        .await?;
    Ok(Json(json!({ "ok": true, "id": format!("_design/{id}"), "rev": rev, "deleted": true })))
}

/// `POST /data/:type/_design/:id/copy` with the new name in the header `Destination`.
async fn copy_design(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Post, &doctype)?;
    let to = headers.get("destination").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let to = to.strip_prefix("_design/").filter(|to| !to.is_empty()).ok_or_else(|| {
        ApiError::bad_request("Destination: the header must contain the id of the copy, for example _design/by-date")
    })?;
    let rev = platform.documents().copy_design(&caller.instance, &caller.principal, &doctype, (&id, to)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "ok": true, "id": format!("_design/{to}"), "rev": rev }))))
}
