//! The change feed (`_changes`), and the query that a replication sends before its documents (`_revs_diff`).

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::{Path, State};
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::changes::{ChangePage, ChangesQuery, Since};
use konnector_query::Direction;
use konnector_store::{FeedChange, Map, Rev};
use serde_json::{Value, json};

use super::revisions::tombstone;
use super::{parse_doctype, parse_revision, to_json};
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, SchemaKind};

/// Maximum number of documents in one request.
const MAX_DOCUMENTS: usize = 1_000;
/// Maximum number of changes on a page with documents; without documents the platform's limit applies.
const MAX_CHANGES_WITH_DOCUMENTS: usize = 1_000;

/// Parameters of the feed. Others are rejected, because a response that ignores a misspelt parameter would be
/// misleading.
const PARAMETERS: [&str; 11] = [
    "_nonce",
    "bearer_token",
    "descending",
    "feed",
    "heartbeat",
    "include_docs",
    "limit",
    "seq_interval",
    "since",
    "style",
    "timeout",
];

pub fn routes() -> ApiRouter<Platform> {
    let feed = get_with(changes, |op| feed_parameters(op.summary("Lists the changes of the documents of a doctype")))
        .post_with(changes_of_ids, |op| {
            feed_parameters(op.summary("Lists the changes of the documents of a doctype, or only of some documents"))
                .query("filter", SchemaKind::String, "_doc_ids, to list only the documents in doc_ids")
                .field("doc_ids", SchemaKind::Strings, "Ids of the documents, for the filter _doc_ids")
        });
    let difference = post_with(revs_diff, |op| {
        op.summary("Returns which of the given revisions are missing, by the ids of their documents")
    });
    ApiRouter::new().api_route("/data/{doctype}/_changes", feed).api_route("/data/{doctype}/_revs_diff", difference)
}

/// Describes the parameters of the feed.
fn feed_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("since", SchemaKind::String, "The last_seq of an earlier response, now, or 0 for all changes")
        .query("limit", SchemaKind::Number, "Maximum number of changes on a page")
        .query("descending", SchemaKind::Boolean, "Whether to list the newest changes first")
        .query("include_docs", SchemaKind::Boolean, "Whether to include the current documents")
        .query(
            "style",
            SchemaKind::String,
            "main_only or all_docs, which are equivalent because there are no conflicts",
        )
        .query("feed", SchemaKind::String, "Mode of the feed; only normal is supported")
        .query("heartbeat", SchemaKind::Number, "Accepted and ignored")
        .query("timeout", SchemaKind::Number, "Accepted and ignored")
        .query("seq_interval", SchemaKind::Number, "Accepted and ignored")
        .query("_nonce", SchemaKind::String, "Accepted and ignored")
}

/// Parsed parameters of the feed.
struct FeedQuery {
    request: ChangesQuery,
    documents: bool,
}

impl FeedQuery {
    fn parse(params: &Params) -> Result<Self, ApiError> {
        if let Some(unknown) = params.names().find(|name| !PARAMETERS.contains(name) && *name != "filter") {
            let known = PARAMETERS.join(", ");
            return Err(ApiError::bad_request(format!(
                "the parameter '{unknown}' is unknown; the parameters of _changes are {known}"
            )));
        }
        let one_of = |name: &'static str, values: &[&str]| match params.get_non_empty(name) {
            Some(value) if !values.contains(&value) => Err(ApiError::bad_request(format!(
                "the parameter {name} must be {}, not '{value}'",
                values.join(" or ")
            ))),
            _ => Ok(()),
        };
        // Other modes keep the connection open, which the realtime API does better.
        one_of("feed", &["normal"])?;
        // Without conflicts, both styles return the same.
        one_of("style", &["main_only", "all_docs"])?;
        one_of("include_docs", &["true", "false"])?;
        one_of("descending", &["true", "false"])?;
        for name in ["timeout", "seq_interval"] {
            params.number(name)?;
        }
        if params.get("heartbeat") != Some("true") {
            params.number("heartbeat")?;
        }
        let documents = params.flag("include_docs", false);
        // CouchDB treats 0 as 1.
        let limit = params.number("limit")?.unwrap_or(usize::MAX).max(1);
        let limit = if documents { limit.min(MAX_CHANGES_WITH_DOCUMENTS) } else { limit };
        let direction = if params.flag("descending", false) { Direction::Backward } else { Direction::Forward };
        Ok(Self { request: ChangesQuery { since: since(params)?, limit, direction, ids: None }, documents })
    }
}

/// Parses the position after which changes are requested.
pub fn since(params: &Params) -> Result<Since, ApiError> {
    match params.get_non_empty("since") {
        None => Ok(Since::Seq(konnector_store::Seq::default())),
        Some("now") => Ok(Since::Now),
        Some(text) => {
            let malformed = |error: konnector_store::Error| ApiError::bad_request(error.to_string());
            text.parse().map(Since::Seq).map_err(malformed)
        }
    }
}

