//! The interface `files` over a list. Paths begin at the account's folder.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::super::state::{MockState, StoredFile};
use super::{Error, SavedFile, Target, with_state};
use crate::Locator;
use crate::bindings::konnector::host::files::{Details, Entry, File, Folder, Page, Reference};
use crate::bindings::konnector::host::types::SaveOutcome;

pub(crate) struct Upload {
    target: Target,
    content: RefCell<Vec<u8>>,
}

impl Upload {
    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn write(&self, chunk: &[u8]) -> Result<(), Error> {
        self.content.borrow_mut().extend_from_slice(chunk);
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn commit(this: Self) -> Result<SavedFile, Error> {
        Ok(store_file(&this.target, this.content.into_inner()))
    }
}

pub(crate) struct OpenFile(Vec<u8>);

impl OpenFile {
    pub(crate) fn size(&self) -> u64 {
        self.0.len() as u64
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn read(&self, offset: u64, max: u32) -> Result<Vec<u8>, Error> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(self.0.iter().skip(start).take(max as usize).copied().collect())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn check_save() -> Result<(), Error> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn begin_upload(target: &Target) -> Result<Upload, Error> {
    Ok(Upload { target: target.clone(), content: RefCell::default() })
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn lookup(keys: &[String]) -> Result<Vec<Option<File>>, Error> {
    let find = |state: &MockState, key: &String| {
        state.files.iter().find(|file| file.key.as_ref() == Some(key)).map(to_wit_file)
    };
    Ok(with_state(|state| keys.iter().map(|key| find(state, key)).collect()))
}

/// Applies `work` to a file, which must exist.
fn with_file<T>(locator: &Locator, work: impl FnOnce(&mut StoredFile) -> T) -> Result<T, Error> {
    with_state(|state| {
        let is_it = |file: &&mut StoredFile| match locator {
            Locator::Id(id) => file.id == *id,
            Locator::Key(key) => file.key.as_ref() == Some(key),
        };
        let found = state.files.iter_mut().find(is_it).map(work);
        found.ok_or_else(|| Error::NotFound(format!("file {locator:?}")))
    })
}

pub(crate) fn open(locator: &Locator) -> Result<OpenFile, Error> {
    with_file(locator, |file| OpenFile(file.content.clone()))
}

pub(crate) fn describe(locator: &Locator) -> Result<Details, Error> {
    with_file(locator, |file| Details {
        entry: Entry::File(to_wit_file(file)),
        created_at: 0,
        updated_at: 0,
        metadata: file.metadata.to_string(),
        references: file
            .references
            .iter()
            .map(|(kind, id)| Reference { doctype: kind.clone(), id: id.clone() })
            .collect(),
    })
}

/// Merges one level deep.
pub(crate) fn merge_metadata(locator: &Locator, patch: &str) -> Result<(), Error> {
    let patch: Map<String, Value> = serde_json::from_str(patch).map_err(|error| Error::Invalid(error.to_string()))?;
    with_file(locator, |file| {
        let mut metadata = file.metadata.as_object().cloned().unwrap_or_default();
        metadata.extend(patch);
        metadata.retain(|_, value| !value.is_null());
        file.metadata = Value::Object(metadata);
    })
}

pub(crate) fn add_references(locator: &Locator, references: &[Reference]) -> Result<(), Error> {
    with_file(locator, |file| add_to_file(file, references))
}

fn add_to_file(file: &mut StoredFile, references: &[Reference]) {
    for reference in references {
        let pair = (reference.doctype.clone(), reference.id.clone());
        if !file.references.contains(&pair) {
            file.references.push(pair);
        }
    }
}

pub(crate) fn remove_references(locator: &Locator, references: &[Reference]) -> Result<(), Error> {
    let is_named = |pair: &(String, String)| {
        references.iter().any(|reference| (reference.doctype.as_str(), reference.id.as_str()) == (&pair.0, &pair.1))
    };
    with_file(locator, |file| file.references.retain(|pair| !is_named(pair)))
}

pub(crate) fn move_file(locator: &Locator, folder: &str, name: &str) -> Result<File, Error> {
    with_file(locator, |file| {
        file.path = path_of(folder, name);
        to_wit_file(file)
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn trash(locators: &[Locator]) -> Result<u32, Error> {
    let is_named = |file: &StoredFile| {
        locators.iter().any(|locator| match locator {
            Locator::Id(id) => file.id == *id,
            Locator::Key(key) => file.key.as_ref() == Some(key),
        })
    };
    let removed = with_state(|state| {
        let before = state.files.len();
        state.files.retain(|file| !is_named(file));
        before - state.files.len()
    });
    Ok(u32::try_from(removed).unwrap_or(u32::MAX))
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn ensure_folder(path: &str) -> Result<Folder, Error> {
    with_state(|state| state.folders.insert(path.to_owned()));
    Ok(folder(path))
}

/// Returns all entries in one page.
#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn list_folder(path: &str, _limit: u32, _cursor: Option<&str>) -> Result<Page, Error> {
    let is_in = |child: &str| child.rsplit_once('/').map_or("", |(parent, _)| parent) == path && child != path;
    let mut entries: Vec<(String, Entry)> = with_state(|state| {
        let folders = state.folders.iter().filter(|child| is_in(child));
        let files = state.files.iter().filter(|file| is_in(&file.path));
        let files = files.map(|file| (file.path.clone(), Entry::File(to_wit_file(file))));
        folders.map(|child| (child.clone(), Entry::Folder(folder(child)))).chain(files).collect()
    });
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Page { entries: entries.into_iter().map(|(_, entry)| entry).collect(), next_cursor: None })
}

fn folder(path: &str) -> Folder {
    Folder { id: format!("folder-{path}"), path: path.to_owned() }
}

fn path_of(folder: &str, name: &str) -> String {
    [folder, name].join("/").trim_start_matches('/').to_owned()
}

fn to_wit_file(file: &StoredFile) -> File {
    File {
        id: file.id.clone(),
        path: file.path.clone(),
        size: file.content.len() as u64,
        mime: "application/octet-stream".to_owned(),
        sha256: "0".repeat(64),
    }
}

pub(super) fn store_file(target: &Target, content: Vec<u8>) -> SavedFile {
    let path = path_of(&target.folder, &target.name);
    let metadata = serde_json::from_str(&target.metadata).unwrap_or_default();
    with_state(|state| {
        let number = state.files.len();
        let same = |file: &&mut StoredFile| {
            if target.key.is_some() { file.key == target.key } else { file.path == path }
        };
        if let Some(file) = state.files.iter_mut().find(same) {
            let outcome = if file.content == content { SaveOutcome::Unchanged } else { SaveOutcome::Updated };
            file.content = content;
            add_to_file(file, &target.references);
            return SavedFile { file: to_wit_file(file), outcome };
        }
        let key = target.key.clone();
        let mut file =
            StoredFile { id: format!("file-{number}"), path, key, content, metadata, references: Vec::new() };
        add_to_file(&mut file, &target.references);
        let stored = SavedFile { file: to_wit_file(&file), outcome: SaveOutcome::Created };
        state.files.push(file);
        stored
    })
}
