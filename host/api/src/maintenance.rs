//! `/konnectors/maintenance` of the admin API: konnectors in maintenance, which no schedule starts (Cozy API: admin).

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

/// Options of a maintenance that an operator may set.
const OPTIONS: [&str; 3] = ["flag_short_maintenance", "flag_disallow_manual_exec", "messages"];

/// Returns the routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        op.summary("Lists the konnectors in maintenance").query(
            "Context",
            SchemaKind::String,
            "Any value: also lists the konnectors whose registry reports maintenance",
        )
    });
    let one = put_with(begin, |op| {
        op.summary("Puts a konnector into maintenance")
            .field("flag_short_maintenance", SchemaKind::Boolean, "Whether the maintenance is short")
            .field("flag_disallow_manual_exec", SchemaKind::Boolean, "Whether manual runs are also disallowed")
            .field("messages", SchemaKind::Object, "Messages to users, by language")
            .success::<204, ()>("The konnector is in maintenance")
            .error(422, "The slug is invalid")
    })
    .delete_with(end, |op| {
        op.summary("Ends the maintenance of a konnector")
            .success::<204, ()>("The maintenance has ended")
            .error(422, "The slug is invalid")
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

/// Lists the operator's own maintenance, and with `Context` also that of the registries.
async fn list(State(platform): State<Platform>, params: Params) -> Result<Document, ApiError> {
    let mut resources = Vec::new();
    for maintenance in platform.konnectors().maintenances()? {
        // Our extension.
        let installed = platform.konnectors().is_installed_anywhere(&parse_slug(&maintenance.slug)?)?;
        let resource = resource(&maintenance.slug, &Value::Object(maintenance.options), "stack")?;
        resources.push(resource.attribute("installed", json!(installed)));
    }
    if params.get_non_empty("Context").is_some() {
        for app in platform.registries().maintenances().await? {
            let slug = app.get("slug").and_then(Value::as_str).unwrap_or_default();
            resources.push(resource(slug, app.get("maintenance_options").unwrap_or(&Value::Null), "registry")?);
        }
    }
    Ok(Document::list(resources))
}

fn parse_slug(slug: &str) -> Result<Slug, ApiError> {
    slug.parse().map_err(|_| {
        ApiError::parameter("slug", format!("'{slug}' is not a valid slug: expected lower-case letters, digits and -"))
    })
}

async fn begin(
    State(platform): State<Platform>,
    Path(slug): Path<String>,
    mut attributes: Attributes,
) -> Result<StatusCode, ApiError> {
    let take = |name: &str| attributes.take(name).map(|value| (name.to_owned(), value));
    let options = OPTIONS.into_iter().filter_map(take).collect();
    platform.konnectors().begin_maintenance(&parse_slug(&slug)?, options).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end(State(platform): State<Platform>, Path(slug): Path<String>) -> Result<StatusCode, ApiError> {
    platform.konnectors().end_maintenance(&parse_slug(&slug)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
