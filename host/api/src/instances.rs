//! `/instances` of the admin API: the instances of this server (Cozy API: admin, instances).

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_platform::Platform;
use konnector_platform::cursor;
use konnector_platform::doctype::INSTANCES;
use konnector_platform::instance::{Instance, InstancePatch, parse_time_zone};
use konnector_platform::principal::Audience;
use konnector_store::{DocRef, InstanceId, Map};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{JsonObject, Params};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        op.summary("Lists the instances")
            .query("page[limit]", SchemaKind::Number, "Maximum number of instances on a page; default: all")
            .query("page[cursor]", SchemaKind::String, "Id of the first instance of the page")
            .query("page[skip]", SchemaKind::Number, "Number of instances to skip")
    })
    .post_with(create, |op| {
        describe(op.summary("Creates an instance"))
            .query("Domain", SchemaKind::String, "Host name at which clients reach the instance")
            .success::<201, Document>("The created instance")
    });
    let token = post_with(issue_token, |op| {
        op.summary("Issues a token")
            .query("Domain", SchemaKind::String, "Domain of the instance")
            .query("Audience", SchemaKind::String, "cli, app, konn, access or refresh; default: cli")
            .query("Subject", SchemaKind::String, "Slug of the app or konnector, or id of the OAuth client")
            .query(
                "Scope",
                SchemaKind::String,
                "Permissions of the token, for example io.cozy.files:GET; * permits everything",
            )
            .success::<200, String>("The token")
            .error(422, "A parameter is invalid")
    });
    let one = get_with(show, |op| op.summary("Returns an instance"))
        .patch_with(update, |op| {
            describe(op.summary("Updates an instance; attributes that are not given are unchanged"))
        })
        .delete_with(delete, |op| {
            op.summary("Deletes an instance and all its data, once its konnectors have cleaned up at their vendors")
                .success::<204, ()>("The instance is deleted")
                .error(409, "A konnector is running, is still cleaning up, or failed to clean up")
        });
    let flags = get_with(flags, |op| op.summary("Returns the feature flags of an instance"))
        .patch_with(update_flags, |op| op.summary("Sets feature flags, and removes those that are null"));
    ApiRouter::new()
        .api_route("/instances", all)
        .api_route("/instances/count", get_with(count, |op| op.summary("Counts the instances")))
        .api_route("/instances/token", token)
        .api_route("/instances/{domain}", one)
        .api_route("/instances/{domain}/feature/flags", flags)
}

/// Describes the parameters that set attributes of an instance.
fn describe(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("DomainAliases", SchemaKind::String, "Additional host names, separated by commas")
        .query("Locale", SchemaKind::String, "Language of the owner")
        .query("Timezone", SchemaKind::String, "Time zone of the owner, an IANA name")
        .query("Email", SchemaKind::String, "Email address of the owner")
        .query("PublicName", SchemaKind::String, "Name of the owner")
        .query(
            "DiskQuota",
            SchemaKind::Number,
            "Maximum total size of the files in bytes; default: the quota of the server",
        )
        .query("OrgDomain", SchemaKind::String, "Domain of the organisation that the instance belongs to")
        .query("OrgID", SchemaKind::String, "Id of the organisation")
        .query("feature_sets", SchemaKind::String, "Names of feature sets, separated by commas")
        .error(409, "Another instance already has this host name")
        .error(422, "A parameter is invalid")
}

fn resource(platform: &Platform, instance: &Instance) -> Result<Resource, ApiError> {
    let doc_ref = DocRef::new(&InstanceId::global(), &INSTANCES, instance.id.as_str());
    let rev = platform.documents().get_unchecked(&doc_ref)?.map(|found| found.rev.to_string()).unwrap_or_default();
    let resource = Resource::new("instances", instance.id.as_str(), instance)?
        .rev(&rev)
        .attribute("prefix", json!(instance.id))
        .link("self", format!("/instances/{}", instance.id));
    // A string, because it may exceed the integers of JavaScript.
    Ok(match instance.disk_quota {
        Some(bytes) => resource.attribute("disk_quota", json!(bytes.to_string())),
        None => resource,
    })
}

/// Name of the list of instances for its cursors.
const CURSOR_LIST: &str = "instances";

