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
use konnector_query::{Projection, QueryError, field_path};
use konnector_store::Document;
use serde_json::{Value, json};

use super::{doctype, shown};
use crate::compute::threads;
use crate::error::Failure;
use crate::extract::{Caller, JsonObject, Params};
use crate::openapi::{Describe as _, Kind};

/// Documents that are read at once.
const STEP: usize = 256;
/// Bytes of a piece of an answer, about: one document goes over it.
const PIECE_SIZE: usize = 256 << 10;
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
    fields: Projection,
}

impl Rows {
    /// `Fields` says which members are wanted, and that the documents are.
    fn parse(doctype: Doctype, params: &Params) -> Result<Self, Failure> {
        let fields = params.list("Fields");
        let fields = fields.iter().map(|field| field_path(field)).collect::<Result<Vec<_>, QueryError>>();
        let fields = Projection::new(&fields.map_err(konnector_platform::Error::from)?);
        let documents = params.flag("include_docs", false) || !fields.is_everything();
        Ok(Self { doctype, documents, fields })
    }

    fn row(&self, document: Document) -> Value {
        let mut row = json!({ "id": document.id, "key": document.id, "value": { "rev": document.rev } });
        if let Some(members) = row.as_object_mut().filter(|_| self.documents) {
            let wanted = self.fields.of(shown(&self.doctype, document));
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
    let next = |listing: &mut Listing| if listing.ended { Ok(None) } else { listing.piece().map(Some) };
    Ok((headers, pieces(first, listing, next)).into_response())
}

/// A body that is written piece by piece, on threads for such work.
fn pieces<T: Send + 'static>(
    first: String,
    rest: T,
    next: impl Fn(&mut T) -> Result<Option<String>, Failure> + Clone + Send + 'static,
) -> Body {
    let rest = stream::try_unfold((Some(first), rest), move |(first, mut rest)| {
        let next = next.clone();
        async move {
            if let Some(first) = first {
                return Ok::<_, std::io::Error>(Some((first, (None, rest))));
            }
            let work = move || Ok((next(&mut rest), rest));
            let (piece, rest) = threads().run(work).await.map_err(std::io::Error::other)?;
            let piece = piece.map_err(|failure| std::io::Error::other(failure.told().to_owned()))?;
            Ok(piece.map(|piece| (piece, (None, rest))))
        }
    });
    Body::from_stream(rest)
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
    let mut named =
        Named { platform, caller, rows: Rows::parse(doctype, &params)?, keys: keys.clone().into_iter(), begun: false };
    // What can be refused is refused before anything is answered.
    let first = named.piece()?.unwrap_or_default();
    Ok(([(CONTENT_TYPE, "application/json")], pieces(first, named, Named::piece)).into_response())
}

/// An answer about some ids that is being written.
struct Named {
    platform: Platform,
    caller: Caller,
    rows: Rows,
    keys: std::vec::IntoIter<Value>,
    begun: bool,
}

impl Named {
    /// The next piece of the answer; nothing at its end.
    fn piece(&mut self) -> Result<Option<String>, Failure> {
        let mut piece = String::new();
        if !self.begun {
            piece = format!("{{\"total_rows\":{},\"offset\":0,\"rows\":[", self.keys.len());
        } else if self.keys.as_slice().is_empty() {
            return Ok(None);
        }
        while piece.len() < PIECE_SIZE {
            let Some(key) = self.keys.next() else { break };
            if std::mem::replace(&mut self.begun, true) {
                piece.push(',');
            }
            let Caller { instance, principal } = &self.caller;
            let found =
                self.platform.read_listed(instance, principal, &self.rows.doctype, key.as_str().unwrap_or_default());
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
