//! `/jobs/triggers`: triggers, which push jobs automatically (Cozy API: jobs, triggers).

mod attributes;
mod webhook;

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::cursor;
use konnector_platform::doctype::TRIGGERS;
use konnector_platform::instance::Instance;
use konnector_platform::job::{CLIENT_WORKER, KONNECTOR_WORKER};
use konnector_platform::rate;
use konnector_platform::trigger::{EventRules, Trigger, TriggerPatch, TriggerStatus};
use serde_json::json;

use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jobs;
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// Maximum number of a trigger's jobs in a response.
const MAX_JOBS: usize = 50;
/// Number of triggers that are read at once for a list, and maximum number on a page.
const PAGE_SIZE: usize = 200;
/// Name of the list of triggers for its cursors.
const CURSOR_LIST: &str = "triggers";

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let state = get_with(state, |op| op.summary("Returns the state of a trigger"));
    let jobs = get_with(list_jobs, |op| {
        op.summary("Lists the last jobs of a trigger").query(
            "Limit",
            SchemaKind::Number,
            "Maximum number of jobs; default and maximum: 50",
        )
    });
    let launch = post_with(launch, |op| {
        op.summary("Pushes a job of a trigger immediately")
            .success::<201, Document>("The pushed job")
            .error(409, "The job cannot be pushed at the moment")
    });
    ApiRouter::new()
        .api_route("/jobs/triggers", collection_routes())
        .api_route("/jobs/triggers/", collection_routes())
        .api_route("/jobs/triggers/{id}", trigger_routes())
        .api_route("/jobs/triggers/{id}/state", state)
        .api_route("/jobs/triggers/{id}/jobs", jobs)
        .api_route("/jobs/triggers/{id}/launch", launch)
}

/// Returns the routes that require no token, because the id of the trigger is secret.
pub fn webhooks() -> ApiRouter<Platform> {
    let webhook = post_with(webhook::call, |op| {
        op.summary("Calls a webhook; no token is required, because its URL is secret")
            .query("Manual", SchemaKind::Boolean, "Whether a person calls the webhook")
            .success::<204, ()>("A job has been pushed or will be pushed soon")
    });
    ApiRouter::new().api_route("/jobs/webhooks/{id}", webhook)
}

/// Returns the operations on the collection of triggers.
fn collection_routes() -> ApiMethodRouter<Platform> {
    get_with(list, |op| {
        op.summary("Lists the triggers")
            .query("Worker", SchemaKind::String, "Names of workers, separated by commas; default: all")
            .query("Type", SchemaKind::String, "Types of triggers, separated by commas; default: all")
            .query(
                "page[limit]",
                SchemaKind::Number,
                "Maximum number of triggers on a page, up to 200; default: all triggers",
            )
            .query("page[cursor]", SchemaKind::String, "Cursor from links.next of the previous page")
    })
    .post_with(create, |op| {
        schedule_fields(op.summary("Creates a trigger"))
            .field("type", SchemaKind::String, "@cron, @every, @event, …")
            .field("worker", SchemaKind::String, "Worker of its jobs")
            .field("worker_arguments", SchemaKind::Any, "Alias of message")
            .field(
                "options",
                SchemaKind::Object,
                "max_exec_count, and timeout in nanoseconds, unlike that of a pushed job",
            )
            .success::<201, Document>("The created trigger")
    })
}

/// Returns the operations on one trigger.
fn trigger_routes() -> ApiMethodRouter<Platform> {
    get_with(show, |op| op.summary("Returns a trigger with its current state"))
        .patch_with(patch, |op| schedule_fields(op.summary("Updates a trigger")))
        .delete_with(delete, |op| op.summary("Deletes a trigger").success::<204, ()>("The trigger is deleted"))
}

