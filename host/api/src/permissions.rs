//! `/permissions`: what the bearer of a token may do, and what it lets others do (Cozy API: permissions, §8.4).

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, patch_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use konnector_manifest::{Doctype, Permissions};
use konnector_platform::doctype::PERMISSIONS;
use konnector_platform::permission::share::parse_ttl;
use konnector_platform::permission::{PermissionPatch, PermissionSet, konnector_set_id};
use konnector_platform::{Platform, Stored};
use konnector_store::{DocRef, Map};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Attributes, Caller, JsonObject, Params};
use crate::jsonapi::{Document, PlainJson, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// Items of a page where the client names no number.
const DEFAULT_PAGE_SIZE: usize = 30;
/// Documents that one request may ask about.
const MAX_DOCUMENTS: usize = 1_000;

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let share = post_with(share, |op| {
        op.summary("Shares some of what the bearer may do")
            .query("codes", SchemaKind::String, "Names of who gets a code, with commas between them")
            .query("ttl", SchemaKind::String, "How long it lasts, for example 30D or 1h30m; for ever unless told")
            .field("permissions", SchemaKind::Object, "The rules, by title")
            .error(422, "ttl is no duration, or an attribute is wrong")
    });
    let one = get_with(show, |op| op.summary("A permission set"))
        .patch_with(update, patch_operation)
        .delete_with(revoke, |op| op.summary("Ends a share").success::<204, ()>("It is gone"));
    let exists = post_with(exists, |op| {
        op.summary("Which of some documents are shared").field(
            "data",
            SchemaKind::Objects,
            "The documents, each with type and id",
        )
    });
    ApiRouter::new()
        .api_route("/permissions", share)
        .api_route("/permissions/self", get_with(show_own, |op| op.summary("What the bearer of the token may do")))
        .api_route("/permissions/exists", exists)
        .api_route("/permissions/{id}", one)
        .api_route("/permissions/apps/{slug}", patch_with(update_app, patch_operation))
        .api_route("/permissions/konnectors/{slug}", patch_with(update_konnector, patch_operation))
        .api_route("/permissions/doctype/{doctype}/shared-by-link", shared_routes())
        .api_route("/permissions/doctype/{doctype}/sharedByLink", shared_routes())
}

fn patch_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.summary("Changes a permission set: its rules, or who has a code")
        .field("permissions", SchemaKind::Object, "The rules to add or replace, by title; an empty one is removed")
        .field("codes", SchemaKind::Object, "Who has a code from now on, by name")
        .field("expires_at", SchemaKind::String, "When a share ends; empty is never")
        .error(409, "Somebody else wrote in between")
}

fn shared_routes() -> ApiMethodRouter<Platform> {
    get_with(shared_by_link, |op| {
        op.summary("The shares with a rule for a type")
            .query("page[limit]", SchemaKind::Number, "Shares on a page; 30 unless told")
            .query("page[cursor]", SchemaKind::String, "Where the page before ended")
    })
}

fn resource(set: &Stored<PermissionSet>) -> Result<Resource, ApiError> {
    let resource = Resource::new(PERMISSIONS.as_str(), set.id.as_str(), &set.value)?;
    Ok(resource.rev(&set.rev.to_string()).link("self", format!("/permissions/{}", set.id)))
}

/// The rules of the caller. Those of a scope have no titles and are called `rule0`, `rule1`, …
async fn show_own(State(platform): State<Platform>, caller: Caller) -> Result<Document, ApiError> {
    if let Some(set) = platform.own_permission_set(&caller.instance, &caller.principal)? {
        return Ok(Document::one(resource(&set)?));
    }
    let (kind, source) = caller.principal.source();
    let set = json!({ "type": kind, "source_id": source, "permissions": caller.principal.permissions.to_manifest() });
    Ok(Document::one(Resource::new(PERMISSIONS.as_str(), caller.principal.claims.sub.as_str(), &set)?))
}

/// Parses the rules of a body, by title.
fn rules(body: &mut Attributes) -> Result<Map, ApiError> {
    match body.take("permissions") {
        None => Ok(Map::new()),
        Some(Value::Object(rules)) => Ok(rules),
        Some(_) => Err(ApiError::attribute("permissions", "the attribute permissions is an object of title and rule")),
    }
}

/// Rejects passwords, because this server cannot ask for them: a share that requires one must not be opened without.
fn reject_password(body: &mut Attributes) -> Result<(), ApiError> {
    match body.take_string("password")? {
        None => Ok(()),
        Some(password) if password.is_empty() => Ok(()),
        Some(_) => Err(ApiError::bad_request("shares with a password are not supported; leave the password out")),
    }
}

