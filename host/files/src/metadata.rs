//! Changes to the metadata and the place of a file; the content stays.

use serde_json::{Value, json};

use super::{File, Reference, instance_url};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, retry_on_conflict};

/// Maximum size of a file's `metadata`, in bytes.
const MAX_METADATA_SIZE: usize = 64 << 10;
/// Maximum number of references of a file.
const MAX_REFERENCES: usize = 1_000;

impl Files {
    /// Sets fields of a file's `metadata`, and removes those that are null (RFC 7396).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::TooLarge`] if the result has more than 64 KiB.
    pub async fn merge_metadata(&self, instance: &Instance, id: &str, patch: &Object) -> Result<File> {
        self.modify_existing(instance, id, |file| {
            let mut metadata = Value::Object(file.metadata.clone());
            merge_patch(&mut metadata, patch);
            match metadata {
                Value::Object(metadata) if metadata != file.metadata => {
                    check_metadata(&metadata, &file.name)?;
                    file.metadata = metadata;
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
        .await
    }

    /// Adds the references that a file does not have yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::BadRequest`] if the file would have too many.
    pub async fn add_references(&self, instance: &Instance, id: &str, references: &[Reference]) -> Result<File> {
        self.modify_existing(instance, id, |file| file.add_references(references)).await
    }

    /// Marks a directory without references as that of a konnector's account; one with references stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the directory does not exist.
    pub async fn set_folder_owner(
        &self,
        instance: &Instance,
        directory: &File,
        references: &[Reference],
        mark: FolderOwner<'_>,
    ) -> Result<File> {
        if !directory.referenced_by.is_empty() {
            return Ok(directory.clone());
        }
        let now = self.core.clock().now();
        self.modify_existing(instance, &directory.id, |directory| {
            if !directory.referenced_by.is_empty() || !directory.add_references(references)? {
                return Ok(false);
            }
            let metadata = &mut directory.cozy_metadata;
            let address = instance_url(&instance.domain);
            metadata.entry("createdByApp").or_insert_with(|| json!(mark.slug));
            metadata.insert("createdOn".to_owned(), json!(address));
            metadata.insert("sourceAccount".to_owned(), json!(mark.account));
            record_app_update(metadata, json!({ "slug": mark.slug, "date": now, "instance": address }));
            Ok(true)
        })
        .await
    }

    /// Removes the references that a file has.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist.
    pub async fn remove_references(&self, instance: &Instance, id: &str, references: &[Reference]) -> Result<File> {
        self.modify_existing(instance, id, |file| {
            let before = file.referenced_by.len();
            file.referenced_by.retain(|reference| !references.contains(reference));
            Ok(file.referenced_by.len() < before)
        })
        .await
    }

    /// Moves a file into a directory under a name; a number is added if another file has it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::Conflict`] if a hundred names are taken, or others keep
    /// changing the directory.
    pub async fn move_to_free_name(&self, instance: &Instance, id: &str, directory: &File, name: &str) -> Result<File> {
        retry_on_conflict(|| async {
            let file = self.get(instance, id)?;
            if file.dir_id == directory.id && file.name == name {
                return Ok(file);
            }
            let free = self.free_name(instance, &directory.id, name)?;
            self.relocate(instance, &file, directory, &free, None).await?;
            self.get(instance, id)
        })
        .await
    }

    /// Changes a file's document; `change` returns whether there is anything to write.
    async fn modify_existing(
        &self,
        instance: &Instance,
        id: &str,
        mut change: impl FnMut(&mut File) -> Result<bool> + Send,
    ) -> Result<File> {
        let now = self.core.clock().now();
        let changed = self
            .core
            .modify::<File, _>(&instance.doc(&FILES, id), |file, _| {
                let changed = change(file)?;
                if changed {
                    file.touch(now);
                }
                Ok(changed)
            })
            .await?;
        match changed {
            Some(_) => self.get(instance, id),
            None => Err(Error::NotFound(format!("there is no file '{id}'"))),
        }
    }
}

/// Konnector and account that own a folder.
#[derive(Debug, Clone, Copy)]
pub struct FolderOwner<'a> {
    /// Slug of the konnector.
    pub slug: &'a str,
    /// Id of the account.
    pub account: &'a str,
}

/// Adds an application to `updatedByApps`, replacing its earlier entry.
fn record_app_update(metadata: &mut Object, entry: Value) {
    let mut entries = match metadata.shift_remove("updatedByApps") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    entries.retain(|other| other.get("slug") != entry.get("slug"));
    entries.push(entry);
    metadata.insert("updatedByApps".to_owned(), Value::Array(entries));
}

impl File {
    /// Adds references; returns whether any of them was new.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] if the file would have too many.
    pub(crate) fn add_references(&mut self, references: &[Reference]) -> Result<bool> {
        let before = self.referenced_by.len();
        for reference in references {
            if !self.referenced_by.contains(reference) {
                self.referenced_by.push(reference.clone());
            }
        }
        if self.referenced_by.len() > MAX_REFERENCES {
            return Err(Error::BadRequest(format!("'{}' would have more than {MAX_REFERENCES} references", self.name)));
        }
        Ok(self.referenced_by.len() > before)
    }

    /// Sets the time of the last change.
    pub(crate) fn touch(&mut self, now: chrono::DateTime<chrono::Utc>) {
        self.cozy_metadata.insert("updatedAt".to_owned(), json!(now));
    }
}

/// Rejects `metadata` that is too large for a file.
///
/// # Errors
///
/// [`Error::TooLarge`] if it has more than [`MAX_METADATA_SIZE`] bytes.
pub(super) fn check_metadata(metadata: &Object, name: &str) -> Result<()> {
    let size = serde_json::to_vec(metadata).map_or(0, |text| text.len());
    if size <= MAX_METADATA_SIZE {
        return Ok(());
    }
    Err(Error::TooLarge(format!(
        "the metadata of '{name}' would be {size} bytes long; the maximum is {MAX_METADATA_SIZE} bytes"
    )))
}

/// Merges a patch (RFC 7396 §2).
fn merge_patch(value: &mut Value, patch: &Object) {
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    let Value::Object(members) = value else { return };
    for (name, change) in patch {
        match change {
            Value::Null => {
                members.shift_remove(name);
            }
            Value::Object(change) => merge_patch(members.entry(name.as_str()).or_insert(Value::Null), change),
            change => {
                members.insert(name.clone(), change.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7396, appendix A, whose patch is an object.
    #[test]
    fn merging_is_that_of_the_rfc() {
        for (value, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = value.clone();
            merge_patch(&mut merged, patch.as_object().unwrap());
            assert_eq!(merged, expected, "{value} {patch}");
        }
    }
}
