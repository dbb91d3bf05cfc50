//! The change feed of files and directories (Cozy API, files: changes feed).

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::changes::{ChangePage, ChangesQuery};
use konnector_platform::doctype::FILES;
use konnector_platform::file::File;
use konnector_query::Direction;
use konnector_store::{FeedChange, Map};
use serde_json::{Value, json};

use crate::data::changes::since;
use crate::error::ApiError;
use crate::extract::{Caller, Params};
use crate::openapi::{Describe as _, SchemaKind};

/// Maximum number of changes on a page that requires the files; otherwise the platform's limit applies.
const MAX_CHANGES_WITH_FILES: usize = 1_000;
/// Parameters of the feed. Others are rejected, like those of `/data`.
const PARAMETERS: [&str; 9] = [
    "bearer_token",
    "fields",
    "include_docs",
    "include_file_path",
    "limit",
    "seq_interval",
    "since",
    "skip_deleted",
    "skip_trashed",
];

pub fn routes() -> ApiRouter<Platform> {
    let feed = get_with(changes, |op| {
        op.summary("Lists the changes of files and directories")
            .query("since", SchemaKind::String, "The last_seq of an earlier response, now, or 0 for all changes")
            .query("limit", SchemaKind::Number, "Maximum number of changes on a page")
            .query("include_docs", SchemaKind::Boolean, "Whether to include the current files")
            .query("fields", SchemaKind::String, "Fields of the files to include, separated by commas")
            .query("include_file_path", SchemaKind::Boolean, "Whether to include the paths of the files")
            .query("skip_deleted", SchemaKind::Boolean, "Whether to omit deleted files")
            .query("skip_trashed", SchemaKind::Boolean, "Whether to omit files in the trash")
            .query("seq_interval", SchemaKind::Number, "Accepted and ignored")
    });
    ApiRouter::new().api_route("/files/_changes", feed)
}

/// Parsed parameters of the feed.
struct FeedOptions {
    documents: bool,
    fields: Vec<String>,
    paths: bool,
    skip_deleted: bool,
    skip_trashed: bool,
}

impl FeedOptions {
    fn parse(params: &Params) -> Result<Self, ApiError> {
        if let Some(unknown) = params.names().find(|name| !PARAMETERS.contains(name)) {
            let known = PARAMETERS.join(", ");
            return Err(ApiError::bad_request(format!(
                "the parameter '{unknown}' is unknown; the parameters of _changes are {known}"
            )));
        }
        params.number("seq_interval")?;
        let (fields, paths) = (params.list("fields"), params.flag("include_file_path", false));
        Ok(Self {
            documents: params.flag("include_docs", false) || paths || !fields.is_empty(),
            fields,
            paths,
            skip_deleted: params.flag("skip_deleted", false),
            skip_trashed: params.flag("skip_trashed", false),
        })
    }

    /// Returns a row of the feed; `None` if the change is omitted.
    fn row(&self, platform: &Platform, caller: &Caller, change: &FeedChange) -> Result<Option<Value>, ApiError> {
        let needs_file = !change.deleted && (self.documents || self.skip_trashed);
        let file = match needs_file.then(|| platform.files().get(&caller.instance, &change.id)) {
            None => None,
            Some(Ok(file)) => Some(file),
            // It was deleted in the meantime; a later page reports that.
            Some(Err(konnector_platform::Error::NotFound(_))) => return Ok(None),
            Some(Err(error)) => return Err(error.into()),
        };
        let skipped = (self.skip_deleted && change.deleted)
            || (self.skip_trashed && file.as_ref().is_some_and(|file| file.trashed));
        if skipped {
            return Ok(None);
        }
        let mut row = json!({ "seq": change.seq.to_string(), "id": change.id, "changes": [{ "rev": change.rev }] });
        if let Some(members) = row.as_object_mut() {
            if change.deleted {
                members.insert("deleted".to_owned(), json!(true));
            }
            if self.documents {
                members.insert("doc".to_owned(), self.document(platform, caller, change, file.as_ref())?);
            }
        }
        Ok(Some(row))
    }

    fn document(
        &self,
        platform: &Platform,
        caller: &Caller,
        change: &FeedChange,
        file: Option<&File>,
    ) -> Result<Value, ApiError> {
        let Some(file) = file else {
            return Ok(json!({ "_id": change.id, "_rev": change.rev, "_deleted": true }));
        };
        let mut members = match serde_json::to_value(file) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        if self.paths {
            members.insert("path".to_owned(), json!(platform.files().path_of(&caller.instance, file)?));
        }
        members.retain(|name, _| {
            let is_requested = self.fields.is_empty() || self.fields.contains(name) || (self.paths && name == "path");
            is_requested && !name.starts_with('_')
        });
        let mut document = Map::from_iter([("_id".to_owned(), json!(file.id)), ("_rev".to_owned(), json!(file.rev))]);
        document.extend(members);
        Ok(Value::Object(document))
    }
}

/// `GET /files/_changes`. A page may have fewer rows than requested, if some are omitted; `pending` shows whether it is
/// the last.
async fn changes(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Get, &FILES)?;
    let options = FeedOptions::parse(&params)?;
    let limit = params.number("limit")?.unwrap_or(usize::MAX).max(1);
    let limit = if options.documents || options.skip_trashed { limit.min(MAX_CHANGES_WITH_FILES) } else { limit };
    let query = ChangesQuery { since: since(&params)?, limit, direction: Direction::Forward, ids: None };
    let ChangePage { changes, last_seq: last, pending } =
        platform.documents().changes(&caller.instance, &FILES, query).await?;
    let rows = changes.iter().filter_map(|change| options.row(&platform, &caller, change).transpose());
    let results = rows.collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(Json(json!({ "last_seq": last.to_string(), "pending": pending, "results": results })))
}
