//! `POST /konnectors/:slug/logs`: adds log lines of a konnector that runs in a client to the server's log (Cozy API,
//! konnectors, §2.10).

use axum::body::Bytes;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::APP_LOGS;
use serde::Deserialize;

use crate::decode;
use crate::error::ApiError;
use crate::extract::{Caller, Params};

#[derive(Debug, Deserialize)]
struct Line {
    timestamp: DateTime<Utc>,
    level: String,
    msg: String,
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// Writes all lines to the log, or none of them.
pub async fn write(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let slug = check_author(&caller, slug)?;
    let lines = serde_json::from_slice(&body)
        .map_err(|error| format!("the body {}", decode::reason(&error)))
        .and_then(|body| decode::from_value::<Vec<Line>>(body).map_err(|error| error.message("the body")));
    let lines = lines.map_err(|error| {
        ApiError::bad_request(format!(
            "{error}; send a list of lines such as {{\"timestamp\": …, \"level\": \"info\", \"msg\": …}}"
        ))
    })?;
    let levels = lines.iter().map(|line| level(&line.level)).collect::<Result<Vec<_>, _>>()?;
    let domain = caller.instance.domain.as_str();
    let konnector = slug.parse().ok().and_then(|slug| platform.konnectors().get(&caller.instance, &slug).ok());
    let runs_in_client =
        konnector.is_some_and(|konnector| konnector.manifest_fields.get("clientSide") == Some(&true.into()));
    let worker = runs_in_client.then_some("client");
    let (job, version) = (params.get("job_id"), params.get("version"));
    for (Line { timestamp, msg, .. }, level) in lines.iter().zip(levels) {
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(domain, slug, job, version, worker_id = worker, at = %timestamp.to_rfc3339(), "{msg}")
            };
        }
        match level {
            Level::Debug => log!(debug),
            Level::Info => log!(info),
            Level::Warning => log!(warn),
            Level::Error => log!(error),
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the slug of the konnector that wrote the lines. The owner's app may write for every konnector, a konnector
/// only for itself, regardless of the path.
fn check_author(caller: &Caller, slug: String) -> Result<String, ApiError> {
    match caller.principal.konnector() {
        Some(token_slug) => {
            caller.check_type(Verb::Post, &APP_LOGS)?;
            Ok(token_slug.to_owned())
        }
        None if caller.principal.permissions.is_everything() => Ok(slug),
        None => Err(ApiError::forbidden(
            "only the konnector itself, or a token with all permissions, may write the log of a konnector",
        )),
    }
}

fn level(name: &str) -> Result<Level, ApiError> {
    match name {
        "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warning" => Ok(Level::Warning),
        "error" => Ok(Level::Error),
        other => Err(ApiError::attribute(
            "level",
            format!("'{other}' is not a valid level: expected debug, info, warning or error"),
        )),
    }
}
