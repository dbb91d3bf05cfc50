//! What changed in the files since a client last looked (Cozy API, files: changes feed).

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

/// Changes on a page, at most, where files are looked at; without them the platform's limit holds.
const MAX_CHANGES_WITH_FILES: usize = 1_000;
/// What may be asked. Anything else is refused, as for `/data`.
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

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let feed = get_with(changes, |op| {
        op.summary("What changed in the files and directories")
            .query("since", SchemaKind::String, "The last_seq of an earlier answer, now, or 0 for all changes")
            .query("limit", SchemaKind::Number, "Changes on a page")
            .query("include_docs", SchemaKind::Boolean, "With the files as they are now")
            .query("fields", SchemaKind::String, "The members of them that are wanted, with commas between them")
            .query("include_file_path", SchemaKind::Boolean, "With the paths of files, too")
            .query("skip_deleted", SchemaKind::Boolean, "Without what was deleted")
            .query("skip_trashed", SchemaKind::Boolean, "Without what is in the trash")
            .query("seq_interval", SchemaKind::Number, "Is taken, and means nothing for this feed")
    });
    ApiRouter::new().api_route("/files/_changes", feed)
}

/// Format of the changes.
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
                "there is no parameter '{unknown}'; those of _changes are {known}"
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

    /// A row of the feed; `None` if the change is left out.
    fn row(&self, platform: &Platform, caller: &Caller, change: &FeedChange) -> Result<Option<Value>, ApiError> {
        let looks = !change.deleted && (self.documents || self.skip_trashed);
        let file = match looks.then(|| platform.file(&caller.instance, &change.id)) {
            None => None,
            Some(Ok(file)) => Some(file),
            // It was deleted since, which a later page reports.
            Some(Err(konnector_platform::Error::NotFound(_))) => return Ok(None),
            Some(Err(error)) => return Err(error.into()),
        };
        let skipped = (self.skip_deleted && change.deleted)
            || (self.skip_trashed && file.as_ref().is_some_and(|file| file.trashed));
        if skipped {
            return Ok(None);
        }
        let mut line = json!({ "seq": change.seq.to_string(), "id": change.id, "changes": [{ "rev": change.rev }] });
        if let Some(members) = line.as_object_mut() {
            if change.deleted {
                members.insert("deleted".to_owned(), json!(true));
            }
            if self.documents {
                members.insert("doc".to_owned(), self.document(platform, caller, change, file.as_ref())?);
            }
        }
        Ok(Some(line))
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
            members.insert("path".to_owned(), json!(platform.path_of(&caller.instance, file)?));
        }
        members.retain(|name, _| {
            let wanted = self.fields.is_empty() || self.fields.contains(name) || (self.paths && name == "path");
            wanted && !name.starts_with('_')
        });
        let mut document = Map::from_iter([("_id".to_owned(), json!(file.id)), ("_rev".to_owned(), json!(file.rev))]);
        document.extend(members);
        Ok(Value::Object(document))
    }
}

/// `GET /files/_changes`. A page may have fewer rows than requested, if some are left out; `pending` shows whether it
/// is the last.
async fn changes(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Get, &FILES)?;
    let shape = FeedOptions::parse(&params)?;
    let limit = params.number("limit")?.unwrap_or(usize::MAX).max(1);
    let limit = if shape.documents || shape.skip_trashed { limit.min(MAX_CHANGES_WITH_FILES) } else { limit };
    let wanted = ChangesQuery { since: since(&params)?, limit, direction: Direction::Forward, ids: None };
    let ChangePage { changes, last_seq: last, pending } = platform.changes(&caller.instance, &FILES, wanted).await?;
    let lines = changes.iter().filter_map(|change| shape.row(&platform, &caller, change).transpose());
    let results = lines.collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(Json(json!({ "last_seq": last.to_string(), "pending": pending, "results": results })))
}