/// Returns a page of the instances, or all of them if the client gives no limit. An invalid number counts as absent
/// (cozy-stack).
async fn list(State(platform): State<Platform>, params: Params) -> Result<Document, ApiError> {
    let number = |name| params.get(name).and_then(|text| text.parse::<usize>().ok());
    let mut instances = platform.instances().list()?;
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(from) = params.cursor("page[cursor]", CURSOR_LIST)? {
        instances.retain(|instance| instance.id.as_str() >= from.as_str());
    }
    let mut rest = instances.into_iter().skip(number("page[skip]").unwrap_or_default());
    let limit = number("page[limit]").filter(|limit| *limit > 0);
    let page: Vec<Instance> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let next = limit.zip(rest.next()).map(|(limit, next)| {
        let cursor = cursor::encode(CURSOR_LIST, next.id.as_str());
        format!("/instances?page[limit]={limit}&page[cursor]={cursor}")
    });
    let resources = page.iter().map(|instance| resource(&platform, instance)).collect::<Result<_, _>>()?;
    Ok(Document::list(resources).next(next))
}

async fn count(State(platform): State<Platform>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "count": platform.instances().list()?.len() })))
}

/// Parses the changes to an instance. An empty parameter counts as absent.
fn parse_patch(params: &Params) -> Result<InstancePatch, ApiError> {
    let text = |name| params.get_non_empty(name).map(str::to_owned);
    let list = |name| params.get_non_empty(name).map(|_| params.list(name));
    let bytes = |bytes: &str| {
        bytes.parse().map_err(|_| {
            ApiError::parameter(
                "DiskQuota",
                format!("'{bytes}' is not a valid number of bytes: expected a whole number"),
            )
        })
    };
    Ok(InstancePatch {
        locale: text("Locale"),
        time_zone: params.get_non_empty("Timezone").map(|name| parse_time_zone(name, "Timezone")).transpose()?,
        email: text("Email"),
        public_name: text("PublicName"),
        disk_quota: params.get_non_empty("DiskQuota").map(bytes).transpose()?,
        aliases: list("DomainAliases"),
        org_domain: text("OrgDomain"),
        org_id: text("OrgID"),
        feature_sets: list("feature_sets"),
    })
}

async fn create(State(platform): State<Platform>, params: Params) -> Result<(StatusCode, Document), ApiError> {
    let domain = params.get("Domain").unwrap_or_default();
    let instance = platform.instances().create(domain, &parse_patch(&params)?).await?;
    Ok((StatusCode::CREATED, Document::one(resource(&platform, &instance)?)))
}

async fn show(State(platform): State<Platform>, Path(domain): Path<String>) -> Result<Document, ApiError> {
    Ok(Document::one(resource(&platform, &*platform.instances().get(&domain)?)?))
}

/// Updates an instance. Unlike cozy-stack, returns no secrets, because an instance has no secrets of its own.
async fn update(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    params: Params,
) -> Result<Document, ApiError> {
    let instance = platform.instances().get(&domain)?;
    let changed = platform.instances().update(&instance, &parse_patch(&params)?).await?;
    Ok(Document::one(resource(&platform, &changed)?))
}

async fn flags(State(platform): State<Platform>, Path(domain): Path<String>) -> Result<Json<Map>, ApiError> {
    Ok(Json(platform.instances().get(&domain)?.feature_flags.clone()))
}

async fn update_flags(
    State(platform): State<Platform>,
    Path(domain): Path<String>,
    JsonObject(patch): JsonObject,
) -> Result<Json<Map>, ApiError> {
    let instance = platform.instances().get(&domain)?;
    Ok(Json(platform.instances().update_feature_flags(&instance, &patch).await?))
}

async fn delete(State(platform): State<Platform>, Path(domain): Path<String>) -> Result<StatusCode, ApiError> {
    platform.delete_instance(&domain).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns a token as plain text. The scope `*` permits everything. A konnector's token has no scope; its permissions
/// are those of the konnector's manifest.
async fn issue_token(State(platform): State<Platform>, params: Params) -> Result<String, ApiError> {
    let domain = params.get_non_empty("Domain").ok_or_else(|| {
        ApiError::parameter("Domain", "Domain: the parameter is missing; set it to the domain of the instance")
    })?;
    let audience: Audience = params.get_non_empty("Audience").unwrap_or("cli").parse()?;
    let subject = params.get_non_empty("Subject").unwrap_or("CLI");
    let scope = params.get("Scope").unwrap_or_default();
    let instance = platform.instances().get(domain)?;
    if matches!(audience, Audience::Access | Audience::Refresh)
        && platform.oauth_clients().get(&instance, subject).is_err()
    {
        let message = format!(
            "'{subject}' is not an OAuth client of {domain}; register one with `konnector instances oauth-client`"
        );
        return Err(ApiError::parameter("Subject", message));
    }
    Ok(platform.auth().issue_token(&instance, audience, subject, scope)?)
}
