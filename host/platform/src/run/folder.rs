//! The folder of an account: where its run writes.

use konnector_manifest::Manifest;
use serde_json::Value;

use super::Scope;
use crate::file::{self, Kind, TRASH_PATH};
use crate::{Platform, Result};

/// Path of the folder that a run writes to: the directory that the job names, else the account's own, else
/// `/<Administrative>/<konnector>/<account>` (cozy-stack, folder of a konnector).
pub fn destination(scope: &Scope, manifest: &Manifest) -> Result<String> {
    if let Some(path) = named_by_job(&scope.platform, scope)? {
        return Ok(path);
    }
    if let Some(account) = &scope.account {
        let set = ["defaultFolderPath", "folderPath"].iter().find_map(|name| account.body.get(*name)?.as_str());
        if let Some(path) = set.filter(|path| path.starts_with('/') && !path.starts_with(TRASH_PATH)) {
            return Ok(path.trim_end_matches('/').to_owned());
        }
    }
    let administrative = if scope.instance.locale == "fr" { "Administratif" } else { "Administrative" };
    let konnector = file::safe_name(&manifest.name);
    let path = format!("/{administrative}/{konnector}");
    Ok(match &scope.account {
        None => path,
        Some(account) => format!("{path}/{}", account_folder(account.name().unwrap_or(&account.id), &account.id)),
    })
}

/// Puts the id of the folder into a job's message that wants one, and makes the folder where it is missing (Cozy API, konnector run-time
/// contract, §6.4).
pub async fn correct(scope: &Scope, manifest: &Manifest, message: &mut Value) -> Result<()> {
    if scope.job.argument("folder_to_save").is_none_or(str::is_empty) {
        return Ok(());
    }
    let path = destination(scope, manifest)?;
    let directory = scope.platform.ensure_directory(&scope.instance, &path).await?;
    if let Some(members) = message.as_object_mut() {
        members.insert("folder_to_save".to_owned(), Value::String(directory.id));
    }
    Ok(())
}

fn named_by_job(platform: &Platform, scope: &Scope) -> Result<Option<String>> {
    let Some(id) = scope.job.argument("folder_to_save").filter(|id| !id.is_empty()) else { return Ok(None) };
    match platform.file(&scope.instance, id) {
        Ok(directory) if directory.kind == Kind::Directory && !directory.trashed => Ok(directory.path),
        Ok(_) | Err(crate::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of an account as that of a folder: what is no letter, digit, space, `-` or `_` becomes `_`.
fn account_folder(name: &str, id: &str) -> String {
    let folder: String =
        name.chars().map(|c| if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_') { c } else { '_' }).collect();
    let folder = file::safe_name(&folder);
    if name.trim().is_empty() { id.to_owned() } else { folder }
}
