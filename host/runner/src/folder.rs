//! The folder of an account, to which its runs write.

use konnector_manifest::Manifest;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use unicode_segmentation::UnicodeSegmentation as _;

use super::RunContext;
use crate::{Error, Result};
use konnector_accounts::Account;
use konnector_documents::doctype::KONNECTORS;
use konnector_documents::stored::Object;
use konnector_files::{self, File, FileKind, FolderOwner, Reference, SOURCE_IDENTIFIER_DOCTYPE, TRASH_PATH};
use konnector_jobs::JobContext;
use konnector_jobs::trigger::TriggerPatch;

/// Field of an account with the path of its folder.
const DEFAULT_FOLDER_FIELD: &str = "defaultFolderPath";

/// The folder of a run. It is created at the first write to it.
#[derive(Debug)]
pub struct RunFolder {
    path: String,
    /// Locked while the folder is created, so that concurrent callers wait for it.
    known: Mutex<FolderState>,
}

/// The run's knowledge of its folder.
#[derive(Debug, Default)]
struct FolderState {
    /// Id of the folder, once it exists. The user may move it during the run.
    id: Option<String>,
    /// The id that was saved in the account and its triggers.
    saved_id: Option<String>,
}

impl RunFolder {
    /// Determines the folder: the directory that the job names, else the only one that refers to the konnector and the
    /// account, else the account's own, else `/<Administrative>/<Konnector>/<account>` (Cozy API, konnector run-time
    /// contract, §6.4). Writes nothing.
    pub fn resolve(scope: &RunContext, manifest: &Manifest) -> Result<Self> {
        let (path, id) = match resolve_destination(scope, manifest)? {
            FolderDestination::Directory { id, path } => (path, Some(id)),
            FolderDestination::Path(path) => (path, None),
        };
        Ok(Self { path, known: Mutex::new(FolderState { id, saved_id: None }) })
    }

