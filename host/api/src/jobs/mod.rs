//! `/jobs`: pushing, reading and ending jobs (Cozy API: jobs).

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
use konnector_platform::principal::Audience;
use konnector_platform::rate;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::decode;
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind, ServerSentEvents};

/// Error of a client's job that ended as `errored` without giving an error.
const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let queue =
        get_with(list, |op| op.summary("Lists the queued and running jobs of a worker")).post_with(push, |op| {
            op.summary("Pushes a job")
                .field("arguments", SchemaKind::Any, "Arguments for the worker")
                .field(
                    "options",
                    SchemaKind::Object,
                    "max_exec_count, and timeout in seconds; the returned job has it in nanoseconds",
                )
                .field("manual", SchemaKind::Boolean, "Whether a person requested the job")
                .field("forward_logs", SchemaKind::Boolean, "Reserved for the command line")
                .success::<202, Document>("The pushed job")
                .error(409, "The job cannot be pushed at the moment")
        });
    let clean = post_with(clean, |op| op.summary("Ends jobs that have run for more than an hour"));
    let purge = delete_with(purge, |op| {
        op.summary("Deletes jobs that ended long ago")
            .query("duration", SchemaKind::String, "Minimum age, for example 10D, 3W or 2M; default: 2W")
            .query("workers", SchemaKind::String, "Names of workers, separated by commas; default: all")
            .error(422, "The duration is invalid")
    });
    let one = get_with(show, |op| op.summary("Returns a job, and what it waits for while it is queued")).patch_with(
        patch,
        |op| {
            op.summary("Ends a job of the worker client")
                .field("state", SchemaKind::String, "done or errored")
                .field("error", SchemaKind::String, "Error of the job, if its state is errored")
                .error(409, "The job has already ended")
        },
    );
    let cancel = post_with(cancel, |op| {
        op.summary("Cancels a queued or running job")
            .success::<202, Document>("The job; a running job ends shortly afterwards")
            .error(409, "The job has already ended")
    });
    let log = get_with(log, |op| {
        op.summary("Returns the log of a job, one JSON object per line").success::<200, BinaryContent>("The log lines")
    });
    let events = get_with(events::stream_events, |op| {
        op.summary("Streams the states, progress and log of a job")
            .success::<200, ServerSentEvents>("Events of the job, until it has ended")
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

/// Creates the JSON:API resource of a job.
pub fn resource(platform: &Platform, instance: &Instance, job: &Job) -> Result<Resource, ApiError> {
    let doc_ref = instance.doc(&JOBS, job.id.as_str());
    Ok(Resource::from_document(platform, &doc_ref, job)?.link("self", format!("/jobs/{}", job.id)))
}

/// Like [`resource`], with the attribute `waits_for` while the queued job waits for its time or for another job; not part of Cozy's API.
fn resource_with_wait(platform: &Platform, instance: &Instance, job: &Job) -> Result<Resource, ApiError> {
    let resource = resource(platform, instance, job)?;
    Ok(match platform.jobs().wait_reason(instance, job)? {
        Some(reason) => resource.attribute("waits_for", json!(reason)),
        None => resource,
    })
}

/// Returns the job of a path, if the caller has a rule for it.
fn authorized_job(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Job, ApiError> {
    let found = platform.jobs().get(&caller.instance, id);
    // Do not reveal existence to callers without read access.
    let worker = found.as_ref().map_or(KONNECTOR_WORKER, |job| &job.worker);
    caller.check_worker(verb, &JOBS, id, worker)?;
    Ok(found?)
}

/// Rejects konnectors. Secrets in the output of a run are masked; a konnector that read the output back would learn
/// which of its guesses are secrets.
pub fn reject_konnectors(caller: &Caller) -> Result<(), ApiError> {
    if caller.principal.claims.aud == Audience::Konnector {
        return Err(ApiError::forbidden(
            "a konnector cannot read the output of runs; use the token of a person or an app",
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
    let jobs = platform.jobs().list_live(&caller.instance, &worker)?;
    let resources = jobs.iter().map(|job| resource(&platform, &caller.instance, job));
    Ok(Document::list(resources.collect::<Result<_, _>>()?))
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
            let hint = "set max_exec_count and timeout (in seconds) to whole numbers";
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
        return Err(ApiError::forbidden("forward_logs: only a token of the command line may set it; omit it"));
    }
    let (message, manual) = (body.take("arguments").unwrap_or_default(), body.take_bool("manual")?);
    if let Some(slug) = caller.konnector()? {
        check_own_konnector(&slug, &worker, &message)?;
        if manual {
            caller.principal.check_may_outlive_run("push a job as manual")?;
        }
        platform.triggers().check_konnector_rate_limit(&caller.instance, &slug)?;
    }
    platform.rate_limits().check(&caller.instance, rate::RateKind::Job)?;
    let request = JobRequest {
        worker,
        message,
        options: body.take("options").map(PushOptions::parse).transpose()?,
        // A client that does not set `manual` pushes jobs on its own schedule.
        cause: if manual { Cause::Manual } else { Cause::Schedule },
        trigger: None,
        payload: TriggerPayload::default(),
    };
    let job = platform.jobs().push(&caller.instance, request).await?;
    Ok((StatusCode::ACCEPTED, Document::one(resource(&platform, &caller.instance, &job)?)).into_response())
}

/// Rejects a job that a konnector may not push: any job that does not run this konnector.
fn check_own_konnector(slug: &Slug, worker: &str, message: &Value) -> Result<(), ApiError> {
    let requested = message.get("konnector").and_then(Value::as_str);
    if worker == KONNECTOR_WORKER && requested == Some(slug.as_ref()) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "a konnector can only push jobs that run itself; use the worker {KONNECTOR_WORKER} with \
         \"konnector\": \"{slug}\" in the arguments"
    )))
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    let job = authorized_job(&platform, &caller, Verb::Get, &id)?;
    Ok(Document::one(resource_with_wait(&platform, &caller.instance, &job)?))
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
        _ => {
            return Err(ApiError::attribute(
                "State",
                format!("'{state}' is not a valid final state: expected done or errored"),
            ));
        }
    };
    let job = platform.jobs().end_client_job(&caller.instance, &id, error).await?;
    Ok(Document::one(resource(&platform, &caller.instance, &job)?))
}

/// Cancels a queued or running job; not part of Cozy's API. Returns 202 with the job: a running job ends shortly
/// afterwards.
async fn cancel(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = authorized_job(&platform, &caller, Verb::Patch, &id)?;
    if let Some(slug) = caller.principal.konnector()
        && job.argument("konnector") != Some(slug)
    {
        caller.principal.check_may_outlive_run("cancel jobs other than its own")?;
    }
    let job = platform.jobs().cancel(&caller.instance, &id).await?;
    Ok((StatusCode::ACCEPTED, Document::one(resource(&platform, &caller.instance, &job)?)).into_response())
}

/// Returns the number of affected jobs.
fn deleted(count: usize) -> Json<Value> {
    Json(json!({ "deleted": count }))
}

/// Ends jobs that have run for more than an hour (cozy-stack).
async fn clean(State(platform): State<Platform>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Post, &JOBS)?;
    caller.principal.check_may_outlive_run("end jobs other than its own")?;
    Ok(deleted(platform.jobs().clean(&caller.instance).await?))
}

/// Deletes jobs that ended long ago (cozy-stack, which keeps the oldest fifty instead of the newest).
async fn purge(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, ApiError> {
    caller.check_type(Verb::Delete, &JOBS)?;
    caller.principal.check_may_outlive_run("delete jobs other than its own")?;
    let age = age(params.get_non_empty("duration").unwrap_or("2W"))?;
    let workers = params.list("workers");
    Ok(deleted(platform.jobs().purge(&caller.instance, age, &workers).await?))
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
            format!("'{text}' is not a valid age: expected days, weeks or months, for example 10D, 3W or 2M"),
        )),
    }
}

/// Returns the stored log lines, one JSON object per line (<https://github.com/ndjson/ndjson-spec>).
async fn log(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Response, ApiError> {
    authorized_job(&platform, &caller, Verb::Get, &id)?;
    reject_konnectors(&caller)?;
    let lines = platform.jobs().log(&caller.instance, &id).await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}
