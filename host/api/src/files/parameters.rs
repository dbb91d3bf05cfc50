//! Parameters and headers of requests that describe a file.

use chrono::{DateTime, Utc};
use http::header::{DATE, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use konnector_platform::Platform;
use konnector_platform::file::{NewContent, NewDirectory, unique_tags, upload_provenance};
use konnector_store::{Map, Rev};
use serde_json::json;

use crate::error::ApiError;
use crate::extract::{Caller, Params};

/// Parses the revision that the client expects, from `If-Match` or the parameter `rev`. An empty one counts as absent,
/// because Cozy's clients send it if they know no revision.
pub fn if_match(headers: &HeaderMap, params: &Params) -> Result<Option<Rev>, ApiError> {
    let header = headers.get(IF_MATCH).map(|rev| rev.to_str().unwrap_or("?").trim().trim_matches('"'));
    let Some(rev) = header.filter(|rev| !rev.is_empty()).or(params.get_non_empty("rev")).filter(|rev| *rev != "*")
    else {
        return Ok(None);
    };
    let invalid_rev = || ApiError::precondition("If-Match", format!("If-Match: '{rev}' is not a valid revision"));
    rev.parse().map(Some).map_err(|_| invalid_rev())
}

/// Parses a media type (RFC 9110 §8.3.1); `None` if the header is absent.
pub fn media_type(header: Option<&HeaderValue>) -> Result<Option<String>, ApiError> {
    let Some(header) = header else { return Ok(None) };
    let text = header.to_str().unwrap_or_default().trim();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+%'*`|~".contains(&byte))
    };
    match essence.split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(Some(text.to_ascii_lowercase())),
        _ => Err(ApiError::parameter(
            "mime",
            "Content-Type: the value is not a valid media type; send one such as application/pdf",
        )),
    }
}

/// Parses the metadata of an upload from its parameters and headers. The media type is detected later.
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

/// Parses the metadata of a new directory from parameters and headers.
pub fn new_directory(
    caller: &Caller,
    params: &Params,
    headers: &HeaderMap,
    name: &str,
) -> Result<NewDirectory, ApiError> {
    let updated_at = date(params, "UpdatedAt", Some(headers))?;
    // A directory has no content that could be younger, so the header gives both dates (cozy-stack, creation of
    // directories).
    let created_at = date(params, "CreatedAt", Some(headers))?;
    let mut origin = origin(caller, params);
    origin.shift_remove("uploadedBy");
    let tags = unique_tags(&params.list("Tags"))?;
    Ok(NewDirectory { name: name.to_owned(), tags, created_at, updated_at, provenance: origin })
}

/// Returns the metadata of an earlier request (`MetadataID`), or of this request (`Metadata`, an older
/// alternative).
fn metadata(platform: &Platform, caller: &Caller, params: &Params) -> Result<Map, ApiError> {
    let Some(id) = params.get_non_empty("MetadataID") else {
        return Ok(params.object("Metadata")?.unwrap_or_default());
    };
    let not_found = || {
        ApiError::parameter("MetadataID", format!("MetadataID: '{id}' does not exist; metadata expires after a day"))
    };
    platform.files().upload_metadata(&caller.instance, id)?.ok_or_else(not_found)
}

/// Parses a date; the parameter takes precedence over the header `Date`.
fn date(params: &Params, name: &'static str, headers: Option<&HeaderMap>) -> Result<Option<DateTime<Utc>>, ApiError> {
    if let Some(text) = params.get_non_empty(name) {
        let parsed = DateTime::parse_from_rfc3339(text).map(|date| date.with_timezone(&Utc));
        return parsed.map(Some).map_err(|_| {
            ApiError::parameter(
                name,
                format!("{name}: '{text}' is not a valid date; expected a format such as 2026-11-21T08:00:00Z"),
            )
        });
    }
    let header = headers.and_then(|headers| headers.get(DATE)).and_then(|date| date.to_str().ok());
    Ok(header.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc)))
}

/// Returns the provenance of an upload: the sender and its account.
fn origin(caller: &Caller, params: &Params) -> Map {
    let mut origin = upload_provenance(&caller.principal.claims.sub);
    for (parameter, field) in
        [("SourceAccount", "sourceAccount"), ("SourceAccountIdentifier", "sourceAccountIdentifier")]
    {
        if let Some(value) = params.get_non_empty(parameter) {
            origin.insert(field.to_owned(), json!(value));
        }
    }
    origin
}
