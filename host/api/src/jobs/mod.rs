//! `/jobs`: push jobs and see what becomes of them (Cozy API: jobs).

mod events;
mod mail;

use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use konnector_manifest::{Slug, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::JOBS;
use konnector_platform::instance::Instance;
use konnector_platform::job::{CLIENT_WORKER, KONNECTOR_WORKER};
use konnector_platform::job::{Cause, Job, JobOptions, JobRequest, TriggerPayload};
use konnector_platform::rate;
use konnector_platform::token::Audience;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::decode;
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind, ServerSentEvents};

/// The error of a client's job that ended badly without one.
const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let queue = get_with(list, |op| op.summary("The jobs of a worker that wait or run")).post_with(push, |op| {
        op.summary("Pushes a job")
            .field("arguments", SchemaKind::Any, "What the worker is told")
            .field(
                "options",
                SchemaKind::Object,
                "max_exec_count, and timeout in seconds here, though the job shows it in nanoseconds",
            )
            .field("manual", SchemaKind::Boolean, "Whether a person asks for it")
            .field("forward_logs", SchemaKind::Boolean, "For the command line")
            .success::<202, Document>("The job")
            .error(409, "The job cannot be pushed at the moment")
    });
    let clean = post_with(clean, |op| op.summary("Ends what has run for more than an hour"));
    let purge = delete_with(purge, |op| {
        op.summary("Removes jobs that ended long ago")
            .query("duration", SchemaKind::String, "How long ago, as 10D, 3W or 2M; two weeks unless told")
            .query("workers", SchemaKind::String, "The workers, with commas between them; all unless told")
            .error(422, "The duration is none")
    });
    let one = get_with(show, |op| op.summary("A job")).patch_with(patch, |op| {
        op.summary("Ends a job of the worker client")
            .field("state", SchemaKind::String, "done or errored")
            .field("error", SchemaKind::String, "What went wrong")
            .error(409, "It has ended already")
    });
    let cancel = post_with(cancel, |op| {
        op.summary("Ends a job that waits or runs")
            .success::<202, Document>("The job; one that runs ends a moment later")
            .error(409, "It has ended already")
    });
    let log =
        get_with(log, |op| op.summary("The lines of a job's log, as JSON").success::<200, BinaryContent>("The lines"));
    let events = get_with(events::stream_events, |op| {
        op.summary("A job as it goes")
            .success::<200, ServerSentEvents>("Its states, progress and log, until it has ended")
    });
    ApiRouter::new()
        .api_route("/jobs/queue/{worker}", queue)
        .api_route("/jobs/clean", clean)
        .api_route("/jobs/purge", purge)
        .api_route("/jobs/{id}", one)
        .api_route("/jobs/{id}/cancel", cancel)
        .api_route("/jobs/{id}/log", log)
        .api_route("/jobs/{id}/events", events)
        .merge(mail::routes())
}

/// The resource of a job.
pub fn resource(platform: &Platform, instance: &Instance, job: &Job) -> Result<Resource, ApiError> {
    let at = instance.doc(&JOBS, job.id.as_str());
    Ok(Resource::from_document(platform, &at, job)?.link("self", format!("/jobs/{}", job.id)))
}

/// Returns the job of a path, if the caller has a rule for it.
fn authorized_job(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Job, ApiError> {
    let found = platform.job(&caller.instance, id);
    // Do not reveal existence to callers without read access.
    let worker = found.as_ref().map_or(KONNECTOR_WORKER, |job| &job.worker);
    caller.check_worker(verb, &JOBS, id, worker)?;
    Ok(found?)
}

/// Rejects konnectors. The output of a run is masked for people; a konnector that read it back would learn which of
/// its guesses are secrets.
pub fn reject_konnectors(caller: &Caller) -> Result<(), ApiError> {
    if caller.principal.claims.aud == Audience::Konnector {
        return Err(ApiError::forbidden(
            "a konnector does not read what runs say; use a token of a person or of an app",
        ));
    }
    Ok(())
}

async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Path(worker): Path<String>,
) -> Result<Document, ApiError> {
    caller.check_worker(Verb::Get, &JOBS, "", &worker)?;
    let jobs = platform.live_jobs(&caller.instance, &worker)?;
    let shown = jobs.iter().map(|job| resource(&platform, &caller.instance, job));
    Ok(Document::list(shown.collect::<Result<_, _>>()?))
}

/// Limits of a pushed job; the timeout is in seconds here, unlike that of a trigger's jobs (cozy-stack).
#[derive(Deserialize)]
struct PushOptions {
    max_exec_count: Option<u32>,
    timeout: Option<u64>,
}

impl PushOptions {
    const NANOSECONDS: u64 = 1_000_000_000;

    fn parse(options: Value) -> Result<JobOptions, ApiError> {
        let Self { max_exec_count, timeout } = decode::from_value(options).map_err(|error| {
            let hint = "max_exec_count and timeout (in seconds) are whole numbers";
            ApiError::attribute("options", format!("{}; {hint}", error.message("options")))
        })?;
        Ok(JobOptions { max_exec_count, timeout: timeout.map(|seconds| seconds.saturating_mul(Self::NANOSECONDS)) })
    }
}

