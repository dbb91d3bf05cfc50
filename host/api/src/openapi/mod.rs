//! Description of the routes (OpenAPI 3.1), generated from the routes and served along with them.
//!
//! A handler is routed with [`ApiRouter::api_route`], together with its operation. Most of the operation is derived
//! from the types that the handler takes and returns ([`types`]). The route adds the rest with [`Describe`]. Errors are
//! added in one place, for a whole group of routes ([`errors`]).

mod describe;
mod errors;
mod types;

use std::sync::{Arc, OnceLock};

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::generate::in_context;
use aide::openapi::{Info, OpenApi, Operation, PathItem, ReferenceOr, Response, SecurityScheme};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema};
use aide::transform::{TransformOpenApi, TransformPathItem};
use axum::{Json, Router};
use konnector_platform::Platform;
use schemars::json_schema;
use serde_json::{Value, json};

use crate::error::ApiError;

pub use describe::{BinaryContent, Describe, SchemaKind, ServerSentEvents, query_fields};
pub use errors::{ErrorFormat, with_errors};

/// Name of the only security scheme.
const TOKEN_SCHEME: &str = "token";

/// Serves the public API with its description. Operations whose handlers take a
/// [`Caller`](crate::extract::Caller) need a token.
pub fn public(routes: ApiRouter<Platform>) -> Router<Platform> {
    let token =
        http_scheme("bearer", "A token; also accepted as the password of HTTP Basic, or as the parameter bearer_token");
    serve_description("konnector", token, routes, |item| item)
}

/// Serves the admin API with its description. Every operation needs the passphrase, which a layer checks.
pub fn admin(routes: ApiRouter<Platform>) -> Router<Platform> {
    let passphrase = http_scheme("basic", "The operator's passphrase, with any user name");
    serve_description("konnector, for operators", passphrase, routes, |mut item| {
        for (_, operation) in operations(item.inner_mut()) {
            require_token(operation);
        }
        item
    })
}

fn http_scheme(scheme: &str, description: &str) -> SecurityScheme {
    let (scheme, description) = (scheme.to_owned(), Some(description.to_owned()));
    SecurityScheme::Http { scheme, description, bearer_format: None, extensions: Default::default() }
}

/// Marks an operation as requiring a token.
fn require_token(operation: &mut Operation) {
    operation.security = vec![[(TOKEN_SCHEME.to_owned(), Vec::new())].into_iter().collect()];
}

/// Creates the description of the routes, and serves it at `/openapi.json`.
fn serve_description(
    title: &str,
    scheme: SecurityScheme,
    routes: ApiRouter<Platform>,
    secured: impl Fn(TransformPathItem<'_>) -> TransformPathItem<'_>,
) -> Router<Platform> {
    let description: Arc<OnceLock<OpenApi>> = Arc::default();
    let handler = {
        let description = Arc::clone(&description);
        async move || {
            serde_json::to_value(description.get()).map(Json).map_err(|error| ApiError::server(error.to_string()))
        }
    };
    let route = get_with(handler, |op| {
        op.summary("Returns the description of the API")
            .success::<200, Json<Value>>("The description, as an OpenAPI 3.1 document")
    });
    let info = Info { title: title.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), ..Info::default() };
    let mut api = OpenApi { info, ..OpenApi::default() };
    let routes = routes.api_route("/openapi.json", route).with_path_items(secured);
    let routes = with_errors(routes, ErrorFormat::JsonApi)
        .finish_api_with(&mut api, |api| complete_description(api.security_scheme(TOKEN_SCHEME, scheme)));
    // Nothing else sets it.
    description.get_or_init(|| api);
    routes
}

/// Adds the parts that are derived from the paths alone: id and tag of each operation, and its path parameters. A
/// response without a description gets a default description.
fn complete_description(mut api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let paths = api.inner_mut().paths.iter_mut().flat_map(|paths| &mut paths.paths);
    for (path, item) in paths {
        let ReferenceOr::Item(item) = item else { continue };
        for (method, operation) in operations(item) {
            operation.operation_id = Some(format!("{method}{}", path.replace(|c: char| !c.is_alphanumeric(), "_")));
            for response in operation.responses.iter_mut().flat_map(|responses| responses.responses.values_mut()) {
                if let ReferenceOr::Item(Response { description, .. }) = response
                    && description.is_empty()
                {
                    "Success".clone_into(description);
                }
            }
            operation.tags.extend(path.split('/').nth(1).map(str::to_owned));
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let schema = json_schema!({ "properties": { name: path_parameter_schema(name) }, "required": [name] });
                in_context(|ctx| {
                    let parameter = parameters_from_schema(ctx, schema, ParamLocation::Path);
                    add_parameters(ctx, operation, parameter);
                });
            }
        }
    }
    api
}

/// Returns the schema of a path parameter by its name.
fn path_parameter_schema(name: &str) -> Value {
    match name {
        "doctype" => {
            json!({
                "type": "string",
                "pattern": "^[a-z0-9_]+(\\.[a-z0-9_]+)*$",
                "description": "A doctype, for example io.cozy.bills",
            })
        }
        "slug" => json!({ "type": "string", "pattern": "^[a-z0-9-]+$", "description": "Slug of a konnector" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// Returns the operations of a path, with their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, head, post, put, patch, delete, .. } = item;
    [("get", get), ("head", head), ("post", post), ("put", put), ("patch", patch), ("delete", delete)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
