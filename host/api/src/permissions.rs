//! `/permissions`: permissions of the bearer of a token, and shares (Cozy API: permissions, §8.4).

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, patch_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use konnector_manifest::Doctype;
use konnector_platform::doctype::PERMISSIONS;
use konnector_platform::permission::share::parse_ttl;
use konnector_platform::permission::{PermissionPatch, PermissionSet, konnector_set_id, parse_rules};
use konnector_platform::{Platform, Stored, cursor};
use konnector_store::{DocRef, Map};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Attributes, Caller, JsonObject, Params};
use crate::jsonapi::{Document, PlainJson, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// Number of items on a page if the client does not set `page[limit]`.
const DEFAULT_PAGE_SIZE: usize = 30;
/// Maximum number of documents in one request to `/permissions/exists`.
const MAX_DOCUMENTS: usize = 1_000;

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let share = post_with(share, |op| {
        op.summary("Shares some of the bearer's permissions")
            .query("codes", SchemaKind::String, "Names of the recipients of codes, separated by commas")
            .query("ttl", SchemaKind::String, "Lifetime, for example 30D or 1h30m; default: unlimited")
            .field("permissions", SchemaKind::Object, "The rules, by title")
            .error(422, "ttl is not a valid duration, or an attribute is invalid")
    });
    let one = get_with(show, |op| op.summary("Returns a permission set"))
        .patch_with(update, patch_operation)
        .delete_with(revoke, |op| op.summary("Revokes a share").success::<204, ()>("The share is revoked"));
    let exists = post_with(exists, |op| {
        op.summary("Returns which of the given documents are shared").field(
            "data",
            SchemaKind::Objects,
            "The documents, each with type and id",
        )
    });
    ApiRouter::new()
        .api_route("/permissions", share)
        .api_route("/permissions/self", get_with(show_own, |op| op.summary("Returns the permissions of the token")))
        .api_route("/permissions/exists", exists)
        .api_route("/permissions/{id}", one)
        .api_route("/permissions/apps/{slug}", patch_with(update_app, patch_operation))
        .api_route("/permissions/konnectors/{slug}", patch_with(update_konnector, patch_operation))
        .api_route("/permissions/doctype/{doctype}/shared-by-link", shared_routes())
        .api_route("/permissions/doctype/{doctype}/sharedByLink", shared_routes())
}

fn patch_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.summary("Updates a permission set: its rules, or the recipients of codes")
        .field("permissions", SchemaKind::Object, "Rules to add or replace, by title; an empty rule is removed")
        .field("codes", SchemaKind::Object, "All recipients of codes, as an object whose keys are their names")
        .field("expires_at", SchemaKind::String, "When the share expires; an empty string means never")
        .error(409, "The permission set was modified concurrently")
}

fn shared_routes() -> ApiMethodRouter<Platform> {
    get_with(shared_by_link, |op| {
        op.summary("Lists the shares with a rule for a doctype")
            .query("page[limit]", SchemaKind::Number, "Maximum number of shares on a page; default: 30")
            .query("page[cursor]", SchemaKind::String, "Cursor from links.next of the previous page")
    })
}

fn resource(set: &Stored<PermissionSet>) -> Result<Resource, ApiError> {
    let resource = Resource::new(PERMISSIONS.as_str(), set.id.as_str(), &set.value)?;
    Ok(resource.rev(&set.rev.to_string()).link("self", format!("/permissions/{}", set.id)))
}

/// Returns the rules of the caller. The rules of a scope have no titles; they are named `rule0`, `rule1`, …
async fn show_own(State(platform): State<Platform>, caller: Caller) -> Result<Document, ApiError> {
    if let Some(set) = platform.permissions().get_own(&caller.instance, &caller.principal)? {
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
        Some(_) => {
            Err(ApiError::attribute("permissions", "permissions: the value is not an object that maps titles to rules"))
        }
    }
}