async fn push(
    State(platform): State<Platform>,
    caller: Caller,
    Path(worker): Path<String>,
    mut body: Attributes,
) -> Result<Response, ApiError> {
    caller.check_worker(Verb::Post, &JOBS, "", &worker)?;
    if body.take_bool("forward_logs")? && caller.principal.claims.aud != Audience::Cli {
        return Err(ApiError::forbidden("only a token of the command line may ask for forward_logs"));
    }
    let (message, manual) = (body.take("arguments").unwrap_or_default(), body.take_bool("manual")?);
    if let Some(slug) = caller.konnector()? {
        check_own_konnector(&slug, &worker, &message)?;
        if manual {
            caller.principal.check_may_outlive_run("say that a person asks for a job")?;
        }
        platform.check_konnector_rate_limit(&caller.instance, &slug)?;
    }
    platform.check_rate_limit(&caller.instance, rate::RateKind::Job)?;
    let request = JobRequest {
        worker,
        message,
        options: body.take("options").map(PushOptions::parse).transpose()?,
        // A client that does not say "manual" pushes jobs by its own schedule.
        cause: if manual { Cause::Manual } else { Cause::Schedule },
        trigger: None,
        payload: TriggerPayload::default(),
    };
    let job = platform.push_job(&caller.instance, request).await?;
    Ok((StatusCode::ACCEPTED, Document::one(resource(&platform, &caller.instance, &job)?)).into_response())
}

/// A konnector may push only jobs that run itself.
fn check_own_konnector(slug: &Slug, worker: &str, message: &Value) -> Result<(), ApiError> {
    let named = message.get("konnector").and_then(Value::as_str);
    if worker == KONNECTOR_WORKER && named == Some(slug.as_ref()) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "a konnector cannot push jobs of anything but itself; put \"konnector\": \"{slug}\" into the arguments of a job of the worker {KONNECTOR_WORKER}"
    )))
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    let job = authorized_job(&platform, &caller, Verb::Get, &id)?;
    Ok(Document::one(resource(&platform, &caller.instance, &job)?))
}

/// Clients finish the jobs of the worker `client`, which they run themselves (Cozy API, client jobs, §5.6).
async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Attributes,
) -> Result<Document, ApiError> {
    let job = authorized_job(&platform, &caller, Verb::Patch, &id)?;
    if job.worker != CLIENT_WORKER {
        let message = format!("jobs of the worker '{}' are ended by the server, not by clients", job.worker);
        return Err(ApiError::forbidden(message));
    }
    let (state, error) = (body.take_string("state")?.unwrap_or_default(), body.take_string("error")?);
    let error = match state.as_str() {
        "done" => None,
        "errored" => Some(error.unwrap_or_else(|| UNKNOWN_ERROR.to_owned())),
        _ => return Err(ApiError::attribute("State", format!("a job ends as done or errored, not as '{state}'"))),
    };
    let job = platform.end_client_job(&caller.instance, &id, error).await?;
    Ok(Document::one(resource(&platform, &caller.instance, &job)?))
}

/// konnector's own: cancels a waiting or running job. Answers 202 with the job: a running job ends a moment later.
async fn cancel(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = authorized_job(&platform, &caller, Verb::Patch, &id)?;
    if let Some(slug) = caller.principal.konnector()
        && job.argument("konnector") != Some(slug)
    {
        caller.principal.check_may_outlive_run("cancel jobs of others")?;
    }
    let job = platform.cancel_job(&caller.instance, &id).await?;
    Ok((StatusCode::ACCEPTED, Document::one(resource(&platform, &caller.instance, &job)?)).into_response())
}

/// The response with the number of affected jobs.
fn deleted(count: usize) -> Json<Value> {
    Json(json!({ "deleted": count }))
}

/// Ends jobs that have run for more than an hour (cozy-stack).
async fn clean(State(platform): State<Platform>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Post, &JOBS)?;
    caller.principal.check_may_outlive_run("end the jobs of others")?;
    Ok(deleted(platform.clean_jobs(&caller.instance).await?))
}

/// Deletes jobs that ended long ago (cozy-stack, which keeps the oldest fifty instead of the newest).
async fn purge(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Delete, &JOBS)?;
    caller.principal.check_may_outlive_run("remove the jobs of others")?;
    let age = age(params.get_non_empty("duration").unwrap_or("2W"))?;
    let workers = params.list("workers");
    Ok(deleted(platform.purge_jobs(&caller.instance, age, &workers).await?))
}

/// Parses an age in days, weeks or months of thirty days.
fn age(text: &str) -> Result<Duration, ApiError> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let days = match unit {
        "D" => 1,
        "W" => 7,
        "M" => 30,
        _ => 0,
    };
    match number.parse::<u32>() {
        Ok(number) if days > 0 => Ok(Duration::from_secs(u64::from(number) * days * 24 * 3_600)),
        _ => Err(ApiError::parameter(
            "duration",
            format!("'{text}' is no age; write days, weeks or months as in 10D, 3W or 2M"),
        )),
    }
}

/// The stored log lines, one JSON object per line (<https://github.com/ndjson/ndjson-spec>).
async fn log(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Response, ApiError> {
    authorized_job(&platform, &caller, Verb::Get, &id)?;
    reject_konnectors(&caller)?;
    let lines = platform.job_log(&caller.instance, &id).await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}
