//! `/settings`: what clients ask about an instance, and its OAuth clients (Cozy API: settings).

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::{OAUTH_CLIENTS, SETTINGS};
use konnector_platform::instance::{InstancePatch, time_zone};
use konnector_platform::token::Audience;
use konnector_store::Map;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::{Attributes, Caller};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, Kind};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let instance =
        get_with(instance, |op| op.summary("What the owner may know of the instance")).put_with(change, |op| {
            op.summary("Changes what the owner may change of the instance")
                .member("locale", Kind::Text, "A language code")
                .member("tz", Kind::Text, "A time zone, an IANA name")
                .member("email", Kind::Text, "A mail address")
                .member("public_name", Kind::Text, "A name")
        });
    let clients = get_with(clients, |op| op.summary("The OAuth clients of the instance"));
    let client = delete_with(revoke, |op| {
        op.summary("Removes an OAuth client, with all its tokens").answers::<204, ()>("It is gone")
    });
    let synchronized = post_with(synchronized, |op| {
        op.summary("An OAuth client says that it is up to date").answers::<204, ()>("Good")
    });
    ApiRouter::new()
        .api_route("/settings/instance", instance)
        .api_route(
            "/settings/context",
            get_with(context, |op| op.summary("What the operator set for a group of instances")),
        )
        .api_route("/settings/flags", get_with(flags, |op| op.summary("The switches of features")))
        .api_route("/settings/capabilities", get_with(capabilities, |op| op.summary("What the server can do")))
        .api_route("/settings/disk-usage", get_with(disk_usage, |op| op.summary("The room that files take")))
        .api_route("/settings/clients", clients)
        .api_route("/settings/clients/{id}", client)
        .api_route("/settings/synchronized", synchronized)
}

/// Settings with a name, for whoever has a rule on this document.
fn settings(caller: &Caller, verb: Verb, name: &str, attributes: &Value) -> Result<Document, Failure> {
    check(caller, verb, &SETTINGS, &id(name))?;
    named(name, attributes)
}

fn id(name: &str) -> String {
    format!("{}.{name}", *SETTINGS)
}

fn named(name: &str, attributes: &Value) -> Result<Document, Failure> {
    let resource = Resource::new(SETTINGS.as_str(), id(name), attributes)?;
    Ok(Document::one(resource.link("self", format!("/settings/{name}"))))
}

fn check(caller: &Caller, verb: Verb, doctype: &Doctype, id: &str) -> Result<(), Failure> {
    caller.check_document(verb, doctype, id, &Map::new())
}

fn of_instance(caller: &Caller) -> Value {
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

async fn instance(caller: Caller) -> Result<Document, Failure> {
    settings(&caller, Verb::Get, "instance", &of_instance(&caller))
}

async fn change(State(platform): State<Platform>, caller: Caller, mut body: Attributes) -> Result<Document, Failure> {
    check(&caller, Verb::Put, &SETTINGS, "io.cozy.settings.instance")?;
    let patch = InstancePatch {
        locale: body.take_text("locale")?,
        time_zone: body.take_text("tz")?.map(|name| time_zone(&name, "tz")).transpose()?,
        email: body.take_text("email")?,
        public_name: body.take_text("public_name")?,
        ..InstancePatch::default()
    };
    let instance = platform.change_instance(&caller.instance, &patch).await?;
    let caller = Caller { instance: instance.into(), ..caller };
    settings(&caller, Verb::Put, "instance", &of_instance(&caller))
}

/// Whoever has a token may read it, and the switches: apps look there before they ask for anything (cozy-stack).
async fn context(_: Caller) -> Result<Document, Failure> {
    named("context", &json!({ "id": "context" }))
}

async fn flags(caller: Caller) -> Result<Document, Failure> {
    named("flags", &json!(caller.instance.feature_flags))
}

async fn capabilities(caller: Caller) -> Result<Document, Failure> {
    let capabilities = json!({
        "file_versioning": true,
        "flat_subdomains": false,
        "can_auth_with_password": false,
        "can_auth_with_magic_links": false,
        "can_auth_with_oidc": false,
    });
    settings(&caller, Verb::Get, "capabilities", &capabilities)
}

/// Bytes as texts, because they may exceed the integers of JavaScript.
async fn disk_usage(State(platform): State<Platform>, caller: Caller) -> Result<Document, Failure> {
    check(&caller, Verb::Get, &SETTINGS, "io.cozy.settings.disk-usage")?;
    let quota = caller.instance.disk_quota.unwrap_or(platform.config.disk_quota);
    let used = platform.disk_usage(&caller.instance).await?;
    let attributes = json!({ "is_limited": true, "quota": quota.to_string(), "used": used.to_string() });
    settings(&caller, Verb::Get, "disk-usage", &attributes)
}

async fn clients(State(platform): State<Platform>, caller: Caller) -> Result<Document, Failure> {
    caller.check_type(Verb::Get, &OAUTH_CLIENTS)?;
    let clients = platform.oauth_clients(&caller.instance)?;
    let shown = clients.iter().map(|client| {
        let resource = Resource::new(OAUTH_CLIENTS.as_str(), client.id.as_str(), &client.value)?;
        Ok(resource.rev(&client.rev.to_string()).link("self", format!("/settings/clients/{}", client.id)))
    });
    Ok(Document::list(shown.collect::<Result<_, Failure>>()?))
}

async fn revoke(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    check(&caller, Verb::Delete, &OAUTH_CLIENTS, &id)?;
    let client = platform.oauth_client(&caller.instance, &id)?;
    platform.remove_oauth_client(&caller.instance, &id, &client.rev).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An OAuth client tells that it is up to date; nobody asks when, so it is not kept.
async fn synchronized(caller: Caller) -> Result<StatusCode, Failure> {
    match caller.principal.claims.aud {
        Audience::Access => Ok(StatusCode::NO_CONTENT),
        _ => Err(Failure::forbidden("only an OAuth client says that it is synchronized")),
    }
}