/// Rejects passwords, because this server cannot ask for them. A share that requires a password must not open without
/// it.
fn reject_password(body: &mut Attributes) -> Result<(), ApiError> {
    match body.take_string("password")? {
        None => Ok(()),
        Some(password) if password.is_empty() => Ok(()),
        Some(_) => Err(ApiError::bad_request("password: shares with a password are not supported; omit it")),
    }
}

async fn share(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
    mut body: Attributes,
) -> Result<Document, ApiError> {
    reject_password(&mut body)?;
    let rules = parse_rules(&rules(&mut body)?)?;
    let ttl = params.get_non_empty("ttl").map(parse_ttl).transpose()?;
    let Caller { instance, principal } = &caller;
    let set = platform.permissions().create_share(instance, principal, &rules, &params.list("codes"), ttl).await?;
    Ok(Document::one(resource(&set)?))
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform.permissions().get(&caller.instance, &caller.principal, &id)?)?))
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

/// Apps are not installed on this server, and their tokens hold their permissions, so no permission set can be changed.
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
    Ok(Document::one(resource(&platform.permissions().patch(&caller.instance, &caller.principal, id, &patch).await?)?))
}

fn read_patch(body: &mut Attributes) -> Result<PermissionPatch, ApiError> {
    let rules = rules(body)?;
    let codes = match body.take("codes") {
        None => None,
        Some(Value::Object(codes)) => Some(codes.keys().cloned().collect::<Vec<_>>()).filter(|codes| !codes.is_empty()),
        Some(_) => {
            return Err(ApiError::attribute("codes", "codes: the value is not an object with a field for each name"));
        }
    };
    let parse_expiry = |text: String| -> Result<Option<DateTime<Utc>>, ApiError> {
        let invalid_date = |_| {
            ApiError::attribute(
                "expires_at",
                format!("'{text}' is not a valid date: expected a date such as 2030-01-31T12:00:00Z"),
            )
        };
        if text.is_empty() {
            Ok(None)
        } else {
            Ok(Some(DateTime::parse_from_rfc3339(&text).map_err(invalid_date)?.to_utc()))
        }
    };
    let expires_at = body.take_string("expires_at")?.map(parse_expiry).transpose()?;
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
    platform.permissions().revoke_share(&caller.instance, &caller.principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns which of some documents are shared by link, and with which verbs.
async fn exists(
    State(platform): State<Platform>,
    caller: Caller,
    JsonObject(body): JsonObject,
) -> Result<PlainJson, ApiError> {
    let malformed = || {
        ApiError::bad_request(format!(
            "data: the value is not an array of at most {MAX_DOCUMENTS} objects with type and id"
        ))
    };
    let entries = body
        .get("data")
        .and_then(Value::as_array)
        .filter(|entries| entries.len() <= MAX_DOCUMENTS)
        .ok_or_else(malformed)?;
    let mut documents = Vec::new();
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).ok_or_else(malformed);
        documents.push(DocRef::new(&caller.instance.id, &doctype(text("type")?)?, text("id")?));
    }
    let shared = platform.permissions().shared_verbs(&caller.instance, &caller.principal, &documents)?;
    let items = shared.iter().map(|(doc_ref, verbs)| {
        let verbs = verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>();
        json!({ "type": doc_ref.doctype, "id": doc_ref.id, "verbs": verbs })
    });
    Ok(PlainJson(json!({ "data": items.collect::<Vec<_>>() })))
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
    let mut sets = platform.permissions().list_shares(&caller.instance, &caller.principal, &doctype)?;
    let list = format!("shares/{doctype}");
    if let Some(after) = params.cursor("page[cursor]", &list)? {
        sets.retain(|set| set.id.as_str() > after.as_str());
    }
    let has_more = sets.len() > limit;
    sets.truncate(limit);
    let next = sets.last().filter(|_| has_more).map(|last| {
        let cursor = cursor::encode(&list, &last.id);
        format!("/permissions/doctype/{doctype}/shared-by-link?page[limit]={limit}&page[cursor]={cursor}")
    });
    Ok(Document::list(sets.iter().map(resource).collect::<Result<_, _>>()?).next(next))
}
