//! `/registry`: the operator's registries, for the app from which people install (Cozy API, registry proxy, §2.11).

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
use konnector_platform::konnector::Proxied;
use konnector_platform::token::Audience;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::{Caller, Params};
use crate::openapi::{Content, Describe as _, Kind};

/// What a token needs a rule for to see versions.
const APPS: &str = "io.cozy.apps";

/// The routes of this module. They wait for another server.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        reading(op.summary("What can be installed"))
            .query("limit", Kind::Number, "The most konnectors on a page")
            .query("cursor", Kind::Text, "next_cursor of the page before")
    });
    let picture = || {
        get_with(picture, |op| reading(op.summary("A picture of a konnector")).answers::<200, Content>("The picture"))
    };
    let version = || {
        let what = "The version, as its registry describes it";
        get_with(version, |op| reading(op.summary("A version of a konnector")).answers::<200, Json<Value>>(what))
    };
    ApiRouter::new()
        .api_route("/registry", all.clone())
        .api_route("/registry/", all)
        .api_route(
            "/registry/maintenance",
            get_with(maintenances, |op| reading(op.summary("The konnectors in maintenance"))),
        )
        .api_route("/registry/{app}", get_with(app, |op| reading(op.summary("What can be installed of a konnector"))))
        .api_route("/registry/{app}/icon", picture())
        .api_route("/registry/{app}/partnership_icon", picture())
        .api_route("/registry/{app}/screenshots/{file}", picture())
        .api_route("/registry/{app}/{version}", version())
        .api_route("/registry/{app}/{version}/latest", version())
        .api_route("/registry/{app}/{version}/icon", picture())
        .api_route("/registry/{app}/{version}/partnership_icon", picture())
        .api_route("/registry/{app}/{version}/screenshots/{file}", picture())
}

/// What is common to all that is read of registries.
fn reading(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.fails(502, "A registry answers with something else than expected")
}

/// Apps and clients of people, and nobody else.
fn check_reader(caller: &Caller) -> Result<(), Failure> {
    let person = matches!(caller.principal.claims.aud, Audience::App | Audience::Access);
    if person || caller.principal.permissions.is_everything() {
        return Ok(());
    }
    Err(Failure::forbidden("only apps and OAuth clients read the registry; use a token of one, or one for everything"))
}

/// What was asked for, below `/registry/`.
fn below(uri: &Uri) -> &str {
    let asked = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    asked.strip_prefix("/registry/").unwrap_or_default()
}

fn answer(Proxied { content_type, body }: Proxied) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        // An SVG of somebody else is a program if the browser lets it.
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'".to_owned()),
    ];
    (headers, body).into_response()
}

async fn list(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Json<Value>, Failure> {
    check_reader(&caller)?;
    let mut page = platform.registry_list(&params.but("cursor"), params.text("cursor")).await?;
    for app in &mut page.apps {
        overlay(&platform, app)?;
    }
    let next = page.next_cursor.unwrap_or_default();
    Ok(Json(json!({ "meta": { "count": page.apps.len(), "next_cursor": next }, "data": page.apps })))
}

/// The operator's own maintenance is shown as if the registry told of it.
fn overlay(platform: &Platform, app: &mut Value) -> Result<(), Failure> {
    let slug = app.get("slug").and_then(Value::as_str).and_then(|slug| slug.parse().ok());
    let maintenance = slug.map(|slug| platform.maintenance(&slug)).transpose()?.flatten();
    if let (Some(maintenance), Some(members)) = (maintenance, app.as_object_mut()) {
        members.insert("maintenance_activated".to_owned(), json!(true));
        members.insert("maintenance_options".to_owned(), Value::Object(maintenance.options));
    }
    Ok(())
}

async fn maintenances(State(platform): State<Platform>, caller: Caller) -> Result<Json<Vec<Value>>, Failure> {
    check_reader(&caller)?;
    let mut apps = platform.registry_maintenances().await?;
    for maintenance in platform.maintenances()? {
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

async fn app(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Json<Value>, Failure> {
    check_reader(&caller)?;
    let found = platform.registry(below(&uri)).await?;
    let mut app = serde_json::from_slice(&found.body)
        .map_err(|error| Failure::bad_gateway(format!("the registry answers with no JSON: {error}")))?;
    overlay(&platform, &mut app)?;
    Ok(Json(app))
}

async fn picture(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    check_reader(&caller)?;
    Ok(answer(platform.registry(below(&uri)).await?))
}

async fn version(State(platform): State<Platform>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    check_reader(&caller)?;
    let apps: Doctype = APPS.parse().map_err(|error| Failure::server(format!("{error}")))?;
    caller.check_type(Verb::Get, &apps)?;
    Ok(answer(platform.registry(below(&uri)).await?))
}
