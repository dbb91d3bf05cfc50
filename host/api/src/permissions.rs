//! `/permissions`: what the bearer of a token may do (Cozy API: permissions).

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use konnector_platform::Platform;
use konnector_platform::doctype::PERMISSIONS;
use konnector_platform::token::Audience;
use serde_json::json;

use crate::error::Failure;
use crate::extract::Caller;
use crate::jsonapi::{Document, Resource};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    ApiRouter::new()
        .api_route("/permissions/self", get_with(own, |op| op.summary("What the bearer of the token may do")))
}

/// The rules of the caller. Those of a scope have no titles of their own and are called `rule0`, `rule1`, …
async fn own(caller: Caller) -> Result<Document, Failure> {
    let claims = &caller.principal.claims;
    let (kind, source) = match claims.aud {
        Audience::App => ("app", format!("io.cozy.apps/{}", claims.sub)),
        Audience::Konnector => ("konnector", format!("io.cozy.konnectors/{}", claims.sub)),
        Audience::Cli => ("cli", String::new()),
        Audience::Access => ("oauth", format!("io.cozy.oauth.clients/{}", claims.sub)),
    };
    let set = json!({ "type": kind, "source_id": source, "permissions": caller.principal.permissions.to_manifest() });
    Ok(Document::one(Resource::new(PERMISSIONS.as_str(), claims.sub.as_str(), &set)?))
}
