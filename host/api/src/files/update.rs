//! Changes of the metadata and location of a file, including the trash.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::file::{File, FilePatch, TRASH_ID};
use konnector_store::{Map, Rev};
use serde_json::{Value, json};

use super::{ChildrenPage, PageRequest, access, parameters, to_document};
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jsonapi::Document;

/// Maximum number of files on a page of the trash.
const TRASH_PAGE_SIZE: usize = 100;

/// `PATCH /files/:id`.
pub async fn patch(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
    attributes: Attributes,
) -> Result<Response, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Patch, &id)?;
    update(&platform, &caller, file, parameters::if_match(&headers, &params)?, attributes).await
}

/// `PATCH /files/metadata?Path=`.
pub async fn patch_by_path(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    attributes: Attributes,
) -> Result<Response, ApiError> {
    let file = access::find_by_path_parameter(&platform, &caller, Verb::Patch, &params)?;
    update(&platform, &caller, file, parameters::if_match(&headers, &params)?, attributes).await
}

async fn update(
    platform: &Platform,
    caller: &Caller,
    file: File,
    if_match: Option<Rev>,
    mut attributes: Attributes,
) -> Result<Response, ApiError> {
    let if_match = if_match.as_ref();
    if attributes.take_bool("permanent_delete")? {
        access::check_access(platform, caller, Verb::Delete, file.clone())?;
        if file.trashed {
            platform.files().destroy(&caller.instance, &file.id, if_match).await?;
        } else {
            let trashed = platform.files().trash(&caller.instance, &file.id, if_match, &trashed_by(caller)).await?;
            platform.files().destroy(&caller.instance, &file.id, trashed.rev.as_ref()).await?;
        }
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if attributes.take_bool("move_to_trash")? {
        access::check_access(platform, caller, Verb::Delete, file.clone())?;
        let file = platform.files().trash(&caller.instance, &file.id, if_match, &trashed_by(caller)).await?;
        return Ok(to_document(platform, caller, &file).await?.into_response());
    }
    let patch = parse_patch(&mut attributes)?;
    if let Some(dir_id) = &patch.dir_id {
        // A moved file is new in its directory.
        let directory = platform.files().writable_directory(&caller.instance, dir_id);
        let name = patch.name.as_deref().unwrap_or(&file.name);
        access::check_create(platform, caller, dir_id, directory.as_ref().ok(), (file.kind, name))?;
        directory?;
    }
    let changed = patch.preview(&file);
    platform.files().check_permission_gain(&caller.instance, &caller.principal.permissions, &file, &changed)?;
    let file = platform.files().patch(&caller.instance, &file.id, if_match, &patch).await?;
    Ok(to_document(platform, caller, &file).await?.into_response())
}

fn parse_patch(attributes: &mut Attributes) -> Result<FilePatch, ApiError> {
    let flag = |value: Option<Value>, name: &'static str| match value {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(ApiError::attribute(name, format!("the attribute {name} must be true or false"))),
    };
    let object = |value: Option<Value>, name: &'static str| match value {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(ApiError::attribute(name, format!("the attribute {name} must be an object"))),
    };
    let date = |text: Option<String>, name: &'static str| match text.as_deref().map(str::parse) {
        None => Ok(None),
        Some(Ok(date)) => Ok(Some(date)),
        Some(Err(_)) => {
            Err(ApiError::attribute(name, format!("the attribute {name} must be a date such as 2026-11-21T08:00:00Z")))
        }
    };
    let favorite = object(attributes.take("cozyMetadata"), "cozyMetadata")?
        .and_then(|mut members| members.shift_remove("favorite"));
    let patch = FilePatch {
        name: attributes.take_string("name")?,
        dir_id: attributes.take_string("dir_id")?,
        tags: attributes.take_strings("tags")?,
        executable: flag(attributes.take("executable"), "executable")?,
        metadata: object(attributes.take("metadata"), "metadata")?,
        favorite: flag(favorite, "cozyMetadata")?,
        created_at: date(attributes.take_string("created_at")?, "created_at")?,
        updated_at: date(attributes.take_string("updated_at")?, "updated_at")?,
    };
    if patch == FilePatch::default() {
        return Err(ApiError::bad_request(
            "attributes: there is nothing to change; set name, dir_id, tags, executable, metadata, \
             cozyMetadata.favorite, created_at, updated_at, move_to_trash or permanent_delete",
        ));
    }
    Ok(patch)
}

