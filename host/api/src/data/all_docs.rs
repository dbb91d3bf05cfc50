//! `_all_docs`: the documents of a type as `CouchDB` lists them. Without a limit these are all, so the answer is written while they are read.

use std::cmp::Ordering;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::transform::TransformOperation;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::document::DocumentPage;
use konnector_query::{Direction, Projection, QueryError, field_path};
use konnector_store::Document;
use serde_json::{Value, json};

use super::{parse_doctype, to_json};
use crate::error::ApiError;
use crate::extract::{Caller, JsonObject, Params};
use crate::offload::client_threads;
use crate::openapi::{Describe as _, SchemaKind};

/// Documents that are read at once.
const SCAN_BATCH_SIZE: usize = 256;
/// Bytes of a piece of an answer, about: one document goes over it.
const CHUNK_SIZE: usize = 256 << 10;
/// Ids in one request, at most.
const MAX_KEYS: usize = 10_000;

/// Parameters of `CouchDB` that would change the answer and that this server does not support. `false` asks for nothing. All others that are
/// not known are left alone, as at `CouchDB`: clients send what its views know (`stable`, `update`, …).
const UNSUPPORTED: [&str; 5] = ["update_seq", "reduce", "group", "group_level", "queries"];

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(all_docs, |op| {
        asked(op.summary("The documents of a type as CouchDB lists them"))
            .query(
                "keys",
                SchemaKind::String,
                "A JSON array of at most 10,000 ids: the documents with these, in their order",
            )
            .query(
                "Fields",
                SchemaKind::String,
                "The members of the documents that are wanted, with commas between them",
            )
            .success::<200, Json<Value>>("The documents, and how many there are in all")
    })
    .post_with(docs_by_keys, |op| {
        asked(op.summary("The documents of a type with some ids, or all"))
            .query(
                "Fields",
                SchemaKind::String,
                "The members of the documents that are wanted, with commas between them",
            )
            .field("keys", SchemaKind::Strings, "The ids, at most 10,000")
            .success::<200, Json<Value>>("The documents in the order of the ids")
    });
    ApiRouter::new().api_route("/data/{doctype}/_all_docs", all)
}

/// The parameters of both methods.
fn asked(op: TransformOperation<'_>) -> TransformOperation<'_> {
    let parameters = [
        ("limit", SchemaKind::Number, "How many; all of them unless told"),
        ("skip", SchemaKind::Number, "Documents to leave out"),
        ("descending", SchemaKind::Boolean, "From the last id to the first"),
        ("startkey", SchemaKind::String, "The id to begin with, as JSON"),
        ("endkey", SchemaKind::String, "The id to end with, as JSON"),
        (
            "inclusive_end",
            SchemaKind::Boolean,
            "Whether the document with the id endkey is one of them; yes unless told",
        ),
        ("key", SchemaKind::String, "The id of the only document that is wanted, as JSON"),
        ("include_docs", SchemaKind::Boolean, "Whether the documents are there, too"),
    ];
    parameters.into_iter().fold(op, |op, (name, kind, what)| op.query(name, kind, what))
}

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::document(StatusCode::BAD_REQUEST, "query_parse_error", message)
}

/// Parses a flag as `CouchDB` does: any value except true and false is rejected.
fn flag(params: &Params, name: &'static str, absent: bool) -> Result<bool, ApiError> {
    match params.get_non_empty(name) {
        None => Ok(absent),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(value) => Err(malformed(format!("the parameter {name} is true or false, not '{value}'"))),
    }
}

