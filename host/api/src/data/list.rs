//! Lists of all documents of a type: `_all_docs` as `CouchDB` answers it, `_normal_docs` as Cozy does.

use axum::Json;
use axum::extract::{Path, State};
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_store::Document;
use serde_json::{Value, json};

use super::{doctype, shown};
use crate::error::Failure;
use crate::extract::{Caller, Params};

/// Documents on a page where the client names no number, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

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

/// `GET /data/:type/_all_docs?limit=&skip=&startkey=&include_docs=`.
pub async fn all_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, Failure> {
    let doctype = doctype(&name)?;
    let from = start_key(&params).unwrap_or_default();
    let part = (params.number("skip")?.unwrap_or_default(), limit(&params)?);
    let page = Page::read(&platform, &caller, &doctype, part, |id| id >= from.as_str())?;
    let with_documents = params.flag("include_docs", false);
    let rows = page.documents.into_iter().map(|document| {
        let mut row = json!({ "id": document.id, "key": document.id, "value": { "rev": document.rev } });
        if with_documents && let Some(members) = row.as_object_mut() {
            members.insert("doc".to_owned(), Value::Object(shown(&doctype, document)));
        }
        row
    });
    let rows: Vec<Value> = rows.collect();
    Ok(Json(json!({ "total_rows": page.total, "offset": page.offset, "rows": rows })))
}

/// `GET /data/:type/_normal_docs?limit=&skip=&bookmark=`. A bookmark is the id of the last document of the page before; the last page has
/// an empty one.
pub async fn normal_docs(
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