/// Adds the attributes that can be both set and changed.
fn schedule_fields(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.field("arguments", SchemaKind::String, "When the trigger fires, in the format of its type")
        .field("message", SchemaKind::Any, "Message for the worker")
        .field("debounce", SchemaKind::String, "How long to wait for further events, for example 5m")
        .field("time_zone", SchemaKind::String, "Time zone, an IANA name, for example Europe/Paris")
        .field("missed_policy", SchemaKind::String, "skip, coalesce or all")
        .field("missed_limit", SchemaKind::Number, "Maximum number of missed runs to catch up on")
        .field("catch_up_window", SchemaKind::String, "Maximum age of missed runs, for example 24h")
        .field("overlap_policy", SchemaKind::String, "skip or queue-one")
        .error(409, "The trigger was modified concurrently")
}

/// Creates the JSON:API resource of a trigger.
pub fn resource(platform: &Platform, instance: &Instance, trigger: &Trigger) -> Result<Resource, ApiError> {
    let doc_ref = instance.doc(&TRIGGERS, trigger.id.as_str());
    // Unlike other resources, triggers also have their id among their attributes, because Cozy's client launches a
    // konnector by this id.
    let resource = Resource::from_document(platform, &doc_ref, trigger)?
        .attribute("_id", json!(trigger.id))
        .link("self", format!("/jobs/triggers/{}", trigger.id));
    if trigger.kind == "@webhook" {
        return Ok(resource.link("webhook", webhook::address(platform, instance, trigger)));
    }
    Ok(resource)
}

/// Like [`resource`], plus `current_state`.
fn resource_with_state(platform: &Platform, caller: &Caller, trigger: &Trigger) -> Result<Resource, ApiError> {
    let state = serde_json::to_value(state_for(platform, caller, &trigger.id)?)
        .map_err(|error| ApiError::server(error.to_string()))?;
    Ok(resource(platform, &caller.instance, trigger)?.attribute("current_state", state))
}

/// Returns the state of a trigger. Konnectors do not see the message of the last failed run, nor jobs, because secrets
/// in them are masked, and a konnector would learn which of its guesses are secrets.
fn state_for(platform: &Platform, caller: &Caller, id: &str) -> Result<TriggerStatus, ApiError> {
    let mut state = platform.triggers().status(&caller.instance, id)?;
    if caller.principal.konnector().is_some() {
        state.last_error = None;
    }
    Ok(state)
}

/// Returns the trigger of a path, if the caller has a rule for it.
fn authorized_trigger(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, ApiError> {
    let found = platform.triggers().get(&caller.instance, id);
    // Do not reveal existence to callers without read access.
    let worker = found.as_ref().map_or(KONNECTOR_WORKER, |trigger| &trigger.worker);
    caller.check_worker(verb, &TRIGGERS, id, worker)?;
    Ok(found?)
}

/// Like [`authorized_trigger`], but a konnector needs no rule for its own triggers.
fn authorized_or_own_trigger(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, ApiError> {
    if let Some(slug) = caller.principal.konnector()
        && let Ok(trigger) = platform.triggers().get(&caller.instance, id)
        && trigger.runs_konnector(slug, None)
    {
        return Ok(trigger);
    }
    authorized_trigger(platform, caller, verb, id)
}

async fn list(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, ApiError> {
    let (workers, kinds) = (params.list("Worker"), params.list("Type"));
    if let Err(failure) = caller.check_type(Verb::Get, &TRIGGERS) {
        // A rule that is restricted to a worker permits listing the triggers of this one worker.
        let [worker] = workers.as_slice() else { return Err(failure) };
        caller.check_worker(Verb::Get, &TRIGGERS, "", worker)?;
    }
    let matches_filter = |trigger: &Trigger| {
        (workers.is_empty() || workers.contains(&trigger.worker)) && (kinds.is_empty() || kinds.contains(&trigger.kind))
    };
    // Cozy has no pages here; without a limit all triggers are returned.
    let limit = params.number("page[limit]")?.map(|limit| limit.clamp(1, PAGE_SIZE));
    let mut after = params.cursor("page[cursor]", CURSOR_LIST)?;
    let (mut resources, mut next) = (Vec::new(), None);
    'pages: loop {
        let page =
            platform.triggers().list_after(&caller.instance, after.as_deref(), limit.unwrap_or(PAGE_SIZE) + 1)?;
        let Some(last) = page.last() else { break };
        let last_id = last.id.clone();
        for trigger in page.iter().filter(|trigger| matches_filter(trigger)) {
            if limit.is_some_and(|limit| resources.len() == limit) {
                next = after;
                break 'pages;
            }
            resources.push(resource_with_state(&platform, &caller, trigger)?);
            after = Some(trigger.id.clone());
        }
        after = Some(last_id);
    }
    let next = next.map(|last: String| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, list) in [("Worker", &workers), ("Type", &kinds)] {
            if !list.is_empty() {
                query.append_pair(name, &list.join(","));
            }
        }
        query
            .append_pair("page[limit]", &limit.unwrap_or(PAGE_SIZE).to_string())
            .append_pair("page[cursor]", &cursor::encode(CURSOR_LIST, &last));
        format!("/jobs/triggers?{}", query.finish())
    });
    Ok(Document::list(resources).next(next))
}

