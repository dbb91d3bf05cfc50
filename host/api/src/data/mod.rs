//! `/data`: the user's JSON documents, as `CouchDB`'s clients know them (Cozy API: data system).

mod all;
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
use konnector_platform::token::Principal;
use konnector_store::{Document, Map, Rev};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, Kind};
use revisions::{Last, Open};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let whole_type = post_with(create, |op| {
        op.summary("Stores a new document under an id of the server's")
            .answers::<201, Json<Value>>("The document as stored")
    })
    .delete_with(delete_all, |op| op.summary("Deletes every document of a type"));
    ApiRouter::new()
        .api_route("/data/_all_doctypes", get_with(doctypes, |op| op.summary("The types that have documents")))
        .api_route("/data/{doctype}", whole_type.clone())
        .api_route("/data/{doctype}/", whole_type)
        .merge(all::routes())
        .merge(list::routes())
        .merge(find::routes())
        .merge(bulk::routes())
        .merge(changes::routes())
        .merge(references::routes())
        .api_route("/data/{doctype}/{id}", one())
}

/// The operations on one document.
fn one() -> ApiMethodRouter<Platform> {
    get_with(read, |op| {
        op.summary("A document")
            .query("rev", Kind::Text, "Its revision; only the current one is there")
            .query("revs", Kind::Flag, "With its history, which is that revision")
            .query("revs_info", Kind::Flag, "With the revisions that are there")
            .query("open_revs", Kind::Text, "All, or a list of revisions: a list of them, also of a deletion")
    })
    .put_with(write, |op| {
        op.summary("Stores a document under an id, as a new one or as the next revision")
            .member("_id", Kind::Text, "The id, as in the path, to update")
            .member("_rev", Kind::Text, "The revision to replace, to update")
            .fails(409, "Somebody else wrote in between, or the document to create is there")
    })
    .delete_with(delete, |op| {
        op.summary("Deletes a document")
            .query("rev", Kind::Text, "The revision to delete")
            .header("If-Match", "The same")
            .fails(409, "Somebody else wrote in between")
    })
}

/// The doctype of a path.
fn doctype(name: &str) -> Result<Doctype, Failure> {
    name.parse().map_err(|error: konnector_manifest::Error| {
        Failure::document(StatusCode::BAD_REQUEST, "illegal_database_name", error.to_string())
    })
}

fn revision(text: &str) -> Result<Rev, Failure> {
    text.parse().map_err(|error: konnector_store::Error| Failure::bad_request(error.to_string()))
}

/// Ids that begin with `_` are `CouchDB`'s own.
fn check_id(id: &str) -> Result<(), Failure> {
    if id.starts_with('_') {
        let reason = format!("the id '{id}' begins with _, which only the database's own ids do");
        return Err(Failure::document(StatusCode::BAD_REQUEST, "bad_id", reason));
    }
    Ok(())
}

/// Refuses a document whose special fields have the wrong type: read as if they were absent, they would make a change of another kind.
fn check_special_fields(body: &Map) -> Result<(), Failure> {
    for (name, expected) in [("_id", "a text"), ("_rev", "a text"), ("_deleted", "true or false")] {
        let is_valid = match (name, body.get(name)) {
            (_, None) => true,
            ("_deleted", Some(value)) => value.is_boolean(),
            (_, Some(value)) => value.is_string(),
        };
        if !is_valid {
            let reason = format!("{name} is not {expected}");
            return Err(Failure::document(StatusCode::BAD_REQUEST, "doc_validation", reason));
        }
    }
    Ok(())
}

/// The same where nothing can be deleted.
fn check_is_no_deletion(body: &Map) -> Result<(), Failure> {
    check_special_fields(body)?;
    match body.get("_deleted") {
        Some(Value::Bool(true)) => Err(Failure::document(
            StatusCode::BAD_REQUEST,
            "doc_validation",
            "_deleted is true; send DELETE with the rev of the document to delete it",
        )),
        _ => Ok(()),
    }
}

/// A document with the members that `CouchDB` and Cozy add.
fn shown(doctype: &Doctype, document: Document) -> Map {
    let Document { id, rev, body } = document;
    let mut members = Map::new();
    members.insert("_id".to_owned(), json!(id));
    members.insert("_rev".to_owned(), json!(rev));
    members.insert("_type".to_owned(), json!(doctype));
    members.extend(body);
    members
}

/// How the reading of documents went, in CouchDB's members.
pub fn execution_stats(examined: u64, returned: usize, started: Instant) -> Value {
    json!({
        "total_keys_examined": examined,
        "total_docs_examined": examined,
        "total_quorum_docs_examined": 0,
        "results_returned": returned,
        "execution_time_ms": started.elapsed().as_secs_f64() * 1_000.0,
    })
}

