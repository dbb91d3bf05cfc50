//! The attributes of a trigger that a client sends.

use std::str::FromStr;

use konnector_platform::job::JobOptions;
use konnector_platform::trigger::{GoDuration, MAX_MISSED_JOBS, NewTrigger, TriggerPatch, TriggerPolicy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::decode;
use crate::error::ApiError;
use crate::extract::Attributes;

/// Parses the attributes of a new trigger.
pub fn new_trigger(body: &mut Attributes, created_by: &str) -> Result<NewTrigger, ApiError> {
    let common = parse_patch(body)?;
    Ok(NewTrigger {
        kind: body.take_string("type")?.unwrap_or_default(),
        arguments: body.take_string("arguments")?.unwrap_or_default(),
        worker: body.take_string("worker")?.unwrap_or_default(),
        message: body.take("message").or_else(|| body.take("worker_arguments")).unwrap_or_default(),
        options: body.take("options").map(options).transpose()?,
        debounce: common.debounce,
        time_zone: common.time_zone,
        policy: TriggerPolicy {
            missed_policy: common.missed_policy.unwrap_or_default(),
            missed_limit: common.missed_limit,
            catch_up_window: common.catch_up_window,
            overlap_policy: common.overlap_policy.unwrap_or_default(),
        },
        created_by: created_by.to_owned(),
        created_by_konnector: None,
    })
}

/// Parses the changes to a trigger.
pub fn patch(body: &mut Attributes) -> Result<TriggerPatch, ApiError> {
    Ok(TriggerPatch { message: body.take("message"), arguments: body.take_string("arguments")?, ..parse_patch(body)? })
}

/// Parses the attributes that can be both set and changed, including those that are not part of Cozy's API.
fn parse_patch(body: &mut Attributes) -> Result<TriggerPatch, ApiError> {
    let limit =
        body.take("missed_limit").map(|value| match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
            Some(limit) if (1..=MAX_MISSED_JOBS).contains(&limit) => Ok(limit),
            _ => Err(ApiError::attribute(
                "missed_limit",
                format!("missed_limit: the value is not valid; expected a number from 1 to {MAX_MISSED_JOBS}"),
            )),
        });
    Ok(TriggerPatch {
        message: None,
        arguments: None,
        debounce: duration(body, "debounce")?,
        time_zone: take_parsed(body, "time_zone", |name| {
            format!("the time zone '{name}' is unknown; use an IANA name, for example Europe/Paris")
        })?,
        missed_policy: take_enum(
            body,
            "missed_policy",
            "missed_policy: the value is not valid; expected skip, coalesce or all",
        )?,
        missed_limit: limit.transpose()?,
        catch_up_window: duration(body, "catch_up_window")?,
        overlap_policy: take_enum(
            body,
            "overlap_policy",
            "overlap_policy: the value is not valid; expected skip or queue-one",
        )?,
        by_konnector: None,
    })
}

/// Parses a duration; an empty string counts as absent.
fn duration(body: &mut Attributes, name: &'static str) -> Result<Option<GoDuration>, ApiError> {
    let text = body.take_string(name)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|error| ApiError::attribute(name, format!("{name}: {error}")))).transpose()
}

fn take_parsed<T: FromStr>(
    body: &mut Attributes,
    name: &'static str,
    error_message: impl Fn(&str) -> String,
) -> Result<Option<T>, ApiError> {
    let text = body.take_string(name)?;
    text.map(|text| text.parse().map_err(|_| ApiError::attribute(name, error_message(&text)))).transpose()
}

fn take_enum<T: DeserializeOwned>(
    body: &mut Attributes,
    name: &'static str,
    hint: &'static str,
) -> Result<Option<T>, ApiError> {
    body.take(name).map(|value| serde_json::from_value(value).map_err(|_| ApiError::attribute(name, hint))).transpose()
}

/// Parses the limits of a trigger's jobs; the timeout is in nanoseconds here, unlike that of a pushed job (cozy-stack).
fn options(options: Value) -> Result<JobOptions, ApiError> {
    decode::from_value(options).map_err(|error| {
        let hint = "set max_exec_count and timeout (in nanoseconds) to whole numbers";
        ApiError::attribute("options", format!("{}; {hint}", error.message("options")))
    })
}
