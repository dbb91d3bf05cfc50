//! `_all_docs`: lists the documents of a doctype like `CouchDB`. Without a limit the list contains all documents, so
//! the response is streamed while they are read.

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

/// Maximum number of documents that are read in one step.
const SCAN_BATCH_SIZE: usize = 256;
/// Approximate size in bytes of a chunk of the response; its last document may exceed it.
const CHUNK_SIZE: usize = 256 << 10;
/// Maximum number of ids in one request.
const MAX_KEYS: usize = 10_000;

/// Unsupported parameters of `CouchDB` that would change the response; the value `false` is accepted. Other unknown
/// parameters are ignored, as in `CouchDB`, because clients send those of its views (`stable`, `update`, …).
const UNSUPPORTED: [&str; 5] = ["update_seq", "reduce", "group", "group_level", "queries"];

pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(all_docs, |op| {
        list_parameters(op.summary("Lists the documents of a doctype, in the format of CouchDB"))
            .query(
                "keys",
                SchemaKind::String,
                "JSON array of at most 10,000 ids; lists only these documents, in the same order",
            )
            .query("Fields", SchemaKind::String, "Fields of the documents to return, separated by commas")
            .success::<200, Json<Value>>("The documents and their total number")
    })
    .post_with(docs_by_keys, |op| {
        list_parameters(op.summary("Lists the documents of a doctype with these ids, or all"))
            .query("Fields", SchemaKind::String, "Fields of the documents to return, separated by commas")
            .field("keys", SchemaKind::Strings, "Ids of the documents, at most 10,000")
            .success::<200, Json<Value>>("The documents, in the order of the ids")
    });
    ApiRouter::new().api_route("/data/{doctype}/_all_docs", all)
}

/// Describes the parameters of both methods.
fn list_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    let parameters = [
        ("limit", SchemaKind::Number, "Maximum number of documents; default: all"),
        ("skip", SchemaKind::Number, "Number of documents to skip"),
        ("descending", SchemaKind::Boolean, "Whether to sort the ids in descending order"),
        ("startkey", SchemaKind::String, "First id of the list, as JSON"),
        ("endkey", SchemaKind::String, "Last id of the list, as JSON"),
        (
            "inclusive_end",
            SchemaKind::Boolean,
            "Whether the list includes the document with the id endkey; default: true",
        ),
        ("key", SchemaKind::String, "Id of the only document to list, as JSON"),
        ("include_docs", SchemaKind::Boolean, "Whether the rows contain the documents"),
    ];
    parameters.into_iter().fold(op, |op, (name, kind, description)| op.query(name, kind, description))
}

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::document(StatusCode::BAD_REQUEST, "query_parse_error", message)
}

/// Parses a flag as `CouchDB` does: any value except true and false is rejected.
fn flag(params: &Params, name: &'static str, default: bool) -> Result<bool, ApiError> {
    match params.get_non_empty(name) {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(value) => Err(malformed(format!("the parameter {name} must be true or false, not '{value}'"))),
    }
}

/// Parses a key, which is a JSON string; a value without quotes is taken literally.
fn key(params: &Params, names: &[&str]) -> Option<String> {
    let text = names.iter().find_map(|name| params.get_non_empty(name))?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

/// Parsed parameters of the request.
struct Query {
    rows: RowFormat,
    range: Range,
    direction: Direction,
    skip: usize,
    limit: usize,
}

impl Query {
    fn parse(doctype: Doctype, params: &Params) -> Result<Self, ApiError> {
        let unsupported =
            UNSUPPORTED.into_iter().find(|name| params.get_non_empty(name).is_some_and(|value| value != "false"));
        if let Some(name) = unsupported {
            return Err(malformed(format!("{name}: this parameter is not supported; omit it")));
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

    /// Returns whether an id comes before the range, in the order of the list.
    fn begins_after(&self, id: &str) -> bool {
        self.from.as_deref().is_some_and(|from| self.compare(id, from).is_lt())
    }

    /// Returns whether an id comes after the range, in the order of the list.
    fn ends_before(&self, id: &str) -> bool {
        self.to.as_deref().is_some_and(|to| match self.compare(id, to) {
            Ordering::Less => false,
            Ordering::Equal => !self.inclusive_end,
            Ordering::Greater => true,
        })
    }
}

/// Options that decide the format of the rows.
struct RowFormat {
    doctype: Doctype,
    documents: bool,
    fields: Projection,
}

impl RowFormat {
    /// Parses the options. `Fields` lists the requested fields, and implies `include_docs`.
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
            let projected = self.fields.apply(to_json(&self.doctype, document));
            members.insert("doc".to_owned(), Value::Object(projected));
        }
        row
    }
}

/// State of a streamed response that lists a range of ids.
struct AllDocsStream {
    platform: Platform,
    caller: Caller,
    query: Query,
    /// Id of the document that was read last.
    last: Option<String>,
    /// Number of documents before the first row.
    offset: usize,
    written: usize,
    total: usize,
    ended: bool,
}

impl AllDocsStream {
    /// Returns the next chunk of the response. Visits all documents, because the response contains their number.
    fn next_chunk(&mut self) -> Result<String, ApiError> {
        let Caller { instance, principal } = &self.caller;
        let Query { rows, range, direction, skip, limit } = &mut self.query;
        let last = self.last.as_deref();
        let page = match direction {
            Direction::Forward => {
                self.platform.documents().list(instance, principal, &rows.doctype, last, SCAN_BATCH_SIZE)?
            }
            Direction::Backward => {
                self.platform.documents().list_back(instance, principal, &rows.doctype, last, SCAN_BATCH_SIZE)?
            }
        };
        let DocumentPage { documents, next } = page;
        let mut chunk = if last.is_none() { "{\"rows\":[".to_owned() } else { String::new() };
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
                    chunk.push(',');
                }
                self.written += 1;
                chunk.push_str(&rows.row(document).to_string());
            }
        }
        if next.is_none() {
            self.ended = true;
            chunk.push_str(&format!("],\"offset\":{},\"total_rows\":{}}}", self.offset, self.total));
        }
        self.last = next;
        Ok(chunk)
    }
}

