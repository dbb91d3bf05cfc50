//! `/settings`: information about an instance, and its OAuth clients (Cozy API: settings).

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::{OAUTH_CLIENTS, SETTINGS};
use konnector_platform::instance::{InstancePatch, parse_time_zone};
use konnector_platform::principal::Audience;
use konnector_store::Map;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Attributes, Caller};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let instance = get_with(instance, |op| op.summary("Returns the settings of the instance")).put_with(update, |op| {
        op.summary("Updates the settings of the instance")
            .field("locale", SchemaKind::String, "Language code")
            .field("tz", SchemaKind::String, "Time zone, an IANA name")
            .field("email", SchemaKind::String, "Email address")
            .field("public_name", SchemaKind::String, "Name of the owner")
    });
    let clients = get_with(clients, |op| op.summary("Lists the OAuth clients of the instance"));
    let client = delete_with(revoke, |op| {
        op.summary("Deletes an OAuth client and all its tokens").success::<204, ()>("The OAuth client is deleted")
    });
    let synchronized = post_with(synchronized, |op| {
        op.summary("Accepts the report of an OAuth client that it is synchronized")
            .success::<204, ()>("The report is accepted")
    });
    ApiRouter::new()
        .api_route("/settings/instance", instance)
        .api_route(
            "/settings/context",
            get_with(context, |op| op.summary("Returns the settings of a group of instances")),
        )
        .api_route("/settings/flags", get_with(flags, |op| op.summary("Returns the feature flags")))
        .api_route(
            "/settings/capabilities",
            get_with(capabilities, |op| op.summary("Returns the capabilities of the server")),
        )
        .api_route(
            "/settings/disk-usage",
            get_with(disk_usage, |op| op.summary("Returns the disk usage of files, and their quota")),
        )
        .api_route("/settings/clients", clients)
        .api_route("/settings/clients/{id}", client)
        .api_route("/settings/synchronized", synchronized)
}

/// Returns a settings document, for callers with a rule for it.
fn settings(caller: &Caller, verb: Verb, name: &str, attributes: &Value) -> Result<Document, ApiError> {
    check_settings(caller, verb, &SETTINGS, &settings_id(name))?;
    settings_document(name, attributes)
}

fn settings_id(name: &str) -> String {
    format!("{}.{name}", *SETTINGS)
}

fn settings_document(name: &str, attributes: &Value) -> Result<Document, ApiError> {
    let resource = Resource::new(SETTINGS.as_str(), settings_id(name), attributes)?;
    Ok(Document::one(resource.link("self", format!("/settings/{name}"))))
}

fn check_settings(caller: &Caller, verb: Verb, doctype: &Doctype, id: &str) -> Result<(), ApiError> {
    caller.check_document(verb, doctype, id, &Map::new())
}

fn instance_settings(caller: &Caller) -> Value {
    let instance = &caller.instance;
    json!({
        "locale": instance.locale,
        "tz": instance.tz,
        "email": instance.email,
        "public_name": instance.public_name,
        "context": instance.context,
        "uuid": instance.id,
        "onboarding_finished": instance.onboarding_finished,
        "password_defined": false,
    })
}

async fn instance(caller: Caller) -> Result<Document, ApiError> {
    settings(&caller, Verb::Get, "instance", &instance_settings(&caller))
}

async fn update(State(platform): State<Platform>, caller: Caller, mut body: Attributes) -> Result<Document, ApiError> {
    check_settings(&caller, Verb::Put, &SETTINGS, "io.cozy.settings.instance")?;
    let patch = InstancePatch {
        locale: body.take_string("locale")?,
        time_zone: body.take_string("tz")?.map(|name| parse_time_zone(&name, "tz")).transpose()?,
        email: body.take_string("email")?,
        public_name: body.take_string("public_name")?,
        ..InstancePatch::default()
    };
    let instance = platform.instances().update(&caller.instance, &patch).await?;
    let caller = Caller { instance: instance.into(), ..caller };
    settings(&caller, Verb::Put, "instance", &instance_settings(&caller))
}

/// Returns the context. Every caller with a token may read it and the feature flags, because apps read them first
/// (cozy-stack).
async fn context(_: Caller) -> Result<Document, ApiError> {
    settings_document("context", &json!({ "id": "context" }))
}

async fn flags(caller: Caller) -> Result<Document, ApiError> {
    settings_document("flags", &json!(caller.instance.feature_flags))
}

async fn capabilities(caller: Caller) -> Result<Document, ApiError> {
    let capabilities = json!({
        "file_versioning": true,
        "flat_subdomains": false,
        "can_auth_with_password": false,
        "can_auth_with_magic_links": false,
        "can_auth_with_oidc": false,
    });
    settings(&caller, Verb::Get, "capabilities", &capabilities)
}

/// Returns usage and quota. The bytes are strings, because they may exceed the integers of JavaScript.
async fn disk_usage(State(platform): State<Platform>, caller: Caller) -> Result<Document, ApiError> {
    check_settings(&caller, Verb::Get, &SETTINGS, "io.cozy.settings.disk-usage")?;
    let quota = caller.instance.disk_quota.unwrap_or(platform.config().disk_quota);
    let used = platform.files().disk_usage(&caller.instance).await?;
    let attributes = json!({ "is_limited": true, "quota": quota.to_string(), "used": used.to_string() });
    settings(&caller, Verb::Get, "disk-usage", &attributes)
}

async fn clients(State(platform): State<Platform>, caller: Caller) -> Result<Document, ApiError> {
    caller.check_type(Verb::Get, &OAUTH_CLIENTS)?;
    let clients = platform.oauth_clients().list(&caller.instance)?;
    let resources = clients.iter().map(|client| {
        let resource = Resource::new(OAUTH_CLIENTS.as_str(), client.id.as_str(), &client.value)?;
        Ok(resource.rev(&client.rev.to_string()).link("self", format!("/settings/clients/{}", client.id)))
    });
    Ok(Document::list(resources.collect::<Result<_, ApiError>>()?))
}

async fn revoke(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    check_settings(&caller, Verb::Delete, &OAUTH_CLIENTS, &id)?;
    let client = platform.oauth_clients().get(&caller.instance, &id)?;
    platform.oauth_clients().delete(&caller.instance, &id, &client.rev).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepts the report of an OAuth client that it is synchronized. Nothing reads the time of the report, so it is not
/// stored.
async fn synchronized(caller: Caller) -> Result<StatusCode, ApiError> {
    match caller.principal.claims.aud {
        Audience::Access => Ok(StatusCode::NO_CONTENT),
        _ => Err(ApiError::forbidden("only an OAuth client may report that it is synchronized; use its access token")),
    }
}
