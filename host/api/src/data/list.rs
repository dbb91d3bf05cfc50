//! Lists of all documents of a type: `_all_docs` as `CouchDB` answers it, `_normal_docs` as Cozy does.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::{Path, State};
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::mango::{MemberPath, project};
use konnector_store::Document;
use serde_json::{Value, json};

use super::{doctype, shown};
use crate::error::Failure;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, Kind};

/// Documents on a page where the client names no number, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(all_docs, |op| {
        op.summary("The documents of a type as CouchDB lists them")
            .query("limit", Kind::Number, "Documents on a page, 100 unless told and at most 1000")
            .query("skip", Kind::Number, "Documents to leave out")
            .query("startkey", Kind::Text, "The id to begin with, as JSON")
            .query("include_docs", Kind::Flag, "Whether the documents are there, too")
            .query("Fields", Kind::Text, "The members of the documents that are wanted, with commas between them")
    })
    .post_with(docs_of_keys, |op| {
        op.summary("The documents of a type with some ids, or all")
            .query("include_docs", Kind::Flag, "Whether the documents are there, too")
            .query("Fields", Kind::Text, "The members of the documents that are wanted, with commas between them")
            .member("keys", Kind::Texts, "The ids")
    });
    let normal = get_with(normal_docs, |op| {
        op.summary("The documents of a type as Cozy lists them")
            .query("limit", Kind::Number, "Documents on a page, 100 unless told and at most 1000")
            .query("skip", Kind::Number, "Documents to leave out")
            .query("bookmark", Kind::Text, "Where the page before ended")
    });
    ApiRouter::new().api_route("/data/{doctype}/_all_docs", all).api_route("/data/{doctype}/_normal_docs", normal)
}

/// A part of all documents of a type.
struct Page {
    documents: Vec<Document>,
    /// How many documents came before the part.
    offset: usize,
    /// How many there are in all.
    total: usize,
    /// Whether there are more after the part.
    more: bool,
}

impl Page {
    /// The documents that `keep` lets pass once `skip` of those are left out, at most `limit`. All are gone through, for the total.
    fn read(
        platform: &Platform,
        caller: &Caller,
        doctype: &Doctype,
        (skip, limit): (usize, usize),
        keep: impl Fn(&str) -> bool,
    ) -> Result<Self, Failure> {
        caller.check_type(Verb::Get, doctype)?;
        let mut page = Self { documents: Vec::new(), offset: 0, total: 0, more: false };
        let mut skipped = 0;
        let mut after: Option<String> = None;
        loop {
            let part = platform.list_documents(
                &caller.instance,
                &caller.principal,
                doctype,
                after.as_deref(),
                LARGEST_PAGE,
            )?;
            page.total += part.documents.len();
            for document in part.documents {
                if !keep(&document.id) {
                    page.offset += 1;
                } else if skipped < skip {
                    skipped += 1;
                } else if page.documents.len() < limit {
                    page.documents.push(document);
                } else {
                    page.more = true;
                }
            }
            match part.next {
                Some(next) => after = Some(next),
                None => {
                    page.offset += skipped;
                    return Ok(page);
                }
            }
        }
    }
}

fn limit(params: &Params) -> Result<usize, Failure> {
    Ok(params.number("limit")?.unwrap_or(PAGE).min(LARGEST_PAGE))
}

/// `startkey` is JSON, therefore a text in quotes; without them it is taken as it stands.
fn start_key(params: &Params) -> Option<String> {
    let text = params.filled("startkey").or_else(|| params.filled("start_key"))?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

/// The row of a document. `Fields` says which of its members are wanted, and that it is wanted at all.
fn row(doctype: &Doctype, document: Document, params: &Params) -> Result<Value, Failure> {
    let mut row = json!({ "id": document.id, "key": document.id, "value": { "rev": document.rev } });
    let fields = params.list("Fields");
    if (params.flag("include_docs", false) || !fields.is_empty())
        && let Some(members) = row.as_object_mut()
    {
        let shown = shown(doctype, document);
        let paths = fields.iter().map(|field| MemberPath::parse(field)).collect::<Result<Vec<_>, _>>();
        let paths = paths.map_err(konnector_platform::Error::from)?;
        let wanted = if paths.is_empty() { shown } else { project(&shown, &paths) };
        members.insert("doc".to_owned(), Value::Object(wanted));
    }
    Ok(row)
}

/// `POST /data/:type/_all_docs` with `keys`: the documents with these ids, in the order of these. Without, it is
/// as GET, which is how Cozy's oldest client asks for all of them.
async fn docs_of_keys(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, Failure> {
    if !body.contains_key("keys") {
        return all_docs(State(platform), caller, Path(name), params).await;
    }
    let doctype = doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let keys = body.get("keys").and_then(Value::as_array).filter(|keys| keys.len() <= LARGEST_PAGE);
    let keys =
        keys.ok_or_else(|| Failure::bad_request(format!("keys: expected is a list of at most {LARGEST_PAGE} ids")))?;
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let id = key.as_str().unwrap_or_default();
        rows.push(match platform.read_listed(&caller.instance, &caller.principal, &doctype, id)? {
            Some(document) => row(&doctype, document, &params)?,
            None => json!({ "key": key, "error": "not_found" }),
        });
    }
    Ok(Json(json!({ "total_rows": rows.len(), "offset": 0, "rows": rows })))
}

/// `GET /data/:type/_all_docs?limit=&skip=&startkey=&include_docs=&Fields=`. Design documents are none of them, whatever `DesignDocs` says.
async fn all_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    let from = start_key(&params).unwrap_or_default();
    let part = (params.number("skip")?.unwrap_or_default(), limit(&params)?);
    let page = Page::read(&platform, &caller, &doctype, part, |id| id >= from.as_str())?;
    let rows = page.documents.into_iter().map(|document| row(&doctype, document, &params));
    let rows = rows.collect::<Result<Vec<Value>, _>>()?;
    Ok(Json(json!({ "total_rows": page.total, "offset": page.offset, "rows": rows })))
}

/// `GET /data/:type/_normal_docs?limit=&skip=&bookmark=`. A bookmark is the id of the last document of the page before; the last page has
/// an empty one.
async fn normal_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    let after = params.filled("bookmark");
    let part = (params.number("skip")?.unwrap_or_default(), limit(&params)?);
    let page = Page::read(&platform, &caller, &doctype, part, |id| after.is_none_or(|after| id > after))?;
    let bookmark = page.documents.last().filter(|_| page.more).map(|last| last.id.clone()).unwrap_or_default();
    let rows: Vec<Value> =
        page.documents.into_iter().map(|document| Value::Object(shown(&doctype, document))).collect();
    Ok(Json(json!({ "rows": rows, "total_rows": page.total, "bookmark": bookmark })))
}