/// `GET /data/:type/_all_docs`. The response never contains design documents; `DesignDocs` is ignored.
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
    respond(platform, caller, doctype, &params, keys)
}

/// `POST /data/:type/_all_docs` with `keys`: lists the documents with these ids, in the same order. Without `keys` it
/// behaves like GET, because Cozy's oldest client requests all documents this way. The body may also contain the other
/// parameters; those of the query string take precedence.
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
    respond(platform, caller, doctype, &params.and(others), keys)
}

fn no_keys() -> ApiError {
    malformed("keys: the value is not a list of ids, such as [\"one\", \"two\"]")
}

fn respond(
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
    let mut stream = KeyedDocsStream::parse(platform, caller, query, keys)?;
    // Errors must be found before the response begins.
    let first = stream.next_chunk()?.unwrap_or_default();
    Ok((headers, stream_chunks(first, stream, KeyedDocsStream::next_chunk)).into_response())
}

/// Returns a body whose chunks are produced one by one, on the threads for client work.
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
            let (chunk, rest) = client_threads().run(work).await.map_err(std::io::Error::other)?;
            let chunk = chunk.map_err(|failure| std::io::Error::other(failure.client_message().to_owned()))?;
            Ok(chunk.map(|chunk| (chunk, (None, rest))))
        }
    });
    Body::from_stream(rest)
}

/// State of a streamed response that lists given ids.
struct KeyedDocsStream {
    platform: Platform,
    caller: Caller,
    rows: RowFormat,
    keys: std::vec::IntoIter<Value>,
    /// Number of requested keys.
    total: usize,
    begun: bool,
}

impl KeyedDocsStream {
    fn parse(platform: Platform, caller: Caller, query: Query, keys: Value) -> Result<Self, ApiError> {
        let Query { rows, range, direction, skip, limit } = query;
        let Value::Array(mut keys) = keys else { return Err(no_keys()) };
        let total = keys.len();
        if total > MAX_KEYS {
            return Err(malformed(format!("keys: there are {total} ids; at most {MAX_KEYS} are allowed per request")));
        }
        if range.from.is_some() || range.to.is_some() {
            return Err(malformed(
                "keys: the list cannot be combined with key, startkey or endkey; use only one of them",
            ));
        }
        if direction == Direction::Backward {
            keys.reverse();
        }
        let keys: Vec<Value> = keys.into_iter().skip(skip).take(limit).collect();
        Ok(Self { platform, caller, rows, keys: keys.into_iter(), total, begun: false })
    }

    /// Returns the next chunk of the response; `None` at its end.
    fn next_chunk(&mut self) -> Result<Option<String>, ApiError> {
        let mut chunk = String::new();
        if !self.begun {
            chunk = format!("{{\"total_rows\":{},\"offset\":0,\"rows\":[", self.total);
        } else if self.keys.as_slice().is_empty() {
            return Ok(None);
        }
        while chunk.len() < CHUNK_SIZE {
            let Some(key) = self.keys.next() else { break };
            if std::mem::replace(&mut self.begun, true) {
                chunk.push(',');
            }
            let Caller { instance, principal } = &self.caller;
            let found = self.platform.documents().read_without_secrets(
                instance,
                principal,
                &self.rows.doctype,
                key.as_str().unwrap_or_default(),
            );
            let row = match found? {
                Some(document) => self.rows.row(document),
                None => json!({ "key": key, "error": "not_found" }),
            };
            chunk.push_str(&row.to_string());
        }
        self.begun = true;
        if self.keys.as_slice().is_empty() {
            chunk.push_str("]}");
        }
        Ok(Some(chunk))
    }
}
