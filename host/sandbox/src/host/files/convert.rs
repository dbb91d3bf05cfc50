//! Conversions between the contract's records and the host's types.

use super::super::argument::{MAX_DOCTYPE, MAX_MIME, MAX_NAME, check_length, check_optional_length};
use super::{MAX_METADATA, check_batch, json_weight, parse_object, wit};
use crate::capability::{CapabilityError, Details, Entry, File, Folder, Listing, Object, Reference, SavedFile, Target};

/// Checks and converts the target of an upload.
pub(in crate::host) fn parse_target(target: wit::Target) -> Result<Target, CapabilityError> {
    if target.metadata.len() as u64 > MAX_METADATA {
        return Err(CapabilityError::TooLarge(MAX_METADATA));
    }
    check_length("folder", &target.folder, MAX_NAME)?;
    check_length("name", &target.name, MAX_NAME)?;
    check_optional_length("key", target.key.as_ref(), MAX_NAME)?;
    check_optional_length("mime", target.mime.as_ref(), MAX_MIME)?;
    // An empty string means no metadata, because a guest without a JSON library must be able to save files too.
    let metadata = if target.metadata.is_empty() { Object::new() } else { parse_object("metadata", &target.metadata)? };
    Ok(Target {
        folder: target.folder,
        name: target.name,
        key: target.key,
        mime: target.mime,
        created_at: target.created_at,
        metadata,
        references: parse_references(target.references)?,
    })
}

/// Returns an upper bound of a target's size in memory in bytes.
pub(super) fn weight(target: &wit::Target) -> u64 {
    /// Size of a reference without its strings.
    const REFERENCE: usize = size_of::<Reference>() + 64;
    let texts = target.folder.len() + target.name.len() + target.key.as_ref().map_or(0, String::len);
    let references: usize = target.references.iter().map(|one| one.doctype.len() + one.id.len() + REFERENCE).sum();
    (texts + json_weight(&target.metadata) + references) as u64
}

/// Checks and converts the references of a batch.
pub(super) fn parse_references(references: Vec<wit::Reference>) -> Result<Vec<Reference>, CapabilityError> {
    check_batch("references", references.len())?;
    for reference in &references {
        check_length("references.doctype", &reference.doctype, MAX_DOCTYPE)?;
        check_length("references.id", &reference.id, MAX_NAME)?;
    }
    Ok(references.into_iter().map(|reference| Reference { doctype: reference.doctype, id: reference.id }).collect())
}

impl From<File> for wit::File {
    fn from(file: File) -> Self {
        Self { id: file.id, path: file.path, size: file.size, mime: file.mime, sha256: file.sha256 }
    }
}

impl From<Folder> for wit::Folder {
    fn from(folder: Folder) -> Self {
        Self { id: folder.id, path: folder.path }
    }
}

impl From<Entry> for wit::Entry {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::File(file) => Self::File(file.into()),
            Entry::Folder(folder) => Self::Folder(folder.into()),
        }
    }
}

impl From<Listing> for wit::Page {
    fn from(listing: Listing) -> Self {
        Self { entries: listing.entries.into_iter().map(Into::into).collect(), next_cursor: listing.next_cursor }
    }
}

impl From<Details> for wit::Details {
    fn from(details: Details) -> Self {
        let reference = |reference: Reference| wit::Reference { doctype: reference.doctype, id: reference.id };
        Self {
            entry: details.entry.into(),
            created_at: details.created_at,
            updated_at: details.updated_at,
            metadata: serde_json::Value::Object(details.metadata).to_string(),
            references: details.references.into_iter().map(reference).collect(),
        }
    }
}

impl From<SavedFile> for wit::SavedFile {
    fn from(saved: SavedFile) -> Self {
        Self { file: saved.file.into(), outcome: saved.outcome.into() }
    }
}
