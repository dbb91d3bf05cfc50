//! Access of callers to files; [`Files::is_allowed`](konnector_platform::Files::is_allowed) evaluates the rules.

use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, FileKind, Version};
use konnector_platform::principal::Audience;
use konnector_store::Map;

use crate::error::ApiError;
use crate::extract::{Caller, Params};

/// Returns a file by its id, if the caller has a rule for it.
pub fn find_by_id(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<File, ApiError> {
    match platform.files().get(&caller.instance, id) {
        Ok(file) => check_access(platform, caller, verb, file),
        Err(missing) => {
            // Do not reveal existence to callers without read access.
            caller.check_document(verb, &FILES, id, &Map::new())?;
            Err(missing.into())
        }
    }
}

/// Returns a file by the path in the parameter `Path`, if the caller has a rule for it.
pub fn find_by_path_parameter(
    platform: &Platform,
    caller: &Caller,
    verb: Verb,
    params: &Params,
) -> Result<File, ApiError> {
    caller.check_any(verb, &FILES)?;
    let path = params
        .get_non_empty("Path")
        .ok_or_else(|| ApiError::parameter("Path", "Path: the parameter is missing; set it to an absolute path"))?;
    find_by_path(platform, caller, verb, path)
}

/// Returns a file by its path, if the caller has a rule for it.
pub fn find_by_path(platform: &Platform, caller: &Caller, verb: Verb, path: &str) -> Result<File, ApiError> {
    caller.check_any(verb, &FILES)?;
    let file = platform.files().get_by_path(&caller.instance, path)?;
    check_access(platform, caller, verb, file)
}

/// Returns 404 to konnectors for a file whose content is lost, so that they fetch it again, as in their other
/// interfaces. Other callers see the file, so that its user can repair it.
pub async fn check_content(platform: &Platform, caller: &Caller, file: &File) -> Result<(), ApiError> {
    if caller.principal.claims.aud != Audience::Konnector || platform.files().has_content(file).await? {
        return Ok(());
    }
    Err(ApiError::request(StatusCode::NOT_FOUND, format!("the content of '{}' is lost; save it again", file.name)))
}

/// Returns the file with a name whose content is lost, if the konnector may rewrite it.
pub async fn child_without_content(
    platform: &Platform,
    caller: &Caller,
    directory: &File,
    name: &str,
) -> Result<Option<File>, ApiError> {
    let Some(found) = platform.files().child(&caller.instance, &directory.id, name)? else { return Ok(None) };
    if check_content(platform, caller, &found).await.is_ok() {
        return Ok(None);
    }
    check_access(platform, caller, Verb::Put, found).map(Some)
}

/// Returns a version by the id of its file and the revision part of its own id, if the caller has a rule for the
/// file.
pub fn find_version(
    platform: &Platform,
    caller: &Caller,
    verb: Verb,
    id: &str,
    rev: &str,
) -> Result<Version, ApiError> {
    let file = find_by_id(platform, caller, verb, id)?;
    Ok(platform.files().version(&caller.instance, &format!("{}/{rev}", file.id))?)
}

/// Returns a file whose content the caller may read; for the id of a version, the file as of that version.
pub fn find_readable(platform: &Platform, caller: &Caller, id: &str) -> Result<File, ApiError> {
    match id.split_once('/') {
        None => find_by_id(platform, caller, Verb::Get, id),
        Some((id, rev)) => {
            let version = find_version(platform, caller, Verb::Get, id, rev)?;
            Ok(version.apply_to(platform.files().get(&caller.instance, id)?))
        }
    }
}

/// Rejects callers who may not create this file in a directory; `None` if the directory is missing.
pub fn check_create(
    platform: &Platform,
    caller: &Caller,
    dir_id: &str,
    directory: Option<&File>,
    (kind, name): (FileKind, &str),
) -> Result<(), ApiError> {
    let rules = &caller.principal.permissions;
    match directory {
        Some(directory) if platform.files().is_new_file_allowed(&caller.instance, rules, directory, kind, name)? => {
            Ok(())
        }
        _ => caller.check_document(Verb::Post, &FILES, dir_id, &Map::new()),
    }
}

/// Like [`check_create`], for a directory that may be created together with its ancestors; the deepest existing
/// directory decides.
pub fn check_create_path(platform: &Platform, caller: &Caller, path: &str) -> Result<(), ApiError> {
    caller.check_any(Verb::Post, &FILES)?;
    let mut path = path;
    loop {
        match platform.files().get_by_path(&caller.instance, if path.is_empty() { "/" } else { path }) {
            Ok(directory) => {
                return check_create(platform, caller, &directory.id, Some(&directory), (FileKind::Directory, ""));
            }
            Err(konnector_platform::Error::NotFound(_)) => {
                path = path.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the file, or rejects callers without a rule for it.
pub fn check_access(platform: &Platform, caller: &Caller, verb: Verb, file: File) -> Result<File, ApiError> {
    if platform.files().is_allowed(&caller.instance, &caller.principal.permissions, &[verb], &file)? {
        return Ok(file);
    }
    caller.check_document(verb, &FILES, &file.id, &Map::new())?;
    Ok(file)
}
