//! `/jobs/triggers`: when jobs are pushed by themselves (Cozy API: jobs, triggers).

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

/// Jobs of a trigger that are shown, at most.
const MAX_JOBS: usize = 50;
/// Triggers that are read at once for a list, and shown on a page at most.
const PAGE_SIZE: usize = 200;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let state = get_with(state, |op| op.summary("How a trigger has fared"));
    let jobs = get_with(list_jobs, |op| {
        op.summary("The last jobs of a trigger").query(
            "Limit",
            SchemaKind::Number,
            "How many, 50 unless told and at most",
        )
    });
    let launch = post_with(launch, |op| {
        op.summary("Pushes the job of a trigger at once")
            .success::<201, Document>("The job")
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

/// The routes that take no token, because the id of a trigger is a secret.
pub fn webhooks() -> ApiRouter<Platform> {
    let webhook = post_with(webhook::call, |op| {
        op.summary("Calls a webhook; whoever knows its address may")
            .query("Manual", SchemaKind::Boolean, "Whether a person does")
            .success::<204, ()>("A job is pushed, or soon will be")
    });
    ApiRouter::new().api_route("/jobs/webhooks/{id}", webhook)
}

/// The operations on all triggers.
fn collection_routes() -> ApiMethodRouter<Platform> {
    get_with(list, |op| {
        op.summary("The triggers")
            .query("Worker", SchemaKind::String, "The workers, with commas between them; all unless told")
            .query("Type", SchemaKind::String, "The types, with commas between them; all unless told")
            .query("page[limit]", SchemaKind::Number, "Triggers on a page; all unless told, else at most 200")
            .query("page[cursor]", SchemaKind::String, "Where the page before ended")
    })
    .post_with(create, |op| {
        schedule_fields(op.summary("Makes a trigger"))
            .field("type", SchemaKind::String, "@cron, @every, @event, …")
            .field("worker", SchemaKind::String, "The worker of its jobs")
            .field("worker_arguments", SchemaKind::Any, "Another name of message")
            .field(
                "options",
                SchemaKind::Object,
                "max_exec_count, and timeout in nanoseconds here, unlike that of a pushed job",
            )
            .success::<201, Document>("The trigger")
    })
}

/// The operations on one trigger.
fn trigger_routes() -> ApiMethodRouter<Platform> {
    get_with(show, |op| op.summary("A trigger, with how it has fared"))
        .patch_with(patch, |op| schedule_fields(op.summary("Changes a trigger")))
        .delete_with(delete, |op| op.summary("Deletes a trigger").success::<204, ()>("It is gone"))
}

/// The attributes that can be set and changed.
fn schedule_fields(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.field("arguments", SchemaKind::String, "When, in the words of its type")
        .field("message", SchemaKind::Any, "What the worker is told")
        .field("debounce", SchemaKind::String, "How long to wait for further events, for example 5m")
        .field("time_zone", SchemaKind::String, "An IANA name, for example Europe/Paris")
        .field("missed_policy", SchemaKind::String, "skip, coalesce or all")
        .field("missed_limit", SchemaKind::Number, "How many missed runs to make up for")
        .field("catch_up_window", SchemaKind::String, "How old a missed run may be, for example 24h")
        .field("overlap_policy", SchemaKind::String, "skip or queue-one")
        .error(409, "Somebody else wrote in between")
}

/// The resource of a trigger.
pub fn resource(platform: &Platform, instance: &Instance, trigger: &Trigger) -> Result<Resource, ApiError> {
    let at = instance.doc(&TRIGGERS, trigger.id.as_str());
    // Unlike other resources, triggers also have their id among their attributes: Cozy's client launches a konnector
    // by it.
    let resource = Resource::from_document(platform, &at, trigger)?
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

/// The state of a trigger. Konnectors get it without the messages of the last failed run, just as they get no jobs:
/// secrets are masked in them.
fn state_for(platform: &Platform, caller: &Caller, id: &str) -> Result<TriggerStatus, ApiError> {
    let mut state = platform.trigger_status(&caller.instance, id)?;
    if caller.principal.konnector().is_some() {
        state.last_error = None;
    }
    Ok(state)
}

/// Returns the trigger of a path, if the caller has a rule for it.
fn authorized_trigger(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, ApiError> {
    let found = platform.trigger(&caller.instance, id);
    // Do not reveal existence to callers without read access.
    let worker = found.as_ref().map_or(KONNECTOR_WORKER, |trigger| &trigger.worker);
    caller.check_worker(verb, &TRIGGERS, id, worker)?;
    Ok(found?)
}

/// Like [`authorized_trigger`], but a konnector needs no rule for its own triggers.
fn authorized_or_own_trigger(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<Trigger, ApiError> {
    if let Some(slug) = caller.principal.konnector()
        && let Ok(trigger) = platform.trigger(&caller.instance, id)
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
    let wanted = |trigger: &Trigger| {
        (workers.is_empty() || workers.contains(&trigger.worker)) && (kinds.is_empty() || kinds.contains(&trigger.kind))
    };
    // Cozy has no pages here; without a limit all triggers are returned.
    let limit = params.number("page[limit]")?.map(|limit| limit.clamp(1, PAGE_SIZE));
    let mut after = params.get_non_empty("page[cursor]").map(str::to_owned);
    let (mut shown, mut next) = (Vec::new(), None);
    'pages: loop {
        let page = platform.triggers_after(&caller.instance, after.as_deref(), limit.unwrap_or(PAGE_SIZE) + 1)?;
        let Some(last) = page.last() else { break };
        let reached = last.id.clone();
        for trigger in page.iter().filter(|trigger| wanted(trigger)) {
            if limit.is_some_and(|limit| shown.len() == limit) {
                next = after;
                break 'pages;
            }
            shown.push(resource_with_state(&platform, &caller, trigger)?);
            after = Some(trigger.id.clone());
        }
        after = Some(reached);
    }
    let next = next.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, list) in [("Worker", &workers), ("Type", &kinds)] {
            if !list.is_empty() {
                query.append_pair(name, &list.join(","));
            }
        }
        query.append_pair("page[limit]", &limit.unwrap_or(PAGE_SIZE).to_string()).append_pair("page[cursor]", &cursor);
        format!("/jobs/triggers?{}", query.finish())
    });
    Ok(Document::list(shown).next(next))
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
    let trigger = platform.create_trigger(&caller.instance, new).await?;
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
    let jobs = platform.trigger_jobs(&caller.instance, &id, limit)?;
    let shown = jobs.iter().map(|job| jobs::resource(&platform, &caller.instance, job));
    Ok(Document::list(shown.collect::<Result<_, _>>()?))
}

async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    mut body: Attributes,
) -> Result<Document, ApiError> {
    authorized_or_own_trigger(&platform, &caller, Verb::Patch, &id)?;
    let patch = TriggerPatch { by_konnector: caller.konnector()?, ..attributes::patch(&mut body)? };
    let trigger = platform.patch_trigger(&caller.instance, &id, patch).await?;
    Ok(Document::one(resource(&platform, &caller.instance, &trigger)?))
}

async fn launch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    authorized_trigger(&platform, &caller, Verb::Post, &id)?;
    caller.principal.check_may_outlive_run("launch a trigger, which is what a person does")?;
    platform.check_rate_limit(&caller.instance, rate::RateKind::Job)?;
    let job = platform.launch_trigger(&caller.instance, &id).await?;
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
        caller.principal.check_may_outlive_run("delete triggers of others")?;
    }
    platform.delete_trigger(&caller.instance, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