/// Returns the value of `trashedBy` for a caller.
fn trashed_by(caller: &Caller) -> Map {
    let claims = &caller.principal.claims;
    Map::from_iter([
        ("kind".to_owned(), json!("app")),
        ("displayName".to_owned(), json!(claims.sub)),
        ("domain".to_owned(), json!(caller.instance.domain)),
    ])
}

/// `DELETE /files/:id`: moves the file to the trash.
pub async fn move_to_trash(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Document, ApiError> {
    access::find_by_id(&platform, &caller, Verb::Delete, &id)?;
    let if_match = parameters::if_match(&headers, &params)?;
    let file = platform.files().trash(&caller.instance, &id, if_match.as_ref(), &trashed_by(&caller)).await?;
    to_document(&platform, &caller, &file).await
}

/// `GET /files/trash?page[cursor]=`.
pub async fn list_trash(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
) -> Result<Document, ApiError> {
    access::find_by_id(&platform, &caller, Verb::Get, TRASH_ID)?;
    let limit = params.number("page[limit]")?.unwrap_or(TRASH_PAGE_SIZE).clamp(1, TRASH_PAGE_SIZE);
    let children = ChildrenPage::read(
        &platform,
        &caller,
        TRASH_ID,
        PageRequest { limit, ..PageRequest::parse(&params, TRASH_ID)? },
    )
    .await?;
    Ok(Document::list(children.resources).with_count(children.total).next(
        children.next.map(|next| next.replace("/files/io.cozy.files.trash-dir/relationships/contents", "/files/trash")),
    ))
}

/// `POST /files/trash/:id`: restores the file from the trash.
pub async fn restore(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Document, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Post, &id)?;
    let if_match = parameters::if_match(&headers, &params)?;
    if file.trashed {
        platform.files().check_restore_permission_gain(&caller.instance, &caller.principal.permissions, &file)?;
    }
    let file = platform.files().restore(&caller.instance, &id, if_match.as_ref()).await?;
    to_document(&platform, &caller, &file).await
}

/// `DELETE /files/trash/:id`: deletes the file permanently.
pub async fn delete_permanently(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    access::find_by_id(&platform, &caller, Verb::Delete, &id)?;
    let if_match = parameters::if_match(&headers, &params)?;
    platform.files().destroy(&caller.instance, &id, if_match.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /files/trash`: deletes the whole trash permanently.
pub async fn empty_trash(State(platform): State<Platform>, caller: Caller) -> Result<StatusCode, ApiError> {
    access::find_by_id(&platform, &caller, Verb::Delete, TRASH_ID)?;
    platform.files().empty_trash(&caller.instance).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /files/:id/copy?Name=&DirID=`.
pub async fn copy(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<(StatusCode, Document), ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Get, &id)?;
    let dir_id = params.get_non_empty("DirID").unwrap_or(&file.dir_id);
    let directory = platform.files().writable_directory(&caller.instance, dir_id);
    let name = params.get_non_empty("Name").unwrap_or(&file.name);
    access::check_create(&platform, &caller, dir_id, directory.as_ref().ok(), (file.kind, name))?;
    let copy = platform.files().copy(&caller.instance, &file, params.get_non_empty("Name"), Some(dir_id)).await?;
    Ok((StatusCode::CREATED, to_document(&platform, &caller, &copy).await?))
}
