//! References from files to documents.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::Json;
use axum::extract::{Path, State};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::file::{File, Reference};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access;
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject};
use crate::openapi::{Describe as _, SchemaKind};

pub fn routes() -> ApiRouter<Platform> {
    const DATA: &str = "A reference with its type and id, or a list of references";
    let route = post_with(add, |op| {
        op.summary("Adds references from a file to documents").field("data", SchemaKind::Any, DATA)
    })
    .delete_with(remove, |op| {
        op.summary("Removes references from a file to documents").field("data", SchemaKind::Any, DATA)
    });
    ApiRouter::new().api_route("/files/{id}/relationships/referenced_by", route)
}

/// One reference, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Many(Vec<Reference>),
    One(Reference),
}

/// `POST /files/:id/relationships/referenced_by`.
async fn add(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Patch, &id)?;
    let references = references(body)?;
    check_references(&caller, &references)?;
    let file = platform.files().add_references(&caller.instance, &file.id, &references).await?;
    Ok(references_response(&file))
}

/// `DELETE /files/:id/relationships/referenced_by`. Missing references are treated as removed.
async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Patch, &id)?;
    let references = references(body)?;
    check_references(&caller, &references)?;
    let file = platform.files().remove_references(&caller.instance, &file.id, &references).await?;
    Ok(references_response(&file))
}

/// Rejects references by which a konnector would claim a folder, because they grant access to the folder.
pub fn check_references(caller: &Caller, references: &[Reference]) -> Result<(), ApiError> {
    if references.iter().any(Reference::marks_folder_owner) {
        caller.principal.check_may_outlive_run("set the owner of a folder")?;
    }
    Ok(())
}

fn references(JsonObject(mut body): JsonObject) -> Result<Vec<Reference>, ApiError> {
    let malformed = || {
        ApiError::bad_request("data: the value is not a reference, {\"type\": …, \"id\": …}, or a list of references")
    };
    let data = body.shift_remove("data").ok_or_else(malformed)?;
    let references = match serde_json::from_value(data).map_err(|_| malformed())? {
        Data::One(reference) => vec![reference],
        Data::Many(references) => references,
    };
    references.iter().try_for_each(Reference::check)?;
    Ok(references)
}

fn references_response(file: &File) -> Json<Value> {
    let data = &file.referenced_by;
    Json(json!({ "data": data, "meta": { "rev": file.rev, "count": data.len() } }))
}
