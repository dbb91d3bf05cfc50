//! What requests say about a file.

use chrono::{DateTime, Utc};
use http::header::{DATE, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use konnector_platform::Platform;
use konnector_platform::file::{NewContent, NewDirectory, unique_tags, upload_provenance};
use konnector_store::{Map, Rev};
use serde_json::json;

use crate::error::ApiError;
use crate::extract::{Caller, Params};

/// The revision that a client saw and wants to change, from `If-Match` or the parameter `rev`; an empty one counts as
/// absent, which is how Cozy's clients state that they saw none.
pub fn if_match(headers: &HeaderMap, params: &Params) -> Result<Option<Rev>, ApiError> {
    let header = headers.get(IF_MATCH).map(|rev| rev.to_str().unwrap_or("?").trim().trim_matches('"'));
    let Some(rev) = header.filter(|rev| !rev.is_empty()).or(params.get_non_empty("rev")).filter(|rev| *rev != "*")
    else {
        return Ok(None);
    };
    let unknown = || ApiError::precondition("If-Match", format!("'{rev}' is no revision that the file has or had"));
    rev.parse().map(Some).map_err(|_| unknown())
}

/// A media type (RFC 9110 §8.3.1); `None` if none is given.
pub fn media_type(given: Option<&HeaderValue>) -> Result<Option<String>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let text = given.to_str().unwrap_or_default().trim();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+%'*`|~".contains(&byte))
    };
    match essence.split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(Some(text.to_ascii_lowercase())),
        _ => Err(ApiError::parameter("mime", "the header Content-Type is no media type such as application/pdf")),
    }
}

/// Metadata of an upload from its parameters and headers. The media type is detected later.
pub fn new_content(
    platform: &Platform,
    caller: &Caller,
    params: &Params,
    headers: &HeaderMap,
    (dir_id, name): (String, String),
) -> Result<NewContent, ApiError> {
    let tags = params.get("Tags").map(|_| unique_tags(&params.list("Tags"))).transpose()?;
    let executable = params.get("Executable").map(|_| params.flag("Executable", false));
    Ok(NewContent {
        created_at: date(params, "CreatedAt", None)?,
        updated_at: date(params, "UpdatedAt", Some(headers))?,
        tags,
        executable,
        encrypted: params.flag("Encrypted", false),
        metadata: metadata(platform, caller, params)?,
        provenance: origin(caller, params),
        ..NewContent::with_new_id(dir_id, name, String::new())
    })
}

/// Metadata of a new directory from parameters and headers.
pub fn new_directory(
    caller: &Caller,
    params: &Params,
    headers: &HeaderMap,
    name: &str,
) -> Result<NewDirectory, ApiError> {
    let updated_at = date(params, "UpdatedAt", Some(headers))?;
    // A directory has no content that could be younger: the header gives both dates (cozy-stack, creation of
    // directories).
    let created_at = date(params, "CreatedAt", Some(headers))?;
    let mut origin = origin(caller, params);
    origin.shift_remove("uploadedBy");
    let tags = unique_tags(&params.list("Tags"))?;
    Ok(NewDirectory { name: name.to_owned(), tags, created_at, updated_at, provenance: origin })
}

/// The metadata of an earlier request, or of this request (an older way).
fn metadata(platform: &Platform, caller: &Caller, params: &Params) -> Result<Map, ApiError> {
    let Some(id) = params.get_non_empty("MetadataID") else {
        return Ok(params.object("Metadata")?.unwrap_or_default());
    };
    let unknown = || ApiError::parameter("MetadataID", format!("there is no metadata '{id}'; it is kept for a day"));
    platform.upload_metadata(&caller.instance, id)?.ok_or_else(unknown)
}

/// When the content was last changed: the parameter takes precedence over the header.
fn date(params: &Params, name: &'static str, headers: Option<&HeaderMap>) -> Result<Option<DateTime<Utc>>, ApiError> {
    if let Some(text) = params.get_non_empty(name) {
        let parsed = DateTime::parse_from_rfc3339(text).map(|date| date.with_timezone(&Utc));
        return parsed.map(Some).map_err(|_| {
            ApiError::parameter(name, format!("'{text}' is no date; write it like 2026-11-21T08:00:00Z"))
        });
    }
    let header = headers.and_then(|headers| headers.get(DATE)).and_then(|date| date.to_str().ok());
    Ok(header.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc)))
}

/// The sender, and the account that it works for.
fn origin(caller: &Caller, params: &Params) -> Map {
    let mut origin = upload_provenance(&caller.principal.claims.sub);
    for (parameter, member) in
        [("SourceAccount", "sourceAccount"), ("SourceAccountIdentifier", "sourceAccountIdentifier")]
    {
        if let Some(value) = params.get_non_empty(parameter) {
            origin.insert(member.to_owned(), json!(value));
        }
    }
    origin
}