async fn create(State(platform): State<Platform>, caller: Caller, mut body: Attributes) -> Result<Response, ApiError> {
    let mut new = attributes::new_trigger(&mut body, &caller.principal.claims.sub)?;
    if new.kind == "@client" {
        CLIENT_WORKER.clone_into(&mut new.worker);
    }
    caller.check_worker(Verb::Post, &TRIGGERS, "", &new.worker)?;
    if new.kind == "@event" {
        // A job contains the documents of its events, so the creator of the trigger must be allowed to read them.
        for doctype in new.arguments.parse::<EventRules>()?.doctypes() {
            caller.check_type(Verb::Get, doctype)?;
        }
    }
    new.created_by_konnector = caller.konnector()?;
    let trigger = platform.triggers().create(&caller.instance, new).await?;
    Ok((StatusCode::CREATED, Document::one(resource(&platform, &caller.instance, &trigger)?)).into_response())
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    let trigger = authorized_or_own_trigger(&platform, &caller, Verb::Get, &id)?;
    Ok(Document::one(resource_with_state(&platform, &caller, &trigger)?))
}

async fn state(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    authorized_or_own_trigger(&platform, &caller, Verb::Get, &id)?;
    let state = state_for(&platform, &caller, &id)?;
    let resource = Resource::new("io.cozy.triggers.state", id.as_str(), &state)?;
    Ok(Document::one(resource.link("self", format!("/jobs/triggers/{id}/state"))))
}

async fn list_jobs(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, ApiError> {
    authorized_trigger(&platform, &caller, Verb::Get, &id)?;
    jobs::reject_konnectors(&caller)?;
    let limit = params.number("Limit")?.filter(|limit| (1..=MAX_JOBS).contains(limit)).unwrap_or(MAX_JOBS);
    let jobs = platform.jobs().list_of_trigger(&caller.instance, &id, limit)?;
    let resources = jobs.iter().map(|job| jobs::resource(&platform, &caller.instance, job));
    Ok(Document::list(resources.collect::<Result<_, _>>()?))
}

async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Attributes,
) -> Result<Document, ApiError> {
    authorized_or_own_trigger(&platform, &caller, Verb::Patch, &id)?;
    let patch = TriggerPatch { by_konnector: caller.konnector()?, ..attributes::patch(&mut body)? };
    let trigger = platform.triggers().patch(&caller.instance, &id, patch).await?;
    Ok(Document::one(resource(&platform, &caller.instance, &trigger)?))
}

async fn launch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    authorized_trigger(&platform, &caller, Verb::Post, &id)?;
    caller.principal.check_may_outlive_run("launch a trigger")?;
    platform.rate_limits().check(&caller.instance, rate::RateKind::Job)?;
    let job = platform.triggers().launch(&caller.instance, &id).await?;
    Ok((StatusCode::CREATED, Document::one(jobs::resource(&platform, &caller.instance, &job)?)).into_response())
}

async fn delete(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let trigger = authorized_or_own_trigger(&platform, &caller, Verb::Delete, &id)?;
    if let Some(slug) = caller.principal.konnector()
        && !trigger.runs_konnector(slug, None)
    {
        caller.principal.check_may_outlive_run("delete triggers other than its own")?;
    }
    platform.triggers().delete(&caller.instance, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