/// `GET /data/:type/_changes`.
async fn changes(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    if params.get("filter").is_some() {
        return Err(ApiError::bad_request("the parameter filter requires POST with doc_ids in the body"));
    }
    feed_response(&platform, &caller, &doctype, FeedQuery::parse(&params)?).await
}

/// `POST /data/:type/_changes?filter=_doc_ids` with `doc_ids`; without the filter, the same as GET.
async fn changes_of_ids(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let mut query = FeedQuery::parse(&params)?;
    match params.get("filter") {
        None => {}
        Some("_doc_ids") => query.request.ids = Some(doc_ids(&body)?),
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "the parameter filter must be _doc_ids or absent, not '{other}'"
            )));
        }
    }
    feed_response(&platform, &caller, &doctype, query).await
}

fn doc_ids(body: &Map) -> Result<Vec<String>, ApiError> {
    let ids = body.get("doc_ids").and_then(Value::as_array).filter(|ids| ids.len() <= MAX_DOCUMENTS);
    let ids: Option<Vec<String>> = ids.and_then(|ids| ids.iter().map(|id| id.as_str().map(str::to_owned)).collect());
    ids.ok_or_else(|| ApiError::bad_request(format!("doc_ids: the value is not a list of at most {MAX_DOCUMENTS} ids")))
}

async fn feed_response(
    platform: &Platform,
    caller: &Caller,
    doctype: &Doctype,
    FeedQuery { request, documents }: FeedQuery,
) -> Result<Json<Value>, ApiError> {
    let Caller { instance, principal } = caller;
    let page = platform.documents().document_changes(instance, principal, doctype, request).await?;
    let ChangePage { changes, last_seq: last, pending } = page;
    let mut results = Vec::with_capacity(changes.len());
    for change in changes {
        let mut row = json!({ "seq": change.seq.to_string(), "id": change.id, "changes": [{ "rev": change.rev }] });
        if let Some(members) = row.as_object_mut() {
            if change.deleted {
                members.insert("deleted".to_owned(), json!(true));
            }
            if documents {
                members.insert("doc".to_owned(), document(platform, caller, doctype, &change)?);
            }
        }
        results.push(row);
    }
    Ok(Json(json!({ "last_seq": last.to_string(), "pending": pending, "results": results })))
}

/// Returns the current document of a change, or its tombstone.
fn document(platform: &Platform, caller: &Caller, doctype: &Doctype, change: &FeedChange) -> Result<Value, ApiError> {
    let found = platform.documents().read_without_secrets(&caller.instance, &caller.principal, doctype, &change.id)?;
    Ok(Value::Object(found.map_or_else(|| tombstone(change), |document| to_json(doctype, document))))
}

/// `POST /data/:type/_revs_diff`: returns those revisions of each document that are missing here. Only the last
/// revision of a document is stored, including that of its deletion, so all others are missing; the stored one may be
/// an ancestor of the younger ones.
async fn revs_diff(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> Result<Json<Map>, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    if body.len() > MAX_DOCUMENTS {
        return Err(ApiError::bad_request(format!(
            "the body has {} documents; at most {MAX_DOCUMENTS} are allowed per request",
            body.len()
        )));
    }
    let mut requested: Vec<(String, Vec<Rev>)> = Vec::with_capacity(body.len());
    for (id, revs) in body {
        let malformed = || ApiError::bad_request(format!("{id}: the value is not a list of revisions"));
        let revs = revs.as_array().ok_or_else(malformed)?.iter();
        let revs = revs.map(|rev| parse_revision(rev.as_str().ok_or_else(malformed)?)).collect::<Result<_, _>>()?;
        requested.push((id, revs));
    }
    let ids = requested.iter().map(|(id, _)| id.clone()).collect();
    let newest = platform.documents().newest_revisions(&caller.instance, &caller.principal, &doctype, ids).await?;
    let mut differences = Map::new();
    for (id, revs) in requested {
        let current = newest.iter().find(|change| change.id == id).map(|change| &change.rev);
        let missing: Vec<&Rev> = revs.iter().filter(|rev| Some(*rev) != current).collect();
        if missing.is_empty() {
            continue;
        }
        let mut difference = json!({ "missing": missing });
        let ancestor = current.filter(|current| missing.iter().any(|rev| rev.generation() > current.generation()));
        if let (Some(ancestor), Some(members)) = (ancestor, difference.as_object_mut()) {
            members.insert("possible_ancestors".to_owned(), json!([ancestor]));
        }
        differences.insert(id, difference);
    }
    Ok(Json(differences))
}