    /// Returns the path of the folder at the start of the run.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the folder at its current location. `None` if it was not created yet, or the user removed it.
    pub async fn find(&self, scope: &RunContext) -> Result<Option<File>> {
        let RunContext { domain, instance, .. } = scope;
        let found = match &self.known.lock().await.id {
            Some(id) => domain.files().writable_directory(instance, id),
            None => domain.files().get_by_path(instance, &self.path),
        };
        match found {
            Ok(found) if found.kind == FileKind::Directory => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the folder if it is missing, and marks a new folder as the konnector's. The account and its triggers
    /// store its id, so it is recognised even if the user moves it, also during a run. A folder that the user removed
    /// is created again. Cancel-safe.
    pub async fn ensure(&self, scope: &RunContext) -> Result<File> {
        let mut known = self.known.lock().await;
        let there = match &known.id {
            Some(id) => match scope.domain.files().writable_directory(&scope.instance, id) {
                Ok(there) => Some(there),
                Err(Error::NotFound(_)) => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let directory = match there {
            Some(there) => there,
            None => self.create(scope).await?,
        };
        known.id = Some(directory.id.clone());
        if let Some(account) = &scope.account
            && known.saved_id != known.id
        {
            save_folder(scope, account, &directory.id, &self.path).await?;
            known.saved_id = Some(directory.id.clone());
        }
        Ok(directory)
    }

    async fn create(&self, scope: &RunContext) -> Result<File> {
        let RunContext { domain, instance, konnector, .. } = scope;
        let (directory, is_new) = domain.files().find_or_create_directory(instance, &self.path).await?;
        match &scope.account {
            Some(account) if is_new => {
                let mark = FolderOwner { slug: konnector.slug.as_ref(), account: &account.id };
                domain.files().set_folder_owner(instance, &directory, &references(scope), mark).await
            }
            // An existing folder belongs to the user, regardless of why the konnector saves to it. A mark would give
            // the konnector access to it.
            _ => Ok(directory),
        }
    }

    /// Returns a subfolder, creating it if it is missing.
    pub async fn ensure_subdirectory(&self, scope: &RunContext, folder: &str) -> Result<File> {
        let names: Vec<String> = path_segments(folder).collect();
        let top = self.ensure(scope).await?;
        scope.domain.files().ensure_subdirectory(&scope.instance, &top, &names).await
    }

    /// Returns a file or folder in it. `None` if it does not exist.
    pub async fn find_subdirectory(&self, scope: &RunContext, folder: &str) -> Result<Option<File>> {
        let mut found = self.find(scope).await?;
        for name in path_segments(folder) {
            let Some(directory) = found else { break };
            found = scope.domain.files().child(&scope.instance, &directory.id, &name)?;
        }
        Ok(found)
    }

    /// Sets the id of the folder in a job's message that names a folder.
    pub async fn set_message_folder(&self, scope: &RunContext, message: &mut Value) -> Result<()> {
        if scope.job.argument(FOLDER_ARGUMENT).is_none_or(str::is_empty) {
            return Ok(());
        }
        let directory = self.ensure(scope).await?;
        if let Some(members) = message.as_object_mut() {
            members.insert(FOLDER_ARGUMENT.to_owned(), Value::String(directory.id.clone()));
        }
        Ok(())
    }
}

/// Splits a path below the folder into names.
pub fn path_segments(folder: &str) -> impl Iterator<Item = String> {
    folder.split('/').filter(|name| !name.is_empty()).map(konnector_files::sanitize_name)
}

/// Destination of a run's files.
enum FolderDestination {
    /// An existing directory.
    Directory { id: String, path: String },
    /// A path whose directory may not exist yet.
    Path(String),
}

impl FolderDestination {
    fn of(directory: File) -> Option<Self> {
        Some(Self::Directory { id: directory.id, path: directory.path? })
    }
}

fn resolve_destination(scope: &RunContext, manifest: &Manifest) -> Result<FolderDestination> {
    if let Some(named) = folder_of_job(&scope.domain, scope)? {
        return Ok(named);
    }
    if let Some(referring) = referencing_folder(scope)? {
        return Ok(referring);
    }
    if let Some(account) = &scope.account {
        let set = [DEFAULT_FOLDER_FIELD, "folderPath"].iter().find_map(|name| account.body.get(*name)?.as_str());
        if let Some(path) = set.filter(|path| path.starts_with('/') && !path.starts_with(TRASH_PATH)) {
            return Ok(FolderDestination::Path(path.trim_end_matches('/').to_owned()));
        }
    }
    let administrative = if scope.instance.locale == "fr" { "Administratif" } else { "Administrative" };
    let konnector = konnector_files::sanitize_name(&title_case(&manifest.name));
    let path = format!("/{administrative}/{konnector}");
    Ok(FolderDestination::Path(match &scope.account {
        None => path,
        Some(account) => format!("{path}/{}", account_folder_name(account.name().unwrap_or(&account.id), &account.id)),
    }))
}

/// Converts each word to a capital first letter followed by small ones, like Cozy's names of konnector folders
/// (`cases.Title`).
fn title_case(name: &str) -> String {
    let title = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
        first + &letters.as_str().to_lowercase()
    };
    name.split_word_bounds().map(title).collect()
}

/// Field of a message with the id of the folder.
const FOLDER_ARGUMENT: &str = "folder_to_save";
/// Maximum number of directories referring to a konnector that are checked.
const MAX_REFERENCING_DIRECTORIES: usize = 100;

fn reference(doctype: &str, id: String) -> Reference {
    Reference { doctype: doctype.to_owned(), id }
}

/// Returns the references of a run's folder: the konnector, and the account at the vendor.
fn references(scope: &RunContext) -> Vec<Reference> {
    let account =
        source_identifier(scope).map(|identifier| reference(SOURCE_IDENTIFIER_DOCTYPE, identifier.to_owned()));
    [reference(KONNECTORS.as_str(), scope.konnector.doc_id())].into_iter().chain(account).collect()
}

/// Returns the identifier of the account at the vendor: from the account's `cozyMetadata` if a client wrote it, else
/// from the form.
fn source_identifier(scope: &RunContext) -> Option<&str> {
    let metadata = scope.account.as_ref().and_then(|account| account.body.get("cozyMetadata"));
    let written = metadata.and_then(|metadata| metadata.get("sourceAccountIdentifier")).and_then(Value::as_str);
    written.filter(|identifier| !identifier.is_empty()).or(scope.identifier.as_deref())
}

/// Returns the directory that refers to the konnector and to no other account, if there is exactly one.
fn referencing_folder(scope: &RunContext) -> Result<Option<FolderDestination>> {
    let own = references(scope);
    let Some(konnector) = own.first() else { return Ok(None) };
    let page = scope.domain.files().referring_files(&scope.instance, konnector, None, MAX_REFERENCING_DIRECTORIES)?;
    let mut found = Vec::new();
    for id in page.files {
        let file = scope.domain.files().get(&scope.instance, &id)?;
        let other =
            file.referenced_by.iter().any(|named| named.doctype == SOURCE_IDENTIFIER_DOCTYPE && !own.contains(named));
        if file.kind == FileKind::Directory && !file.trashed && !other {
            found.extend(FolderDestination::of(file));
        }
    }
    Ok(found.pop().filter(|_| found.is_empty()))
}

/// Saves the folder in the account and in each of its triggers.
async fn save_folder(scope: &RunContext, account: &Account, id: &str, path: &str) -> Result<()> {
    let RunContext { domain, instance, konnector, .. } = scope;
    if scope.job.is_clean_up() {
        return Ok(());
    }
    for trigger in domain.triggers().list_of_account(instance, &account.id)? {
        let Ok(trigger) = domain.triggers().get(instance, &trigger) else { continue };
        if !trigger.runs_konnector(konnector.slug.as_ref(), Some(&account.id))
            || trigger.message.get(FOLDER_ARGUMENT) == Some(&json!(id))
        {
            continue;
        }
        let mut message = trigger.message.clone();
        if let Some(members) = message.as_object_mut() {
            members.insert(FOLDER_ARGUMENT.to_owned(), json!(id));
        }
        let patch = TriggerPatch { message: Some(message), ..TriggerPatch::default() };
        domain.triggers().patch(instance, &trigger.id, patch).await?;
    }
    let is_set =
        |body: &Object| body.get(DEFAULT_FOLDER_FIELD).and_then(Value::as_str).is_some_and(|path| !path.is_empty());
    if is_set(&account.body) {
        return Ok(());
    }
    domain
        .accounts()
        .update(instance, &account.id, |body| {
            if !is_set(body) {
                body.insert(DEFAULT_FOLDER_FIELD.to_owned(), json!(path));
            }
            Ok(())
        })
        .await
}

fn folder_of_job(domain: &JobContext, scope: &RunContext) -> Result<Option<FolderDestination>> {
    let Some(id) = scope.job.argument(FOLDER_ARGUMENT).filter(|id| !id.is_empty()) else { return Ok(None) };
    match domain.files().get(&scope.instance, id) {
        Ok(directory) if directory.kind == FileKind::Directory && !directory.trashed => {
            Ok(FolderDestination::of(directory))
        }
        Ok(_) | Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Converts the name of an account to a folder name: characters other than letters, digits, spaces, `-` and `_` become
/// `_`.
fn account_folder_name(name: &str, id: &str) -> String {
    let folder: String =
        name.chars().map(|c| if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_') { c } else { '_' }).collect();
    let folder = konnector_files::sanitize_name(&folder);
    if name.trim().is_empty() { id.to_owned() } else { folder }
}

#[cfg(test)]
mod tests {
    use super::title_case;

    #[test]
    fn words_begin_with_a_capital() {
        for (name, title) in [
            ("Bank101", "Bank101"),
            ("free mobile", "Free Mobile"),
            ("EDF", "Edf"),
            ("la-poste", "La-Poste"),
            ("l'oréal paris", "L'oréal Paris"),
            ("ÉLECTRICITÉ de france", "Électricité De France"),
            ("", ""),
        ] {
            assert_eq!(title_case(name), title);
        }
    }
}
