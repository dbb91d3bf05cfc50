//! `/data/:type/:id/relationships/references`: files that reference a document, such as the photos of an album.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::doctype::FILES;
use konnector_platform::document::check_readable;
use konnector_platform::file::{Reference, ReferencePage};
use konnector_platform::{Platform, cursor};
use konnector_store::Map;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::check_id;
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::files::references::check_references;
use crate::files::{access, resource};
use crate::jsonapi::PlainJson;
use crate::openapi::{Describe as _, SchemaKind};

/// Number of files on a page if the client does not set `page[limit]`.
const DEFAULT_PAGE_SIZE: usize = 100;
/// Maximum number of files on a page, or in one request.
const MAX_PAGE_SIZE: usize = 1_000;

pub fn routes() -> ApiRouter<Platform> {
    let references = get_with(list, |op| {
        op.summary("Lists the files that reference a document, sorted by date")
            .query("page[limit]", SchemaKind::Number, "Maximum number of files on a page")
            .query("page[cursor]", SchemaKind::String, "Cursor from the previous page")
            .query("include", SchemaKind::String, "files, to include them in the response")
    })
    .post_with(add, |op| {
        op.summary("Adds references from files to a document")
            .field("data", SchemaKind::Objects, "The files, each with its type and id")
            .success::<204, ()>("The files reference the document")
    })
    .delete_with(remove, |op| {
        op.summary("Removes references from files to a document")
            .field("data", SchemaKind::Objects, "The files, each with its type and id")
            .success::<204, ()>("The files do not reference the document")
    });
    ApiRouter::new().api_route("/data/{doctype}/{id}/relationships/references", references)
}

/// Returns the reference to the document of a path, if the caller has the permission for the document, or for all
/// files. A doctype that occurs only in references has no documents that a rule could name.
fn authorized_reference(
    platform: &Platform,
    caller: &Caller,
    verbs: [Verb; 2],
    name: String,
    id: String,
) -> Result<Reference, ApiError> {
    let reference = Reference { doctype: name, id };
    let [document_verb, files_verb] = verbs;
    let Ok(doctype) = reference.doctype.parse::<Doctype>() else {
        reference.check()?;
        caller.check_type(files_verb, &FILES)?;
        check_id(&reference.id)?;
        return Ok(reference);
    };
    let id = &reference.id;
    check_readable(&doctype)?;
    if caller.check_type(files_verb, &FILES).is_err() {
        let found = platform.documents().get_unchecked(&caller.instance.doc(&doctype, id))?;
        let empty = Map::new();
        let body = found.as_ref().map_or(&empty, |found| &found.body);
        caller.check_document(document_verb, &doctype, id, body)?;
    }
    check_id(id)?;
    Ok(reference)
}

/// `GET`: lists a page of files, sorted by date. `include=files` adds the files that the caller may read.
async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    params: Params,
) -> Result<PlainJson, ApiError> {
    let reference = authorized_reference(&platform, &caller, [Verb::Get, Verb::Get], name, id)?;
    let limit = params.number("page[limit]")?.unwrap_or(DEFAULT_PAGE_SIZE).clamp(1, MAX_PAGE_SIZE);
    let list = format!("references/{}/{}", reference.doctype, reference.id);
    let start = params.cursor("page[cursor]", &list)?;
    let page = platform.files().referring_files(&caller.instance, &reference, start.as_deref(), limit)?;
    let ReferencePage { files, next, total } = page;
    let data: Vec<Value> = files.iter().map(|file| json!({ "type": *FILES, "id": file })).collect();
    let mut links = Map::new();
    if let Some(next) = next {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let include = params.get_non_empty("include").map(|include| format!("&include={}", encode(include)));
        let address = format!(
            "/data/{}/{}/relationships/references?page[limit]={limit}&page[cursor]={}{}",
            reference.doctype,
            encode(&reference.id),
            cursor::encode(&list, &next),
            include.unwrap_or_default()
        );
        links.insert("next".to_owned(), json!(address));
    }
    let mut included = Vec::new();
    if params.list("include").iter().any(|include| include == "files") {
        for id in files {
            // A caller who may see that a file exists need not be allowed to see its content.
            if let Ok(file) = access::find_by_id(&platform, &caller, Verb::Get, &id) {
                included.push(resource(&platform, &caller, &file)?);
            }
        }
    }
    let response = json!({ "data": data, "included": included, "links": links, "meta": { "count": total } });
    Ok(PlainJson(response))
}

/// `POST`: adds references from these files to the document.
async fn add(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    body: JsonObject,
) -> Result<StatusCode, ApiError> {
    let (reference, files) = reference_and_files(&platform, &caller, name, id, body)?;
    for file in files {
        platform.files().add_references(&caller.instance, &file, &reference).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE`: removes references. Files without the reference are treated as removed.
async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    body: JsonObject,
) -> Result<StatusCode, ApiError> {
    let (reference, files) = reference_and_files(&platform, &caller, name, id, body)?;
    for file in files {
        platform.files().remove_references(&caller.instance, &file, &reference).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the reference to a document that the caller may change, and the files in the request.
fn reference_and_files(
    platform: &Platform,
    caller: &Caller,
    name: String,
    id: String,
    body: JsonObject,
) -> Result<([Reference; 1], Vec<String>), ApiError> {
    let reference = [authorized_reference(platform, caller, [Verb::Put, Verb::Patch], name, id)?];
    check_references(caller, &reference)?;
    let files = parse_file_ids(body)?;
    if caller.principal.konnector().is_some() {
        // The document of the file changes as well.
        for id in &files {
            let file = platform.files().get(&caller.instance, id)?;
            let verbs = [Verb::Post, Verb::Put, Verb::Patch];
            if !platform.files().is_allowed(&caller.instance, &caller.principal.permissions, &verbs, &file)? {
                return Err(ApiError::forbidden(format!(
                    "the manifest has no rule to change the file '{id}'; a reference changes its document"
                )));
            }
        }
    }
    Ok((reference, files))
}

/// Parses the ids in `{"data": [{"type": "io.cozy.files", "id": …}]}`, or of a single one without the list.
fn parse_file_ids(JsonObject(mut body): JsonObject) -> Result<Vec<String>, ApiError> {
    let malformed = || {
        let message = format!(
            "data: the value is not a list of at most {MAX_PAGE_SIZE} files, {{\"type\": \"io.cozy.files\", \"id\": …}}"
        );
        ApiError::bad_request(message)
    };
    let files = match body.shift_remove("data") {
        Some(Value::Array(files)) if files.len() <= MAX_PAGE_SIZE => files,
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err(malformed()),
    };
    let id = |file: &Value| {
        let is_file = file.get("type").and_then(Value::as_str) == Some(FILES.as_str());
        file.get("id").and_then(Value::as_str).filter(|id| is_file && !id.is_empty()).map(str::to_owned)
    };
    files.iter().map(id).collect::<Option<_>>().ok_or_else(malformed)
}