/// The answer to a write.
fn written(doctype: &Doctype, document: Document) -> Json<Value> {
    let (id, rev) = (document.id.clone(), document.rev.clone());
    Json(json!({ "ok": true, "id": id, "rev": rev, "type": doctype, "data": shown(doctype, document) }))
}

async fn doctypes(State(platform): State<Platform>, caller: Caller) -> Result<Json<Value>, Failure> {
    caller.check_type(Verb::Get, &doctype("io.cozy.doctypes")?)?;
    Ok(Json(json!(platform.doctypes(&caller.instance)?)))
}

async fn read(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    caller.check_any(Verb::Get, &doctype)?;
    check_id(&id)?;
    if let Some(open) = Open::of(&params)? {
        return Ok(Json(json!(open.answer(Last::of(&platform, &caller, &doctype, &id).await, &params)?)));
    }
    let wants_credentials = params.list("include").iter().any(|wanted| wanted == "credentials");
    let principal = Principal { wants_credentials, ..caller.principal };
    let last = Last::present(&platform, &caller.instance, &principal, &doctype, &id)?;
    match params.filled("rev").map(revision).transpose()? {
        Some(rev) if rev != last.rev => Err(Failure::document(StatusCode::NOT_FOUND, "not_found", "missing")),
        _ => Ok(Json(json!(last.told(&params)))),
    }
}

async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let doctype = doctype(&name)?;
    caller.check_any(Verb::Post, &doctype)?;
    check_is_no_deletion(&body)?;
    if body.get("_id").is_some_and(|id| id.as_str() != Some("")) {
        return Err(Failure::bad_request("document _id should be empty"));
    }
    let document = platform.create_document(&caller.instance, &caller.principal, &doctype, None, body).await?;
    Ok((StatusCode::CREATED, written(&doctype, document)))
}

/// What a PUT asks for.
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

    /// A body with neither `_id` nor `_rev` creates; with both it updates; anything else is a mistake.
    fn of(body: &Map, id: &str) -> Result<Self, Failure> {
        match (body.get("_id"), body.get("_rev")) {
            (None, None) => Ok(Self::Create),
            (Some(Value::String(own)), Some(Value::String(rev))) if own == id => revision(rev).map(Self::Update),
            (Some(Value::String(own)), Some(Value::String(_))) => {
                Err(Failure::bad_request(format!("the document's _id '{own}' is not the id '{id}' of the address")))
            }
            _ => Err(Failure::bad_request(
                "give both _id and _rev, as texts, to update a document, or neither to create one",
            )),
        }
    }
}

async fn write(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    check_id(&id)?;
    check_is_no_deletion(&body)?;
    let write = Write::of(&body, &id)?;
    caller.check_any(write.verb(), &doctype)?;
    let Caller { instance, principal } = &caller;
    let document = match write {
        Write::Create => platform.create_document(instance, principal, &doctype, Some(id), body).await?,
        Write::Update(rev) => platform.update_document(instance, principal, &doctype, &id, &rev, body).await?,
    };
    Ok(written(&doctype, document))
}

/// The revision to delete: from `rev`, from `If-Match`, or from both when they agree.
fn wanted_revision(params: &Params, headers: &HeaderMap) -> Result<Rev, Failure> {
    let header = headers.get(IF_MATCH).and_then(|value| value.to_str().ok()).map(|value| value.trim_matches('"'));
    match (params.filled("rev"), header) {
        (Some(rev), Some(other)) if rev != other => {
            Err(Failure::bad_request("the parameter rev and the header If-Match name different revisions"))
        }
        (Some(rev), _) | (None, Some(rev)) => revision(rev),
        (None, None) => Err(Failure::bad_request("name the revision to delete, as the parameter rev or as If-Match")),
    }
}

async fn delete(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    caller.check_any(Verb::Delete, &doctype)?;
    check_id(&id)?;
    let rev = wanted_revision(&params, &headers)?;
    let rev = platform.delete_document(&caller.instance, &caller.principal, &doctype, &id, &rev).await?;
    Ok(Json(json!({ "ok": true, "id": id, "rev": rev, "type": doctype, "deleted": true })))
}

/// `DELETE /data/:type/`: every document of the type.
async fn delete_all(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    caller.check_type(Verb::Delete, &doctype)?;
    platform.delete_documents(&caller.instance, &caller.principal, &doctype).await?;
    Ok(Json(json!({ "deleted": true })))
}
