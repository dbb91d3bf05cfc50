//! `/konnectors/maintenance` of the admin API: konnectors that no schedule starts for now (Cozy API: admin).

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, put_with};
use axum::extract::{Path, State};
use http::StatusCode;
use konnector_manifest::Slug;
use konnector_platform::Platform;
use konnector_platform::doctype::MAINTENANCES;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Attributes, Params};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

/// What an operator may say of a maintenance.
const OPTIONS: [&str; 3] = ["flag_short_maintenance", "flag_disallow_manual_exec", "messages"];

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        op.summary("The konnectors in maintenance").query(
            "Context",
            SchemaKind::String,
            "Anything: then also those that the registries tell of",
        )
    });
    let one = put_with(begin, |op| {
        op.summary("Puts a konnector into maintenance")
            .field("flag_short_maintenance", SchemaKind::Boolean, "Whether it is soon over")
            .field("flag_disallow_manual_exec", SchemaKind::Boolean, "Whether nobody may start it by hand either")
            .field("messages", SchemaKind::Object, "What users are told, by language")
            .success::<204, ()>("It is")
            .error(422, "The slug is none")
    })
    .delete_with(end, |op| {
        op.summary("Ends the maintenance of a konnector")
            .success::<204, ()>("It is over")
            .error(422, "The slug is none")
    });
    ApiRouter::new().api_route("/konnectors/maintenance", all).api_route("/konnectors/maintenance/{slug}", one)
}

fn resource(slug: &str, options: &Value, level: &str) -> Result<Resource, ApiError> {
    let attributes = json!({
        "slug": slug,
        "type": "konnector",
        "maintenance_activated": true,
        "maintenance_options": options,
        "level": level,
    });
    Resource::new(MAINTENANCES.as_str(), slug, &attributes)
}

/// The operator's own maintenance, and with `Context` also that of the registries.
async fn list(State(platform): State<Platform>, params: Params) -> Result<Document, ApiError> {
    let mut shown = Vec::new();
    for maintenance in platform.maintenances()? {
        shown.push(resource(&maintenance.slug, &Value::Object(maintenance.options), "stack")?);
    }
    if params.get_non_empty("Context").is_some() {
        for app in platform.registry_maintenances().await? {
            let slug = app.get("slug").and_then(Value::as_str).unwrap_or_default();
            shown.push(resource(slug, app.get("maintenance_options").unwrap_or(&Value::Null), "registry")?);
        }
    }
    Ok(Document::list(shown))
}

fn parse_slug(slug: &str) -> Result<Slug, ApiError> {
    slug.parse().map_err(|_| {
        ApiError::parameter("slug", format!("'{slug}' is no slug; it consists of lower-case letters, digits and -"))
    })
}

async fn begin(
    State(platform): State<Platform>,
    Path(slug): Path<String>,
    mut attributes: Attributes,
) -> Result<StatusCode, ApiError> {
    let given = |name: &str| attributes.take(name).map(|value| (name.to_owned(), value));
    let options = OPTIONS.into_iter().filter_map(given).collect();
    platform.begin_maintenance(&parse_slug(&slug)?, options).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end(State(platform): State<Platform>, Path(slug): Path<String>) -> Result<StatusCode, ApiError> {
    platform.end_maintenance(&parse_slug(&slug)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
