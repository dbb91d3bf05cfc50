//! `_normal_docs`: Cozy's paginated list of the documents of a doctype.

use std::time::Instant;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::{Path, State};
use konnector_manifest::Verb;
use konnector_platform::{Platform, cursor};
use serde_json::{Value, json};

use super::{execution_stats, parse_doctype, to_json};
use crate::error::ApiError;
use crate::extract::{Caller, Params};
use crate::openapi::{Describe as _, SchemaKind};

/// Number of documents on a page if the client does not set `limit`.
const DEFAULT_PAGE_SIZE: usize = 100;
/// Maximum number of documents on a page, which is held in memory.
const MAX_PAGE_SIZE: usize = 1_000;

pub fn routes() -> ApiRouter<Platform> {
    let normal = get_with(normal_docs, |op| {
        op.summary("Lists the documents of a doctype in pages")
            .query("limit", SchemaKind::Number, "Number of documents on a page; default: 100, maximum: 1000")
            .query("skip", SchemaKind::Number, "Number of documents to skip")
            .query("bookmark", SchemaKind::String, "The bookmark of the previous page")
            .query("execution_stats", SchemaKind::Boolean, "Whether to include statistics of the execution")
    });
    ApiRouter::new().api_route("/data/{doctype}/_normal_docs", normal)
}

/// `GET /data/:type/_normal_docs`. A bookmark is the cursor of the last document of a page; the last page has an empty
/// bookmark. A page of large documents has fewer of them than requested.
async fn normal_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let limit = params.number("limit")?.unwrap_or(DEFAULT_PAGE_SIZE).min(MAX_PAGE_SIZE);
    let skip = params.number("skip")?.unwrap_or_default();
    let Caller { instance, principal } = &caller;
    let total = platform.documents().count(instance, principal, &doctype).await?;
    let list = format!("documents/{doctype}");
    let bookmark = params.cursor("bookmark", &list)?;
    let start = platform.documents().skip(instance, &doctype, bookmark.as_deref(), skip).await?;
    // The list ends within the skipped documents, because fewer documents exist than are to be skipped.
    let page = if limit == 0 || (start.is_none() && skip > 0) {
        None
    } else {
        Some(platform.documents().list(instance, principal, &doctype, start.as_deref(), limit)?)
    };
    let (documents, next) = page.map_or_else(Default::default, |page| (page.documents, page.next));
    let rows: Vec<Value> = documents.into_iter().map(|document| Value::Object(to_json(&doctype, document))).collect();
    let returned = rows.len();
    let bookmark = next.map(|next| cursor::encode(&list, &next)).unwrap_or_default();
    let mut response = json!({ "rows": rows, "total_rows": total, "bookmark": bookmark });
    if let Some(members) = response.as_object_mut().filter(|_| params.flag("execution_stats", false)) {
        members.insert("execution_stats".to_owned(), execution_stats(total as u64, returned, started));
    }
    Ok(Json(response))
}
