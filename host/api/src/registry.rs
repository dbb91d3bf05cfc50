//! `/registry`: the operator's registries, for the app from which people install konnectors (Cozy API, registry
//! proxy, §2.11).

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::konnector::RegistryResponse;
use konnector_platform::principal::Audience;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Caller, Params};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind};

/// Doctype for which a token needs a rule to read versions.
const APPS_DOCTYPE: &str = "io.cozy.apps";

/// Returns the routes of this module, which wait for another server.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        registry_operation(op.summary("Lists the konnectors that can be installed"))
            .query("limit", SchemaKind::Number, "Maximum number of konnectors on a page")
            .query("cursor", SchemaKind::String, "next_cursor of the previous page")
    });
    let image_route = || {
        get_with(image, |op| {
            registry_operation(op.summary("Returns a picture of a konnector"))
                .success::<200, BinaryContent>("The picture")
        })
    };
    let version = || {
        let description = "The version, as its registry describes it";
        get_with(version, |op| {
            registry_operation(op.summary("Returns a version of a konnector")).success::<200, Json<Value>>(description)
        })
    };
    ApiRouter::new()
        .api_route("/registry", all.clone())
        .api_route("/registry/", all)
        .api_route(
            "/registry/maintenance",
            get_with(maintenances, |op| registry_operation(op.summary("Lists the konnectors in maintenance"))),
        )
        .api_route(
            "/registry/{app}",
            get_with(app, |op| registry_operation(op.summary("Returns a konnector and its versions"))),
        )
        .api_route("/registry/{app}/icon", image_route())
        .api_route("/registry/{app}/partnership_icon", image_route())
        .api_route("/registry/{app}/screenshots/{file}", image_route())
        .api_route("/registry/{app}/{version}", version())
        .api_route("/registry/{app}/{version}/latest", version())
        .api_route("/registry/{app}/{version}/icon", image_route())
        .api_route("/registry/{app}/{version}/partnership_icon", image_route())
        .api_route("/registry/{app}/{version}/screenshots/{file}", image_route())
}

/// Adds the common description of all reads from registries.
fn registry_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.error(502, "A registry returned an unexpected response")
}

/// Checks that the caller is an app or an OAuth client, or has all permissions.
fn check_reader(caller: &Caller) -> Result<(), ApiError> {
    let is_person = matches!(caller.principal.claims.aud, Audience::App | Audience::Access);
    if is_person || caller.principal.permissions.is_everything() {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "only apps and OAuth clients may read the registry; use one of their tokens, or a token with all permissions",
    ))
}

/// Returns the requested path below `/registry/`, with its query.
fn registry_path(uri: &Uri) -> &str {
    let path = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    path.strip_prefix("/registry/").unwrap_or_default()
}

fn proxy_response(RegistryResponse { content_type, body }: RegistryResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        // Without this policy, browsers run scripts in an SVG from a third party.
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'".to_owned()),
    ];
    (headers, body).into_response()
}

async fn list(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, ApiError> {
    check_reader(&caller)?;
    let mut page = platform.registries().list(&params.without("cursor"), params.get("cursor")).await?;
    for app in &mut page.apps {
        overlay_maintenance(&platform, app)?;
    }
    let next = page.next_cursor.unwrap_or_default();
    Ok(Json(json!({ "meta": { "count": page.apps.len(), "next_cursor": next }, "data": page.apps })))
}

/// Adds the operator's own maintenance as if the registry reported it.
fn overlay_maintenance(platform: &Platform, app: &mut Value) -> Result<(), ApiError> {
    let slug = app.get("slug").and_then(Value::as_str).and_then(|slug| slug.parse().ok());
    let maintenance = slug.map(|slug| platform.konnectors().maintenance(&slug)).transpose()?.flatten();
    if let (Some(maintenance), Some(fields)) = (maintenance, app.as_object_mut()) {
        fields.insert("maintenance_activated".to_owned(), json!(true));
        fields.insert("maintenance_options".to_owned(), Value::Object(maintenance.options));
    }
    Ok(())
}

async fn maintenances(State(platform): State<Platform>, caller: Caller) -> Result<Json<Vec<Value>>, ApiError> {
    check_reader(&caller)?;
    let mut apps = platform.registries().maintenances().await?;
    for maintenance in platform.konnectors().maintenances()? {
        apps.retain(|app| app.get("slug").and_then(Value::as_str) != Some(&maintenance.slug));
        apps.push(json!({
            "slug": maintenance.slug,
            "type": "konnector",
            "maintenance_activated": true,
            "maintenance_options": maintenance.options,
        }));
    }
    Ok(Json(apps))
}

async fn app(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Json<Value>, ApiError> {
    check_reader(&caller)?;
    let found = platform.registries().proxy(registry_path(&uri)).await?;
    let mut app = serde_json::from_slice(&found.body)
        .map_err(|error| ApiError::bad_gateway(format!("the registry did not return valid JSON: {error}")))?;
    overlay_maintenance(&platform, &mut app)?;
    Ok(Json(app))
}

async fn image(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Response, ApiError> {
    check_reader(&caller)?;
    Ok(proxy_response(platform.registries().proxy(registry_path(&uri)).await?))
}

async fn version(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Response, ApiError> {
    check_reader(&caller)?;
    let apps: Doctype = APPS_DOCTYPE.parse().map_err(|error| ApiError::server(format!("{error}")))?;
    caller.check_type(Verb::Get, &apps)?;
    Ok(proxy_response(platform.registries().proxy(registry_path(&uri)).await?))
}