/// A key is JSON and therefore a string in quotes; a value without quotes is taken literally.
fn key(params: &Params, names: &[&str]) -> Option<String> {
    let text = names.iter().find_map(|name| params.get_non_empty(name))?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

/// The requested documents, and their order.
struct Query {
    rows: RowFormat,
    range: Range,
    direction: Direction,
    skip: usize,
    limit: usize,
}

impl Query {
    fn parse(doctype: Doctype, params: &Params) -> Result<Self, ApiError> {
        let refused =
            UNSUPPORTED.into_iter().find(|name| params.get_non_empty(name).is_some_and(|value| value != "false"));
        if let Some(name) = refused {
            return Err(malformed(format!("{name}: this server does not support this parameter; leave it out")));
        }
        let descending = flag(params, "descending", false)?;
        let (from, to) = match key(params, &["key"]) {
            Some(key) => (Some(key.clone()), Some(key)),
            None => (key(params, &["startkey", "start_key"]), key(params, &["endkey", "end_key"])),
        };
        let inclusive_end = params.get_non_empty("key").is_some() || flag(params, "inclusive_end", true)?;
        let direction = if descending { Direction::Backward } else { Direction::Forward };
        Ok(Self {
            rows: RowFormat::parse(doctype, params)?,
            range: Range { from, to, inclusive_end, direction },
            direction,
            skip: params.number("skip")?.unwrap_or_default(),
            limit: params.number("limit")?.unwrap_or(usize::MAX),
        })
    }
}

/// The range of listed ids.
struct Range {
    from: Option<String>,
    to: Option<String>,
    inclusive_end: bool,
    direction: Direction,
}

impl Range {
    fn compare(&self, id: &str, other: &str) -> Ordering {
        match self.direction {
            Direction::Forward => id.cmp(other),
            Direction::Backward => other.cmp(id),
        }
    }

    /// Whether an id comes before the range, in the order of the list.
    fn begins_after(&self, id: &str) -> bool {
        self.from.as_deref().is_some_and(|from| self.compare(id, from).is_lt())
    }

    /// Whether an id comes after the range.
    fn ends_before(&self, id: &str) -> bool {
        self.to.as_deref().is_some_and(|to| match self.compare(id, to) {
            Ordering::Less => false,
            Ordering::Equal => !self.inclusive_end,
            Ordering::Greater => true,
        })
    }
}

/// Format of the rows.
struct RowFormat {
    doctype: Doctype,
    documents: bool,
    fields: Projection,
}

impl RowFormat {
    /// `Fields` lists the requested fields, and implies that the documents are requested.
    fn parse(doctype: Doctype, params: &Params) -> Result<Self, ApiError> {
        let fields = params.list("Fields");
        let fields = fields.iter().map(|field| field_path(field)).collect::<Result<Vec<_>, QueryError>>();
        let fields = Projection::new(&fields.map_err(konnector_platform::Error::from)?);
        let documents = flag(params, "include_docs", false)? || !fields.is_everything();
        Ok(Self { doctype, documents, fields })
    }

    fn row(&self, document: Document) -> Value {
        let mut row = json!({ "id": document.id, "key": document.id, "value": { "rev": document.rev } });
        if let Some(members) = row.as_object_mut().filter(|_| self.documents) {
            let wanted = self.fields.apply(to_json(&self.doctype, document));
            members.insert("doc".to_owned(), Value::Object(wanted));
        }
        row
    }
}

/// A response in progress.
struct AllDocsStream {
    platform: Platform,
    caller: Caller,
    query: Query,
    /// The document that was read last.
    last: Option<String>,
    /// How many documents came before the first row.
    offset: usize,
    written: usize,
    total: usize,
    ended: bool,
}

impl AllDocsStream {
    /// The next chunk of the response. All documents are visited, because the response contains their number.
    fn next_chunk(&mut self) -> Result<String, ApiError> {
        let Caller { instance, principal } = &self.caller;
        let Query { rows, range, direction, skip, limit } = &mut self.query;
        let last = self.last.as_deref();
        let page = match direction {
            Direction::Forward => {
                self.platform.list_documents(instance, principal, &rows.doctype, last, SCAN_BATCH_SIZE)?
            }
            Direction::Backward => {
                self.platform.list_documents_back(instance, principal, &rows.doctype, last, SCAN_BATCH_SIZE)?
            }
        };
        let DocumentPage { documents, next } = page;
        let mut piece = if last.is_none() { "{\"rows\":[".to_owned() } else { String::new() };
        self.total += documents.len();
        for document in documents {
            if range.ends_before(&document.id) {
                continue;
            }
            if range.begins_after(&document.id) {
                self.offset += 1;
            } else if *skip > 0 {
                *skip -= 1;
                self.offset += 1;
            } else if self.written < *limit {
                if self.written > 0 {
                    piece.push(',');
                }
                self.written += 1;
                piece.push_str(&rows.row(document).to_string());
            }
        }
        if next.is_none() {
            self.ended = true;
            piece.push_str(&format!("],\"offset\":{},\"total_rows\":{}}}", self.offset, self.total));
        }
        self.last = next;
        Ok(piece)
    }
}

/// `GET /data/:type/_all_docs`. It never contains design documents, whatever `DesignDocs` says.
async fn all_docs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let keys = params.get_non_empty("keys").map(serde_json::from_str::<Value>).transpose();
    let keys = keys.map_err(|_| no_keys())?;
    answer(platform, caller, doctype, &params, keys)
}

