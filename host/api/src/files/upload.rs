//! Creation of files and directories, and uploads of their content.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{FILES, UPLOAD_METADATA};
use konnector_platform::file::{File, FileKind, NewContent, ROOT_ID, WrittenContent, parse_path};

use super::{access, parameters, to_document};
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, Params};
use crate::jsonapi::{Document, Resource};

/// Maximum time between two parts of an upload.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// `POST /files/[:dir]?Type=file|directory&Name=…`.
pub async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    dir: Option<Path<String>>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Document), ApiError> {
    let dir_id = dir.map_or_else(|| ROOT_ID.to_owned(), |Path(id)| id);
    let file = match params.get("Type").unwrap_or_default().to_ascii_lowercase().as_str() {
        "file" => create_file(&platform, &caller, &dir_id, &params, &headers, body).await?,
        "directory" => create_directory(&platform, &caller, &dir_id, &params, &headers).await?,
        _ => {
            return Err(ApiError::attribute(
                "type",
                "Type: the parameter is missing or unknown; set it to file or directory",
            ));
        }
    };
    Ok((StatusCode::CREATED, to_document(&platform, &caller, &file).await?))
}

async fn create_directory(
    platform: &Platform,
    caller: &Caller,
    dir_id: &str,
    params: &Params,
    headers: &HeaderMap,
) -> Result<File, ApiError> {
    let instance = &caller.instance;
    if let Some(path) = params.get_non_empty("Path") {
        let mut names = parse_path(path)?;
        let name = names.pop().ok_or_else(|| {
            ApiError::request(
                StatusCode::CONFLICT,
                "Path: the root directory exists already; name a directory below it",
            )
        })?;
        let parent = format!("/{}", names.join("/"));
        access::check_create_path(platform, caller, &parent)?;
        let parent = match params.flag("Recursive", false) {
            true => platform.files().ensure_directory(instance, &parent).await?,
            false => platform.files().get_by_path(instance, &parent)?,
        };
        return Ok(platform
            .files()
            .create_directory_with(instance, &parent.id, parameters::new_directory(caller, params, headers, &name)?)
            .await?);
    }
    let parent = platform.files().writable_directory(instance, dir_id);
    let name = params.get("Name").unwrap_or_default();
    access::check_create(platform, caller, dir_id, parent.as_ref().ok(), (FileKind::Directory, name))?;
    Ok(platform
        .files()
        .create_directory_with(instance, &parent?.id, parameters::new_directory(caller, params, headers, name)?)
        .await?)
}

async fn create_file(
    platform: &Platform,
    caller: &Caller,
    dir_id: &str,
    params: &Params,
    headers: &HeaderMap,
    body: Body,
) -> Result<File, ApiError> {
    let directory = platform.files().writable_directory(&caller.instance, dir_id);
    let name = params.get("Name").unwrap_or_default();
    access::check_create(platform, caller, dir_id, directory.as_ref().ok(), (FileKind::File, name))?;
    let name = &konnector_platform::file::validate_name(name)?;
    let directory = directory?;
    let new = parameters::new_content(platform, caller, params, headers, (directory.id.clone(), name.clone()))?;
    if let Some(existing) = access::child_without_content(platform, caller, &directory, name).await? {
        let (blob, mime) = receive(platform, caller, name, params, headers, body).await?;
        let new = NewContent { id: existing.id, if_match: existing.rev, mime, ..new };
        return Ok(platform.files().overwrite(&caller.instance, &new, &blob).await?);
    }
    platform.files().check_name_free(&caller.instance, &directory.id, name)?;
    let (blob, mime) = receive(platform, caller, name, params, headers, body).await?;
    Ok(platform.files().create(&caller.instance, &NewContent { mime, ..new }, &blob).await?)
}