async fn share(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
    mut body: Attributes,
) -> Result<Document, ApiError> {
    reject_password(&mut body)?;
    let rules = Permissions::from_manifest(&rules(&mut body)?).map_err(konnector_platform::Error::from)?;
    let lasts = params.get_non_empty("ttl").map(parse_ttl).transpose()?;
    let Caller { instance, principal } = &caller;
    let set = platform.create_share(instance, principal, &rules, &params.list("codes"), lasts).await?;
    Ok(Document::one(resource(&set)?))
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.permission_set(&caller.instance, &caller.principal, &id)?)?))
}

async fn update(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    body: Attributes,
) -> Result<Document, ApiError> {
    apply(&platform, &caller, &id, body).await
}

async fn update_konnector(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    body: Attributes,
) -> Result<Document, ApiError> {
    apply(&platform, &caller, &konnector_set_id(&slug), body).await
}

/// Apps are not installed here, their rights are in their tokens: there is no permission set to change.
async fn update_app(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    body: Attributes,
) -> Result<Document, ApiError> {
    apply(&platform, &caller, &format!("app-{slug}"), body).await
}

async fn apply(platform: &Platform, caller: &Caller, id: &str, mut body: Attributes) -> Result<Document, ApiError> {
    reject_password(&mut body)?;
    let patch = read_patch(&mut body)?;
    Ok(Document::one(resource(&platform.patch_permissions(&caller.instance, &caller.principal, id, &patch).await?)?))
}

fn read_patch(body: &mut Attributes) -> Result<PermissionPatch, ApiError> {
    let rules = rules(body)?;
    let codes = match body.take("codes") {
        None => None,
        Some(Value::Object(codes)) => Some(codes.keys().cloned().collect::<Vec<_>>()).filter(|codes| !codes.is_empty()),
        Some(_) => {
            return Err(ApiError::attribute("codes", "the attribute codes is an object with a member for each name"));
        }
    };
    let end = |text: String| -> Result<Option<DateTime<Utc>>, ApiError> {
        let wrong = |_| ApiError::attribute("expires_at", format!("'{text}' is no date, such as 2030-01-31T12:00:00Z"));
        if text.is_empty() { Ok(None) } else { Ok(Some(DateTime::parse_from_rfc3339(&text).map_err(wrong)?.to_utc())) }
    };
    let expires_at = body.take_string("expires_at")?.map(end).transpose()?;
    match codes {
        Some(codes) if rules.is_empty() && expires_at.is_none() => Ok(PermissionPatch::Codes(codes)),
        None if !rules.is_empty() || expires_at.is_some() => Ok(PermissionPatch::Set { rules, expires_at }),
        _ => Err(ApiError::bad_request("The patch doc should have property 'codes' or 'permissions', not both")),
    }
}

async fn revoke(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    platform.revoke_share(&caller.instance, &caller.principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns which of some documents are shared by link, and with which verbs.
async fn exists(
    State(platform): State<Platform>,
    caller: Caller,
    JsonObject(body): JsonObject,
) -> Result<PlainJson, ApiError> {
    let malformed =
        || ApiError::bad_request(format!("data is an array of up to {MAX_DOCUMENTS} objects with type and id"));
    let asked = body
        .get("data")
        .and_then(Value::as_array)
        .filter(|asked| asked.len() <= MAX_DOCUMENTS)
        .ok_or_else(malformed)?;
    let mut documents = Vec::new();
    for one in asked {
        let text = |name: &str| one.get(name).and_then(Value::as_str).ok_or_else(malformed);
        documents.push(DocRef::new(&caller.instance.id, &doctype(text("type")?)?, text("id")?));
    }
    let shared = platform.shared_verbs(&caller.instance, &caller.principal, &documents)?;
    let shown = shared.iter().map(|(at, verbs)| {
        json!({ "type": at.doctype, "id": at.id, "verbs": verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>() })
    });
    Ok(PlainJson(json!({ "data": shown.collect::<Vec<_>>() })))
}

fn doctype(name: &str) -> Result<Doctype, ApiError> {
    name.parse().map_err(|error: konnector_manifest::Error| ApiError::bad_request(error.to_string()))
}

async fn shared_by_link(
    State(platform): State<Platform>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Document, ApiError> {
    let doctype = doctype(&name)?;
    let limit = params.number("page[limit]")?.filter(|limit| *limit > 0).unwrap_or(DEFAULT_PAGE_SIZE);
    let mut sets = platform.list_shares(&caller.instance, &caller.principal, &doctype)?;
    if let Some(after) = params.get_non_empty("page[cursor]") {
        sets.retain(|set| set.id.as_str() > after);
    }
    let more = sets.len() > limit;
    sets.truncate(limit);
    let next = sets.last().filter(|_| more).map(|last| {
        format!("/permissions/doctype/{doctype}/shared-by-link?page[limit]={limit}&page[cursor]={}", last.id)
    });
    Ok(Document::list(sets.iter().map(resource).collect::<Result<_, _>>()?).next(next))
}
