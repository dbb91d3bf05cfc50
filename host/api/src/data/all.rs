//! `_all_docs`: the documents of a type as `CouchDB` lists them. Without a limit these are all, so the answer is written while they are read.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::document::DocumentPage;
use konnector_platform::mango::{FieldPath, QueryError, project};
use konnector_store::Document;
use serde_json::{Value, json};

use super::{doctype, shown};
use crate::error::Failure;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, Kind};

/// Documents that are read at once.
const STEP: usize = 256;
/// Ids in one request, at most.
const MOST_KEYS: usize = 10_000;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(all, |op| {
        op.summary("The documents of a type as CouchDB lists them")
            .query("limit", Kind::Number, "How many; all of them unless told")
            .query("skip", Kind::Number, "Documents to leave out")
            .query("startkey", Kind::Text, "The id to begin with, as JSON")
            .query("include_docs", Kind::Flag, "Whether the documents are there, too")
            .query("Fields", Kind::Text, "The members of the documents that are wanted, with commas between them")
            .answers::<200, Json<Value>>("The documents, and how many there are in all")
    })
    .post_with(of_keys, |op| {
        op.summary("The documents of a type with some ids, or all")
            .query("include_docs", Kind::Flag, "Whether the documents are there, too")
            .query("Fields", Kind::Text, "The members of the documents that are wanted, with commas between them")
            .member("keys", Kind::Texts, "The ids, at most 10,000")
            .answers::<200, Json<Value>>("The documents in the order of the ids")
    });
    ApiRouter::new().api_route("/data/{doctype}/_all_docs", all)
}

/// How rows look.
struct Rows {
    doctype: Doctype,
    documents: bool,
    /// The members that are wanted; all of them where there is none.
    fields: Vec<FieldPath>,
}

impl Rows {
    /// `Fields` says which members are wanted, and that the documents are.
    fn parse(doctype: Doctype, params: &Params) -> Result<Self, Failure> {
        let fields = params.list("Fields");
        let fields = fields.iter().map(|field| FieldPath::parse(field)).collect::<Result<Vec<_>, _>>();
        let fields = fields.map_err(|error| konnector_platform::Error::from(QueryError::from(error)))?;
        let documents = params.flag("include_docs", false) || !fields.is_empty();
        Ok(Self { doctype, documents, fields })
    }

    fn row(&self, document: Document) -> Value {
        let mut row = json!({ "id": document.id, "key": document.id, "value": { "rev": document.rev } });
        if let Some(members) = row.as_object_mut().filter(|_| self.documents) {
            let shown = shown(&self.doctype, document);
            let wanted = if self.fields.is_empty() { shown } else { project(&shown, &self.fields) };
            members.insert("doc".to_owned(), Value::Object(wanted));
        }
        row
    }
}

/// An answer that is being written.
struct Listing {
    platform: Platform,
    caller: Caller,
    rows: Rows,
    /// The id to begin with.
    from: String,
    skip: usize,
    limit: usize,
    /// The document that was read last.
    after: Option<String>,
    /// How many documents came before the first row.
    offset: usize,
    written: usize,
    total: usize,
    ended: bool,
}

impl Listing {
    /// The next piece of the answer. All documents are gone through, for their number.
    fn piece(&mut self) -> Result<String, Failure> {
        let Caller { instance, principal } = &self.caller;
        let after = self.after.as_deref();
        let page = self.platform.list_documents(instance, principal, &self.rows.doctype, after, STEP)?;
        let DocumentPage { documents, next } = page;
        let mut piece = if after.is_none() { "{\"rows\":[".to_owned() } else { String::new() };
        self.total += documents.len();
        for document in documents {
            if document.id < self.from {
                self.offset += 1;
            } else if self.skip > 0 {
                self.skip -= 1;
                self.offset += 1;
            } else if self.written < self.limit {
                if self.written > 0 {
                    piece.push(',');
                }
                self.written += 1;
                piece.push_str(&self.rows.row(document).to_string());
            }
        }
        if next.is_none() {
            self.ended = true;
            piece.push_str(&format!("],\"offset\":{},\"total_rows\":{}}}", self.offset, self.total));
        }
        self.after = next;
        Ok(piece)
    }
}

/// `GET /data/:type/_all_docs`. Design documents are none of them, whatever `DesignDocs` says.
async fn all(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Failure> {
    let doctype = doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let mut listing = Listing {
        platform,
        caller,
        rows: Rows::parse(doctype, &params)?,
        from: start_key(&params).unwrap_or_default(),
        skip: params.number("skip")?.unwrap_or_default(),
        limit: params.number("limit")?.unwrap_or(usize::MAX),
        after: None,
        offset: 0,
        written: 0,
        total: 0,
        ended: false,
    };
    // What can be refused is refused before anything is answered.
    let first = listing.piece()?;
    let headers = [(CONTENT_TYPE, "application/json")];
    if listing.ended {
        return Ok((headers, first).into_response());
    }
    let rest = stream::try_unfold((Some(first), listing), async |(first, mut listing)| {
        let piece = match first {
            Some(first) => first,
            None if listing.ended => return Ok(None),
            None => listing.piece().map_err(|failure| std::io::Error::other(failure.told().to_owned()))?,
        };
        Ok::<_, std::io::Error>(Some((piece, (None, listing))))
    });
    Ok((headers, Body::from_stream(rest)).into_response())
}

/// `startkey` is JSON, therefore a text in quotes; without them it is taken as it stands.
fn start_key(params: &Params) -> Option<String> {
    let text = params.filled("startkey").or_else(|| params.filled("start_key"))?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

/// `POST /data/:type/_all_docs` with `keys`: the documents with these ids, in the order of these. Without, it is
/// as GET, which is how Cozy's oldest client asks for all of them.
async fn of_keys(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Response, Failure> {
    if !body.contains_key("keys") {
        return all(State(platform), caller, Path(name), params).await;
    }
    let doctype = doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let keys = body.get("keys").and_then(Value::as_array).filter(|keys| keys.len() <= MOST_KEYS);
    let keys =
        keys.ok_or_else(|| Failure::bad_request(format!("keys: expected is a list of at most {MOST_KEYS} ids")))?;
    let look = Rows::parse(doctype, &params)?;
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let id = key.as_str().unwrap_or_default();
        rows.push(match platform.read_listed(&caller.instance, &caller.principal, &look.doctype, id)? {
            Some(document) => look.row(document),
            None => json!({ "key": key, "error": "not_found" }),
        });
    }
    Ok(Json(json!({ "total_rows": rows.len(), "offset": 0, "rows": rows })).into_response())
}