/// `PUT /files/:id`: replaces the content.
pub async fn overwrite(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Document, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Put, &id)?;
    if file.kind == FileKind::Directory {
        return Err(ApiError::bad_request(format!("'{}' is a directory and has no content", file.name)));
    }
    let if_match = parameters::if_match(&headers, &params)?;
    konnector_platform::file::check_precondition(&file, if_match.as_ref())?;
    let new = parameters::new_content(&platform, &caller, &params, &headers, (file.dir_id.clone(), file.name.clone()))?;
    let (blob, mime) = receive(&platform, &caller, &file.name, &params, &headers, body).await?;
    let metadata = if new.metadata.is_empty() { file.metadata.clone() } else { new.metadata.clone() };
    let new = NewContent { id: id.clone(), if_match, mime, metadata, ..new };
    let file = platform.files().overwrite(&caller.instance, &new, &blob).await?;
    to_document(&platform, &caller, &file).await
}

/// `POST /files/upload/metadata`: stores metadata for an upload that passes the returned id as `MetadataID`.
pub async fn metadata(
    State(platform): State<Platform>,
    caller: Caller,
    attributes: Attributes,
) -> Result<(StatusCode, Document), ApiError> {
    caller.check_any(Verb::Post, &FILES).or_else(|_| caller.check_any(Verb::Put, &FILES))?;
    let metadata = attributes.into_map();
    let id = platform.files().save_upload_metadata(&caller.instance, metadata.clone()).await?;
    Ok((StatusCode::CREATED, Document::one(Resource::new(UPLOAD_METADATA.as_str(), id, &metadata)?)))
}

/// Receives the content of a file, and verifies the announced size and checksum. Returns the content and its media
/// type.
async fn receive(
    platform: &Platform,
    caller: &Caller,
    name: &str,
    params: &Params,
    headers: &HeaderMap,
    body: Body,
) -> Result<(WrittenContent, String), ApiError> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // The parameter counts only if there is no Content-Length (Cozy API, files).
    let announced = length.or(params.number("Size")?.map(|size| size as u64));
    let digest = content_md5(headers)?;
    let declared_mime = parameters::media_type(headers.get(CONTENT_TYPE))?;
    let mut content = platform.files().create_content_writer(&caller.instance).await?;
    if let Some(size) = announced
        && content.reserve(size).is_err()
    {
        let remaining = platform.files().remaining_space(&caller.instance).await?;
        let message = format!("the file is {size} bytes long, but only {remaining} bytes of the quota are left");
        return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let mut parts = body.into_data_stream();
    loop {
        let part = tokio::time::timeout(IDLE_TIMEOUT, parts.next()).await.map_err(|_| {
            let message = format!("the client sent no data for {} s; the file was not stored", IDLE_TIMEOUT.as_secs());
            ApiError::request(StatusCode::REQUEST_TIMEOUT, message)
        })?;
        match part {
            None => break,
            Some(Ok(part)) => content.write(part).await.map_err(konnector_platform::Error::from)?,
            Some(Err(error)) => {
                return Err(ApiError::precondition("Content-Length", format!("the upload was interrupted: {error}")));
            }
        }
    }
    let mime = declared_mime.unwrap_or_else(|| content.mime(name));
    let blob = content.finish().await?;
    let rejection = match (announced, digest) {
        (Some(size), _) if size != blob.size => Some(ApiError::precondition(
            "Content-Length",
            format!("Content-Length: {size} bytes were announced, but {} were received", blob.size),
        )),
        (_, Some(digest)) if digest != blob.md5 => Some(ApiError::precondition(
            "Content-MD5",
            format!("Content-MD5: the value does not match the content, whose MD5 is {}", STANDARD.encode(blob.md5)),
        )),
        _ => None,
    };
    match rejection {
        None => Ok((blob, mime)),
        Some(rejection) => {
            platform.files().discard_content(&blob.id).await?;
            Err(rejection)
        }
    }
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, ApiError> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(value.as_bytes()).ok().and_then(|digest| digest.try_into().ok());
    let invalid = || ApiError::parameter("Content-MD5", "Content-MD5: the value is not a valid MD5 in base64");
    digest.map(Some).ok_or_else(invalid)
}
