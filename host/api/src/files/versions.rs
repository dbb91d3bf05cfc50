//! Versions of a file (Cozy API, files: versions).

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, patch_with, post_with};
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{FILES, VERSIONS};
use konnector_platform::file::{Version, upload_provenance};
use serde_json::json;

use super::routes::REV_DESCRIPTION;
use super::{access, parameters, to_document};
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jsonapi::{Document, Resource};
use crate::openapi::{Describe as _, SchemaKind};

pub fn routes() -> ApiRouter<Platform> {
    const CONFLICT_DESCRIPTION: &str = "Concurrent modification";
    let create = post_with(create, |op| {
        op.summary("Replaces the metadata of a file, and keeps the old state as a version")
            .description("The attributes are the metadata.")
            .header("If-Match", REV_DESCRIPTION)
            .error(409, CONFLICT_DESCRIPTION)
            .error(412, CONFLICT_DESCRIPTION)
            .error(413, "The quota is exceeded")
    });
    let revert = post_with(revert, |op| {
        op.summary("Reverts a file to a version; the current content becomes a version")
            .header("If-Match", REV_DESCRIPTION)
            .error(409, CONFLICT_DESCRIPTION)
            .error(412, CONFLICT_DESCRIPTION)
    });
    let one = patch_with(patch, |op| {
        op.summary("Changes the tags of a version").field("tags", SchemaKind::Strings, "New tags of the version")
    })
    .delete_with(delete, |op| {
        op.summary("Deletes a version").success::<204, ()>("The version is deleted").error(409, CONFLICT_DESCRIPTION)
    });
    let all = delete_with(delete_all, |op| {
        op.summary("Deletes all versions of all files")
            .success::<204, ()>("The versions are deleted")
            .error(409, CONFLICT_DESCRIPTION)
    });
    ApiRouter::new()
        .api_route("/files/versions", all)
        .api_route("/files/{id}/versions", create)
        .api_route("/files/revert/{id}/{version}", revert)
        .api_route("/files/{id}/{version}", one)
}

/// Returns the JSON:API resource of a version.
pub fn resource(version: &Version) -> Result<Resource, ApiError> {
    let rev = version.rev.as_ref().map(ToString::to_string).unwrap_or_default();
    let file = json!({ "data": { "type": FILES.as_str(), "id": version.file_id } });
    let resource = Resource::new(VERSIONS.as_str(), version.id.as_str(), version)?.rev(&rev);
    Ok(resource.without_attribute("relationships").relationship("file", file))
}

/// `POST /files/:id/versions`: replaces the metadata; the content stays the same.
async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
    attributes: Attributes,
) -> Result<Document, ApiError> {
    access::find_by_id(&platform, &caller, Verb::Put, &id)?;
    let (if_match, origin) =
        (parameters::if_match(&headers, &params)?, upload_provenance(&caller.principal.claims.sub));
    let file = platform.files().annotate(&caller.instance, &id, if_match, attributes.into_map(), origin).await?;
    to_document(&platform, &caller, &file).await
}

/// `POST /files/revert/:id/:version`.
async fn revert(
    State(platform): State<Platform>,
    caller: Caller,
    Path((id, rev)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Document, ApiError> {
    let version = access::find_version(&platform, &caller, Verb::Put, &id, &rev)?;
    let if_match = parameters::if_match(&headers, &params)?;
    let file = platform.files().revert(&caller.instance, version, if_match.as_ref()).await?;
    to_document(&platform, &caller, &file).await
}

/// `PATCH /files/:id/:version`: changes the tags of the version.
async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path((id, rev)): Path<(String, String)>,
    mut attributes: Attributes,
) -> Result<Document, ApiError> {
    let version = access::find_version(&platform, &caller, Verb::Patch, &id, &rev)?;
    // Without this check, a mistyped attribute would remove the tags.
    let missing = || ApiError::attribute("tags", "tags: the attribute is missing; set it to the new tags, or to []");
    let tags = attributes.take_strings("tags")?.ok_or_else(missing)?;
    let version = platform.files().tag_version(&caller.instance, &version.id, &tags).await?;
    Ok(Document::one(resource(&version)?))
}

/// `DELETE /files/:id/:version`.
async fn delete(
    State(platform): State<Platform>,
    caller: Caller,
    Path((id, rev)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let version = access::find_version(&platform, &caller, Verb::Delete, &id, &rev)?;
    platform.files().delete_version(&caller.instance, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /files/versions`: deletes the versions of every file.
async fn delete_all(State(platform): State<Platform>, caller: Caller) -> Result<StatusCode, ApiError> {
    caller.check_type(Verb::Delete, &FILES)?;
    platform.files().delete_versions(&caller.instance).await?;
    Ok(StatusCode::NO_CONTENT)
}
