//! Which files a caller may reach. The values of a rule are ids of files or of any directory above them; selectors look at the file itself,
//! and `name`, `tags` and `referenced_by` at the directories above it too (Cozy API: permissions on files).

use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, Kind};
use konnector_store::Map;
use serde_json::json;

use crate::error::Failure;
use crate::extract::{Caller, Params};

/// Directories above a file that are looked at; deeper ones cannot be made.
const DEEPEST: usize = 64;

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
    let file = platform.file_by_path(&caller.instance, path)?;
    reachable(platform, caller, verb, file)
}

fn reachable(platform: &Platform, caller: &Caller, verb: Verb, file: File) -> Result<File, Failure> {
    let permissions = &caller.principal.permissions;
    let allows = |file: &File, itself: bool| {
        faces(file, itself).iter().any(|face| permissions.allows_document(verb, &FILES, &file.id, face))
    };
    if allows(&file, true) {
        return Ok(file);
    }
    let mut above = file.dir_id.clone();
    for _ in 0..DEEPEST {
        if above.is_empty() {
            break;
        }
        let directory = platform.file(&caller.instance, &above)?;
        if allows(&directory, false) {
            return Ok(file);
        }
        above = directory.dir_id;
    }
    caller.check_document(verb, &FILES, &file.id, &Map::new())?;
    Ok(file)
}

/// What selectors may look at. A rule compares texts, so a file with several tags or references shows each in a face of its own.
fn faces(file: &File, itself: bool) -> Vec<Map> {
    let mut plain = Map::from_iter([("name".to_owned(), json!(file.name))]);
    if itself {
        let kind = match file.kind {
            Kind::File => "file",
            Kind::Directory => "directory",
        };
        plain.insert("type".to_owned(), json!(kind));
        plain.insert("mime".to_owned(), json!(file.mime));
        plain.insert("class".to_owned(), json!(file.class));
    }
    let tags = file.tags.iter().map(|tag| ("tags", tag.clone()));
    let references =
        file.referenced_by.iter().map(|reference| ("referenced_by", format!("{}/{}", reference.doctype, reference.id)));
    let several = tags.chain(references).map(|(name, value)| Map::from_iter([(name.to_owned(), json!(value))]));
    std::iter::once(plain).chain(several).collect()
}
