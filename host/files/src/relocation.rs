//! Moves of files and directories. Names change, content does not; each move is one commit.

use konnector_store::Changes;

use super::replace::{Retention, VersionEffects};
use super::tree::{self, MAX_DEPTH};
use super::{CHILDREN_INDEX, File, FileKind, TRASH_PATH, child_key};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, Stored, retry_on_conflict, to_object};

/// Maximum number of directories below a moved one, because their paths change in the same commit.
const MAX_MOVED_DIRECTORIES: usize = 1_000;

impl Files {
    /// Moves or renames a file or directory. If a file already has the name, that file gets the content and keeps the
    /// id by which others refer to it; an empty directory of that name moves to the trash.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if one of them does not exist or is in the trash, [`Error::Conflict`] if others keep
    /// changing one of them, [`Error::PreconditionFailed`] if a directory would contain itself, [`Error::TooLarge`] if
    /// it would be nested too deeply or has too many directories below it.
    pub async fn relocate(
        &self,
        instance: &Instance,
        file: &File,
        to: &File,
        name: &str,
        over: Option<&File>,
    ) -> Result<()> {
        retry_on_conflict(|| async {
            let mut changes = Changes::new();
            let mut changed = Vec::new();
            match over {
                Some(there) if there.kind == FileKind::File => {
                    return self.move_content_into(instance, file, there).await;
                }
                Some(there) => {
                    // Files that were added since it was read must not disappear with it.
                    if !self.children(instance, &there.id, None, 1)?.is_empty() {
                        return Err(Error::BadRequest(format!("the directory '{}' is not empty", there.name)));
                    }
                    let found = self.get_untrashed(instance, &there.id)?;
                    changed.extend(self.stage_trash(instance, found, &Object::new(), &mut changes)?);
                }
                None => {}
            }
            let to = self.writable_directory(instance, &to.id)?;
            let found = self.get_untrashed(instance, &file.id)?;
            let rev = found.rev.clone();
            let mut moved = File::from(found);
            changed.extend(self.stage_relocation(instance, &mut moved, &to, name.to_owned(), &mut changes)?);
            moved.updated_at = self.core.clock().now();
            changes.put(instance.doc(&FILES, moved.id.as_str()), &rev, to_object(&moved)?);
            changed.push(moved);
            self.core.commit(changes).await?;
            self.publish_updated(instance, &changed)
        })
        .await
    }

    /// Stages another place of a file or directory; returns the directories below it, whose paths change too.
    ///
    /// # Errors
    ///
    /// As [`Files::relocate`].
    pub(super) fn stage_relocation(
        &self,
        instance: &Instance,
        file: &mut File,
        to: &File,
        name: String,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        if to.id == file.id || self.ancestors(instance, to)?.iter().any(|above| above.id == file.id) {
            return Err(Error::PreconditionFailed {
                name: "dir-id",
                message: format!(
                    "the directory '{}' cannot be moved into itself or one of its subdirectories",
                    file.name
                ),
            });
        }
        changes.remove_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name));
        file.dir_id.clone_from(&to.id);
        file.name = name;
        changes.put_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name), &file.id);
        if file.kind == FileKind::File {
            return Ok(Vec::new());
        }
        let path = tree::join_path(to.path.as_deref().unwrap_or("/"), &file.name);
        let below = self.stage_descendant_paths(instance, &file.id, &path, changes)?;
        file.path = Some(path);
        Ok(below)
    }

    /// Moves the content of `from` into another file and deletes `from`.
    async fn move_content_into(&self, instance: &Instance, from: &File, into: &File) -> Result<()> {
        let (from, into) = (self.get_untrashed(instance, &from.id)?, self.get_untrashed(instance, &into.id)?);
        let (from_rev, now) = (from.rev.clone(), self.core.clock().now());
        let from = File::from(from);
        let upload = from.upload();
        let deleted = instance.doc(&FILES, from.id.as_str());
        let key = child_key(&from.dir_id, &from.name);
        let (mut staged, mut versions) = (Changes::new(), VersionEffects::default());
        // In the same commit, so that the file stays with all its versions if the commit conflicts.
        self.stage_delete_versions(instance, self.versions(instance, &from.id)?, &mut staged, &mut versions)?;
        let merged = self.replace(instance, into, None, Retention::ByRule, |file, changes| {
            (file.content, file.size, file.md5sum) = (from.content, from.size, from.md5sum);
            (file.mime, file.class, file.encrypted) = (from.mime, from.class, from.encrypted);
            file.set_upload(&upload);
            file.updated_at = now;
            changes.remove_unique(&instance.id, CHILDREN_INDEX, key);
            changes.delete(deleted.clone(), &from_rev).append(staged);
            Ok(())
        });
        merged.await?;
        self.finish_version_changes(versions).await;
        self.core.publish(&deleted, ChangeKind::Deleted, Object::new());
        Ok(())
    }

    /// Returns the directories below one, with their paths after it moves to `path`.
    fn stage_descendant_paths(
        &self,
        instance: &Instance,
        id: &str,
        path: &str,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        let mut changed = Vec::new();
        let mut todo = vec![(id.to_owned(), path.to_owned())];
        let top = id;
        while let Some((id, path)) = todo.pop() {
            // The trash is an additional level, so that everything that can be created can be trashed.
            let deepest = MAX_DEPTH + usize::from(path.starts_with(TRASH_PATH));
            if path.matches('/').count() > deepest {
                return Err(Error::TooLarge(format!(
                    "the directory '{path}' would be nested deeper than {deepest} levels"
                )));
            }
            if todo.len() + changed.len() > MAX_MOVED_DIRECTORIES {
                return Err(Error::TooLarge(format!(
                    "the directory has more than {MAX_MOVED_DIRECTORIES} subdirectories; \
                     move or delete some of them first"
                )));
            }
            let mut after: Option<String> = None;
            loop {
                let page = self.children(instance, &id, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                // If a damaged tree contains a cycle, the move repairs it.
                for child in page.into_iter().filter(|child| child.kind == FileKind::Directory && child.id != top) {
                    let found = self.get_untrashed(instance, &child.id)?;
                    let rev = found.rev.clone();
                    let mut directory = File::from(found);
                    let path = tree::join_path(&path, &directory.name);
                    directory.path = Some(path.clone());
                    changes.put(instance.doc(&FILES, directory.id.as_str()), &rev, to_object(&directory)?);
                    todo.push((directory.id.clone(), path));
                    changed.push(directory);
                }
            }
        }
        Ok(changed)
    }

    /// Returns a file that is not in the trash, with its revision.
    fn get_untrashed(&self, instance: &Instance, id: &str) -> Result<Stored<File>> {
        let found = self.core.load::<File>(&instance.doc(&FILES, id))?.filter(|found| !found.value.trashed);
        found.ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    pub(super) fn publish_updated(&self, instance: &Instance, files: &[File]) -> Result<()> {
        for file in files {
            self.core.publish(&instance.doc(&FILES, file.id.as_str()), ChangeKind::Updated, file);
        }
        Ok(())
    }
}
