//! Coverage of files by permission rules. The values of a rule are ids of files or of any directory above them.
//! Selectors match the file itself, and `name`, `tags` and `referenced_by` also the directories above it (Cozy API:
//! permissions on files).

use std::collections::HashSet;

use konnector_manifest::{Permissions, Verb};
use serde_json::json;

use super::tree::join_path;
use super::{File, FileKind};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, to_object, without_reserved_fields};

/// Maximum number of directories above a file that are examined; deeper ones cannot be created.
const MAX_ANCESTORS: usize = 64;

impl Files {
    /// Returns whether rules allow at least one of `verbs` on a file, which need not be stored yet.
    ///
    /// # Errors
    ///
    /// If the store fails, or a directory above the file does not exist.
    pub fn is_allowed(&self, instance: &Instance, rules: &Permissions, verbs: &[Verb], file: &File) -> Result<bool> {
        if verbs.iter().any(|verb| rules.allows_type(*verb, &FILES)) {
            return Ok(true);
        }
        let verbs: Vec<Verb> = verbs.iter().copied().filter(|verb| rules.allows_any(*verb, &FILES)).collect();
        if verbs.is_empty() {
            return Ok(false);
        }
        if is_selected(rules, &verbs, file, true)? {
            return Ok(true);
        }
        for directory in self.ancestors(instance, file)? {
            if is_selected(rules, &verbs, &directory, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether rules allow a verb on everything in a directory, because of the directory or of those above it.
    fn is_subtree_allowed(
        &self,
        instance: &Instance,
        rules: &Permissions,
        verb: Verb,
        directory: &File,
    ) -> Result<bool> {
        if rules.allows_type(verb, &FILES) || is_selected(rules, &[verb], directory, false)? {
            return Ok(true);
        }
        for above in self.ancestors(instance, directory)? {
            if is_selected(rules, &[verb], &above, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects a move, or another change of a file, after which the rules would allow more on the file or its
    /// descendants. Otherwise a client that may only move a file could gain the right to replace or delete it.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] with the missing verb; otherwise as [`Files::is_allowed`].
    pub fn check_permission_gain(
        &self,
        instance: &Instance,
        rules: &Permissions,
        before: &File,
        after: &File,
    ) -> Result<()> {
        let mut after = after.clone();
        let is_moved = (&after.dir_id, &after.name) != (&before.dir_id, &before.name);
        // The root has no parent directory.
        if is_moved && after.kind == FileKind::Directory && !after.dir_id.is_empty() {
            let above = self.get(instance, &after.dir_id)?;
            after.path = Some(join_path(above.path.as_deref().unwrap_or("/"), &after.name));
        }
        for verb in Verb::ALL {
            let is_gained =
                |reaches: &dyn Fn(&File) -> Result<bool>| Ok::<_, Error>(reaches(&after)? && !reaches(before)?);
            let gains = is_gained(&|file| self.is_allowed(instance, rules, &[verb], file))?
                || (before.kind == FileKind::Directory
                    && is_gained(&|file| self.is_subtree_allowed(instance, rules, verb, file))?);
            if gains {
                return Err(Error::Forbidden(format!(
                    "'{}' cannot be changed in this way: the permissions would then allow {verb} on it, \
                     but do not allow it now; copy it instead, \
                     or request a rule that allows {verb} on it at its present place",
                    before.name
                )));
            }
        }
        Ok(())
    }

    /// Like [`Files::check_permission_gain`], for a restore from the trash. The file returns to its former directory,
    /// or below the deepest existing directory of that path.
    ///
    /// # Errors
    ///
    /// As [`Files::check_permission_gain`].
    pub fn check_restore_permission_gain(&self, instance: &Instance, rules: &Permissions, file: &File) -> Result<()> {
        let origin = self.restore_directory_path(instance, file)?;
        let mut path = origin.as_str();
        let directory = loop {
            match self.get_by_path(instance, if path.is_empty() { "/" } else { path }) {
                Ok(directory) => break directory,
                Err(Error::NotFound(_)) if !path.is_empty() => {
                    path = path.rsplit_once('/').map(|(above, _)| above).unwrap_or_default();
                }
                Err(error) => return Err(error),
            }
        };
        let name = file.original_name().to_owned();
        let restored = File { dir_id: directory.id, name, ..file.clone() };
        self.check_permission_gain(instance, rules, file, &restored)
    }

    /// Returns whether rules allow the creation of a file in a directory.
    ///
    /// # Errors
    ///
    /// As [`Files::is_allowed`].
    pub fn is_new_file_allowed(
        &self,
        instance: &Instance,
        rules: &Permissions,
        directory: &File,
        kind: FileKind,
        name: &str,
    ) -> Result<bool> {
        let path = join_path(directory.path.as_deref().unwrap_or("/"), name);
        let new = File::directory("", &directory.id, name, &path, self.core.clock().now(), &instance.domain);
        self.is_allowed(instance, rules, &[Verb::Post], &File { kind, ..new })
    }

    /// Returns the directories that contain a file, the nearest first.
    pub fn ancestors(&self, instance: &Instance, file: &File) -> Result<Vec<File>> {
        let mut directories: Vec<File> = Vec::new();
        let mut next = file.dir_id.clone();
        while !next.is_empty() && directories.len() < MAX_ANCESTORS {
            let directory = self.get(instance, &next)?;
            next.clone_from(&directory.dir_id);
            directories.push(directory);
        }
        Ok(directories)
    }

    /// Returns all directories above the files on which rules allow at least one of `verbs`. Examines every file, and
    /// therefore runs on a thread of its own.
    pub async fn traversable_dirs(
        &self,
        instance: &Instance,
        rules: &Permissions,
        verbs: &'static [Verb],
    ) -> Result<HashSet<String>> {
        let (files, instance, rules) = (self.clone(), instance.clone(), rules.clone());
        let found = self.core.tasks().spawn_blocking(move || files.find_traversable_dirs(&instance, &rules, verbs));
        found.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }

    fn find_traversable_dirs(
        &self,
        instance: &Instance,
        rules: &Permissions,
        verbs: &[Verb],
    ) -> Result<HashSet<String>> {
        let mut dirs = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            // Shutdown does not wait for the last file.
            if self.core.draining().is_cancelled() {
                return Err(konnector_store::Error::Closed.into());
            }
            let page = self.core.store().list(&instance.id, &FILES, after.as_deref(), 500)?;
            let Some(last) = page.last() else { return Ok(dirs) };
            after = Some(last.id.clone());
            for document in page {
                let file = File::from(konnector_documents::stored::Stored::from_document(&FILES, document)?);
                if !file.trashed && !dirs.contains(&file.dir_id) && self.is_allowed(instance, rules, verbs, &file)? {
                    dirs.extend(self.ancestors(instance, &file)?.into_iter().map(|directory| directory.id));
                }
            }
        }
    }
}

/// Returns whether rules allow at least one of `verbs` on a file (`itself`), or on the descendants of a directory,
/// based on that entry alone.
fn is_selected(rules: &Permissions, verbs: &[Verb], file: &File, itself: bool) -> Result<bool> {
    let views = selector_views(file, itself)?;
    let allowed = |verb: &Verb| views.iter().any(|view| rules.allows_document(*verb, &FILES, &file.id, view));
    Ok(verbs.iter().any(allowed))
}

/// Returns the views of a file that selectors match. A rule compares strings, so each of several tags or references has
/// its own view.
fn selector_views(file: &File, itself: bool) -> Result<Vec<Object>> {
    let mut plain = if itself { without_reserved_fields(to_object(file)?) } else { Object::new() };
    plain.insert("name".to_owned(), json!(file.name));
    let tags = file.tags.iter().map(|tag| ("tags", tag.clone()));
    let references = file.referenced_by.iter().flat_map(|reference| {
        let whole = format!("{}/{}", reference.doctype, reference.id);
        // The id of a konnector repeats its type, and Cozy's rule for the folders of a konnector contains only the id.
        let id = reference.id.strip_prefix(&reference.doctype).filter(|rest| rest.starts_with('/'));
        [Some(whole), id.map(|_| reference.id.clone())]
    });
    let references = references.flatten().map(|value| ("referenced_by", value));
    let several = tags.chain(references).map(|(name, value)| Object::from_iter([(name.to_owned(), json!(value))]));
    Ok(std::iter::once(plain).chain(several).collect())
}