/// `POST /data/:type/_all_docs` with `keys`: the documents with these ids, in the order of these. Without `keys` it
/// behaves like GET, which is how Cozy's oldest client requests all of them. The body may contain the other
/// parameters, too; those of the query string take precedence.
async fn docs_by_keys(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    let doctype = parse_doctype(&name)?;
    caller.check_type(Verb::Get, &doctype)?;
    let keys = body.shift_remove("keys");
    let others = body.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, value.to_string()));
    answer(platform, caller, doctype, &params.and(others), keys)
}

fn no_keys() -> ApiError {
    malformed("keys: expected is a list of ids, as in [\"one\", \"two\"]")
}

fn answer(
    platform: Platform,
    caller: Caller,
    doctype: Doctype,
    params: &Params,
    keys: Option<Value>,
) -> Result<Response, ApiError> {
    let query = Query::parse(doctype, params)?;
    let headers = [(CONTENT_TYPE, "application/json")];
    let Some(keys) = keys else {
        let mut listing =
            AllDocsStream { platform, caller, query, last: None, offset: 0, written: 0, total: 0, ended: false };
        // Errors must be found before the response begins.
        let first = listing.next_chunk()?;
        if listing.ended {
            return Ok((headers, first).into_response());
        }
        let next = |listing: &mut AllDocsStream| if listing.ended { Ok(None) } else { listing.next_chunk().map(Some) };
        return Ok((headers, stream_chunks(first, listing, next)).into_response());
    };
    let mut named = KeyedDocsStream::parse(platform, caller, query, keys)?;
    // Errors must be found before the response begins.
    let first = named.next_chunk()?.unwrap_or_default();
    Ok((headers, stream_chunks(first, named, KeyedDocsStream::next_chunk)).into_response())
}

/// A body that is produced chunk by chunk, on threads for such work.
fn stream_chunks<T: Send + 'static>(
    first: String,
    rest: T,
    next: impl Fn(&mut T) -> Result<Option<String>, ApiError> + Clone + Send + 'static,
) -> Body {
    let rest = stream::try_unfold((Some(first), rest), move |(first, mut rest)| {
        let next = next.clone();
        async move {
            if let Some(first) = first {
                return Ok::<_, std::io::Error>(Some((first, (None, rest))));
            }
            let work = move || Ok((next(&mut rest), rest));
            let (piece, rest) = client_threads().run(work).await.map_err(std::io::Error::other)?;
            let piece = piece.map_err(|failure| std::io::Error::other(failure.client_message().to_owned()))?;
            Ok(piece.map(|piece| (piece, (None, rest))))
        }
    });
    Body::from_stream(rest)
}

/// A response in progress about given ids.
struct KeyedDocsStream {
    platform: Platform,
    caller: Caller,
    rows: RowFormat,
    keys: std::vec::IntoIter<Value>,
    /// How many keys were asked for.
    total: usize,
    begun: bool,
}

impl KeyedDocsStream {
    fn parse(platform: Platform, caller: Caller, query: Query, keys: Value) -> Result<Self, ApiError> {
        let Query { rows, range, direction, skip, limit } = query;
        let Value::Array(mut keys) = keys else { return Err(no_keys()) };
        let total = keys.len();
        if total > MAX_KEYS {
            return Err(malformed(format!("keys: {total} ids; one request takes at most {MAX_KEYS}, send several")));
        }
        if range.from.is_some() || range.to.is_some() {
            return Err(malformed("keys: give either these, or key, or startkey and endkey"));
        }
        if direction == Direction::Backward {
            keys.reverse();
        }
        let keys: Vec<Value> = keys.into_iter().skip(skip).take(limit).collect();
        Ok(Self { platform, caller, rows, keys: keys.into_iter(), total, begun: false })
    }

    /// The next chunk of the response; `None` at its end.
    fn next_chunk(&mut self) -> Result<Option<String>, ApiError> {
        let mut piece = String::new();
        if !self.begun {
            piece = format!("{{\"total_rows\":{},\"offset\":0,\"rows\":[", self.total);
        } else if self.keys.as_slice().is_empty() {
            return Ok(None);
        }
        while piece.len() < CHUNK_SIZE {
            let Some(key) = self.keys.next() else { break };
            if std::mem::replace(&mut self.begun, true) {
                piece.push(',');
            }
            let Caller { instance, principal } = &self.caller;
            let found = self.platform.read_document_without_secrets(
                instance,
                principal,
                &self.rows.doctype,
                key.as_str().unwrap_or_default(),
            );
            let row = match found? {
                Some(document) => self.rows.row(document),
                None => json!({ "key": key, "error": "not_found" }),
            };
            piece.push_str(&row.to_string());
        }
        self.begun = true;
        if self.keys.as_slice().is_empty() {
            piece.push_str("]}");
        }
        Ok(Some(piece))
    }
}
