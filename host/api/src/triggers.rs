//! `/jobs/triggers`: when jobs are pushed by themselves (Cozy API: jobs, triggers).

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::TRIGGERS;
use konnector_platform::instance::Instance;
use konnector_platform::job::{JobOptions, KONNECTOR_WORKER};
use konnector_platform::trigger::{NewTrigger, Schedule, Trigger};
use serde_json::Value;

use crate::error::Failure;
use crate::extract::{Attributes, Caller, Params};
use crate::jobs;
use crate::jsonapi::{Document, Resource};

/// Jobs of a trigger that are shown, at most.
const MOST_JOBS: usize = 50;

/// The routes of this module.
pub fn routes() -> Router<Platform> {
    Router::new()
        .route("/jobs/triggers", get(list).post(create))
        .route("/jobs/triggers/", get(list).post(create))
        .route("/jobs/triggers/{id}", get(show).patch(patch).delete(delete))
        .route("/jobs/triggers/{id}/state", get(state))
        .route("/jobs/triggers/{id}/jobs", get(list_jobs))
        .route("/jobs/triggers/{id}/launch", post(launch))
}

/// How a trigger is shown.
pub fn resource(platform: &Platform, instance: &Instance, trigger: &Trigger) -> Result<Resource, Failure> {
    let at = instance.doc(&TRIGGERS, trigger.id.as_str());
    Ok(Resource::stored(platform, &at, trigger)?.link("self", format!("/jobs/triggers/{}", trigger.id)))
}

/// The same, with how it has fared.
fn resource_with_state(platform: &Platform, instance: &Instance, trigger: &Trigger) -> Result<Resource, Failure> {
    let state = serde_json::to_value(platform.trigger_state(instance, &trigger.id)?)
        .map_err(|error| Failure::server(error.to_string()))?;
    Ok(resource(platform, instance, trigger)?.attribute("current_state", state))
}

/// The trigger of a path, if the caller has a rule for it.
fn allowed(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, Failure> {
    match platform.trigger(&caller.instance, id) {
        Ok(trigger) => {
            caller.check_worker(verb, &TRIGGERS, id, &trigger.worker)?;
            Ok(trigger)
        }
        Err(missing) => {
            // Whether it exists is told only to those who may know.
            caller.check_worker(verb, &TRIGGERS, id, KONNECTOR_WORKER)?;
            Err(missing.into())
        }
    }
}

/// The same; a konnector needs no rule for its own triggers.
fn allowed_or_own(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, Failure> {
    if let Some(slug) = caller.principal.konnector()
        && let Ok(trigger) = platform.trigger(&caller.instance, id)
        && trigger.runs(slug, None)
    {
        return Ok(trigger);
    }
    allowed(platform, caller, verb, id)
}

async fn list(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
    let (workers, kinds) = (params.list("Worker"), params.list("Type"));
    if let Err(failure) = caller.check_type(Verb::Get, &TRIGGERS) {
        // A rule that is narrowed to a worker allows to list the triggers of this one worker.
        let [worker] = workers.as_slice() else { return Err(failure) };
        caller.check_worker(Verb::Get, &TRIGGERS, "", worker)?;
    }
    let mut triggers = platform.triggers(&caller.instance)?;
    triggers.retain(|trigger| {
        (workers.is_empty() || workers.contains(&trigger.worker)) && (kinds.is_empty() || kinds.contains(&trigger.kind))
    });
    let shown = triggers.iter().map(|trigger| resource_with_state(&platform, &caller.instance, trigger));
    Ok(Document::list(shown.collect::<Result<_, _>>()?))
}

async fn create(State(platform): State<Platform>, caller: Caller, mut body: Attributes) -> Result<Response, Failure> {
    let worker = body.take_text("worker")?.unwrap_or_default();
    caller.check_worker(Verb::Post, &TRIGGERS, "", &worker)?;
    if let Some(debounce) = body.take_text("debounce")?.filter(|debounce| !debounce.is_empty()) {
        // Time does not bounce, so nothing comes of it here; a wrong value is told all the same.
        Schedule::parse("@every", &debounce, platform.clock.now())
            .map_err(|_| Failure::attribute("debounce", format!("'{debounce}' is no duration, for example 1m30s")))?;
    }
    let new = NewTrigger {
        kind: body.take_text("type")?.unwrap_or_default(),
        arguments: body.take_text("arguments")?.unwrap_or_default(),
        worker,
        message: body.take("message").or_else(|| body.take("worker_arguments")).unwrap_or_default(),
        options: body.take("options").map(options).transpose()?,
        created_by: caller.principal.claims.sub.clone(),
    };
    let trigger = platform.create_trigger(&caller.instance, new).await?;
    Ok((StatusCode::CREATED, Document::one(resource(&platform, &caller.instance, &trigger)?)).into_response())
}

/// Limits of a trigger's jobs; the timeout is in nanoseconds here, unlike that of a pushed job (cozy-stack).
fn options(options: Value) -> Result<JobOptions, Failure> {
    serde_json::from_value(options).map_err(|error| {
        Failure::attribute("options", format!("max_exec_count and timeout (in nanoseconds) are numbers: {error}"))
    })
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, Failure> {
    let trigger = allowed_or_own(&platform, &caller, Verb::Get, &id)?;
    Ok(Document::one(resource_with_state(&platform, &caller.instance, &trigger)?))
}

async fn state(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, Failure> {
    allowed_or_own(&platform, &caller, Verb::Get, &id)?;
    let state = platform.trigger_state(&caller.instance, &id)?;
    let resource = Resource::new("io.cozy.triggers.state", id.as_str(), &state)?;
    Ok(Document::one(resource.link("self", format!("/jobs/triggers/{id}/state"))))
}

async fn list_jobs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, Failure> {
    allowed(&platform, &caller, Verb::Get, &id)?;
    let limit = params.number("Limit")?.filter(|limit| (1..=MOST_JOBS).contains(limit)).unwrap_or(MOST_JOBS);
    let jobs = platform.trigger_jobs(&caller.instance, &id, limit)?;
    let shown = jobs.iter().map(|job| jobs::resource(&platform, &caller.instance, job));
    Ok(Document::list(shown.collect::<Result<_, _>>()?))
}

async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Attributes,
) -> Result<Document, Failure> {
    allowed_or_own(&platform, &caller, Verb::Patch, &id)?;
    let (message, arguments) = (body.take("message"), body.take_text("arguments")?);
    let trigger = platform.patch_trigger(&caller.instance, &id, message, arguments).await?;
    Ok(Document::one(resource(&platform, &caller.instance, &trigger)?))
}

async fn launch(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Response, Failure> {
    allowed(&platform, &caller, Verb::Post, &id)?;
    let job = platform.launch_trigger(&caller.instance, &id).await?;
    Ok((StatusCode::CREATED, Document::one(jobs::resource(&platform, &caller.instance, &job)?)).into_response())
}

async fn delete(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    allowed_or_own(&platform, &caller, Verb::Delete, &id)?;
    platform.delete_trigger(&caller.instance, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
