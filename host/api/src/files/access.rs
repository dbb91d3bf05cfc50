//! Which files a caller may reach: [`Platform::reaches`] says what a rule is about.

use http::StatusCode;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, Kind, Version};
use konnector_platform::token::Audience;
use konnector_store::Map;

use crate::error::Failure;
use crate::extract::{Caller, Params};

/// A file by its id, if the caller may reach it.
pub fn by_id(platform: &Platform, caller: &Caller, verb: Verb, id: &str) -> Result<File, Failure> {
    match platform.file(&caller.instance, id) {
        Ok(file) => reachable(platform, caller, verb, file),
        Err(missing) => {
            // Whether it exists is told only to those who may know.
            caller.check_document(verb, &FILES, id, &Map::new())?;
            Err(missing.into())
        }
    }
}

/// A file by the path in the parameter `Path`, if the caller may reach it.
pub fn by_path(platform: &Platform, caller: &Caller, verb: Verb, params: &Params) -> Result<File, Failure> {
    caller.check_any(verb, &FILES)?;
    let path =
        params.filled("Path").ok_or_else(|| Failure::parameter("Path", "give the parameter Path, an absolute path"))?;
    at_path(platform, caller, verb, path)
}

/// A file by its path, if the caller may reach it.
pub fn at_path(platform: &Platform, caller: &Caller, verb: Verb, path: &str) -> Result<File, Failure> {
    caller.check_any(verb, &FILES)?;
    let file = platform.file_by_path(&caller.instance, path)?;
    reachable(platform, caller, verb, file)
}

/// Refuses a konnector a file whose content is lost, as if it were not there: it fetches it again then, as it does through its other doors.
/// People are shown the file, so that they can do something about it.
pub async fn present(platform: &Platform, caller: &Caller, file: &File) -> Result<(), Failure> {
    if caller.principal.claims.aud != Audience::Konnector || platform.has_content(file).await? {
        return Ok(());
    }
    Err(Failure::request(StatusCode::NOT_FOUND, format!("the content of '{}' is lost; save it again", file.name)))
}

/// The file of a name whose content is lost and may be written anew by this konnector.
pub async fn lost_child(
    platform: &Platform,
    caller: &Caller,
    directory: &File,
    name: &str,
) -> Result<Option<File>, Failure> {
    let Some(found) = platform.child(&caller.instance, &directory.id, name)? else { return Ok(None) };
    if present(platform, caller, &found).await.is_ok() {
        return Ok(None);
    }
    reachable(platform, caller, Verb::Put, found).map(Some)
}

/// A version by the id of its file and the revision that is the rest of its own, if the caller may reach the file.
pub fn version(platform: &Platform, caller: &Caller, verb: Verb, id: &str, rev: &str) -> Result<Version, Failure> {
    let file = by_id(platform, caller, verb, id)?;
    Ok(platform.version(&caller.instance, &format!("{}/{rev}", file.id))?)
}

/// A file whose content the caller may read; by the id of a version, the file as it was.
pub fn content(platform: &Platform, caller: &Caller, id: &str) -> Result<File, Failure> {
    match id.split_once('/') {
        None => by_id(platform, caller, Verb::Get, id),
        Some((id, rev)) => {
            let former = version(platform, caller, Verb::Get, id, rev)?;
            Ok(former.restored(platform.file(&caller.instance, id)?))
        }
    }
}

/// Refuses whoever may not create something in a directory, which may be missing.
pub fn new_child(
    platform: &Platform,
    caller: &Caller,
    dir_id: &str,
    directory: Option<&File>,
    (kind, name): (Kind, &str),
) -> Result<(), Failure> {
    let rules = &caller.principal.permissions;
    match directory {
        Some(directory) if platform.reaches_new(&caller.instance, rules, directory, kind, name)? => Ok(()),
        _ => caller.check_document(Verb::Post, &FILES, dir_id, &Map::new()),
    }
}

/// The same for a directory that may be made together with those above it: what counts is the deepest one that is there.
pub fn new_below(platform: &Platform, caller: &Caller, path: &str) -> Result<(), Failure> {
    caller.check_any(Verb::Post, &FILES)?;
    let mut path = path;
    loop {
        match platform.file_by_path(&caller.instance, if path.is_empty() { "/" } else { path }) {
            Ok(directory) => {
                return new_child(platform, caller, &directory.id, Some(&directory), (Kind::Directory, ""));
            }
            Err(konnector_platform::Error::NotFound(_)) => {
                path = path.rsplit_once('/').map(|(above, _)| above).unwrap_or_default();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Refuses whoever has no rule that reaches a file.
pub fn reachable(platform: &Platform, caller: &Caller, verb: Verb, file: File) -> Result<File, Failure> {
    if platform.reaches(&caller.instance, &caller.principal.permissions, &[verb], &file)? {
        return Ok(file);
    }
    caller.check_document(verb, &FILES, &file.id, &Map::new())?;
    Ok(file)
}
