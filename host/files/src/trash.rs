//! The trash: moving files to it, restoring them, and deleting them for good.

use crate::precondition::RequireRev as _;
use konnector_store::{Changes, Rev};
use serde_json::json;

use super::replace::VersionEffects;
use super::{CHILDREN_INDEX, File, FileKind, ROOT_ID, TRASH_ID, TRASH_PATH, check_precondition, child_key, tree};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, Stored, retry_on_conflict, to_object};

/// Number of files that are deleted in one commit.
const DESTROY_BATCH_SIZE: usize = 100;

impl File {
    /// Returns whether a path is below the trash.
    pub(super) fn is_trash_path(path: &str) -> bool {
        path.strip_prefix(TRASH_PATH).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the name that the file has outside the trash.
    pub(super) fn original_name(&self) -> &str {
        self.restore_name.as_deref().unwrap_or(&self.name)
    }

    /// Clears the fields that mark the file as trashed.
    pub(super) fn clear_trash_fields(&mut self) {
        self.trashed = false;
        self.restore_path = None;
        self.restore_name = None;
        self.cozy_metadata.retain(|name, _| !matches!(name.as_str(), "trashedAt" | "trashedBy"));
    }
}

/// Rejects the directories of every instance that exist forever.
fn check_may_be_deleted(id: &str) -> Result<()> {
    if matches!(id, ROOT_ID | TRASH_ID) {
        let message =
            "the root directory and the trash cannot be deleted or restored; name a file or directory in them";
        return Err(Error::BadRequest(message.to_owned()));
    }
    Ok(())
}

impl Files {
    /// Moves a file, or a directory with its contents, to the trash; returns whether it existed outside the trash.
    pub async fn try_trash(&self, instance: &Instance, id: &str) -> Result<bool> {
        match self.trash(instance, id, None, &Object::new()).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_) | Error::BadRequest(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a file, or a directory with its contents, to the trash; `seen` is the revision that may be moved;
    /// `actor` is recorded as `trashedBy`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::PreconditionFailed`] if it was changed since it was
    /// seen; [`Error::BadRequest`] if it is already in the trash, and for the root and the trash themselves.
    pub async fn trash(&self, instance: &Instance, id: &str, seen: Option<&Rev>, actor: &Object) -> Result<File> {
        retry_on_conflict(|| async {
            let found = self.get_movable(instance, id)?.require_rev(seen)?;
            if self.is_trashed(instance, &found.value)? {
                return Err(Error::BadRequest(format!("'{id}' is already in the trash")));
            }
            let mut changes = Changes::new();
            let changed = self.stage_trash(instance, found, actor, &mut changes)?;
            self.commit_move(instance, seen, changes, changed).await
        })
        .await
    }

    /// Commits the new place of a file, which is the last of the `changed` ones.
    async fn commit_move(
        &self,
        instance: &Instance,
        seen: Option<&Rev>,
        changes: Changes,
        mut changed: Vec<File>,
    ) -> Result<File> {
        let nothing = || Error::BadRequest("the change contains no file".to_owned());
        let document = instance.doc(&FILES, changed.last().ok_or_else(nothing)?.id.as_str());
        let rev = self.commit_if_match(&document, seen, changes).await?;
        self.publish_updated(instance, &changed)?;
        Ok(File { rev: Some(rev), ..changed.pop().ok_or_else(nothing)? })
    }

    /// Returns a file or directory that may be moved into the trash and out of it.
    fn get_movable(&self, instance: &Instance, id: &str) -> Result<Stored<File>> {
        check_may_be_deleted(id)?;
        let found = self.core.load::<File>(&instance.doc(&FILES, id))?;
        found.ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    /// Adds a move to the trash to `changes`. The last returned file is the file itself, after the directories below
    /// it, whose paths change.
    pub(super) fn stage_trash(
        &self,
        instance: &Instance,
        found: Stored<File>,
        actor: &Object,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        let parent = self.get(instance, &found.value.dir_id)?;
        let trash = self.get(instance, TRASH_ID)?;
        let now = self.core.clock().now();
        let name = found.value.name.clone();
        self.stage_move_into(instance, found, &trash, &name, changes, |file| {
            file.restore_name = (file.name != name).then(|| name.clone());
            file.restore_path = parent.path.clone();
            file.trashed = true;
            file.cozy_metadata.insert("trashedAt".to_owned(), json!(now));
            if !actor.is_empty() {
                file.cozy_metadata.insert("trashedBy".to_owned(), json!(actor));
            }
        })
    }

    /// Moves a file into another directory, under a name or, if that is taken, with a number. The same commit contains
    /// the changes that `change` makes to the file.
    fn stage_move_into(
        &self,
        instance: &Instance,
        found: Stored<File>,
        to: &File,
        name: &str,
        changes: &mut Changes,
        change: impl FnOnce(&mut File),
    ) -> Result<Vec<File>> {
        let rev = found.rev.clone();
        let (mut file, mut others) = (File::from(found), Changes::new());
        let name = self.free_name(instance, &to.id, name)?;
        let mut changed = self.stage_relocation(instance, &mut file, to, name, &mut others)?;
        file.updated_at = self.core.clock().now();
        file.touch(file.updated_at);
        change(&mut file);
        changes.put(instance.doc(&FILES, file.id.as_str()), &rev, to_object(&file)?).append(others);
        changed.push(file);
        Ok(changed)
    }

    /// Restores a file or directory from the trash. Missing directories are created again, and a number is added to a
    /// name that is taken. `seen` is the revision that may be restored.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::PreconditionFailed`] if it was changed since it was
    /// seen; [`Error::BadRequest`] if it is not in the trash.
    pub async fn restore(&self, instance: &Instance, id: &str, seen: Option<&Rev>) -> Result<File> {
        retry_on_conflict(|| async {
            let found = self.get_movable(instance, id)?.require_rev(seen)?;
            if !self.is_trashed(instance, &found.value)? {
                return Err(Error::BadRequest(format!("'{}' is not in the trash", found.value.name)));
            }
            let path = self.restore_directory_path(instance, &found.value)?;
            let directory = self.ensure_directory(instance, &path).await?;
            let name = found.value.original_name().to_owned();
            let mut changes = Changes::new();
            let changed =
                self.stage_move_into(instance, found, &directory, &name, &mut changes, File::clear_trash_fields)?;
            self.commit_move(instance, seen, changes, changed).await
        })
        .await
    }

    /// Returns the path of the directory that a trashed item came from. For an item in a trashed directory, this is a
    /// path below the former place of that directory.
    pub(super) fn restore_directory_path(&self, instance: &Instance, file: &File) -> Result<String> {
        let above = self.ancestors(instance, file)?;
        let names = above.iter().take_while(|directory| directory.id != TRASH_ID);
        let (mut path, mut names): (_, Vec<&File>) = (file.restore_path.clone(), names.collect());
        if let Some(top) = names.last() {
            path.clone_from(&top.restore_path);
        }
        names.reverse();
        let start = path.filter(|path| !File::is_trash_path(path)).unwrap_or_else(|| "/".to_owned());
        Ok(names.into_iter().fold(start, |path, directory| tree::join_path(&path, directory.original_name())))
    }

    /// Deletes a file, or a directory with its contents, for good; `seen` is the revision that may be deleted.
    ///
    /// Cancel safety: files that were deleted so far stay deleted, the rest is still in the trash.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::PreconditionFailed`] if it was changed since it was
    /// seen; [`Error::BadRequest`] if it is not in the trash; [`Error::Conflict`] if part of it is being changed.
    pub async fn destroy(&self, instance: &Instance, id: &str, seen: Option<&Rev>) -> Result<()> {
        check_may_be_deleted(id)?;
        retry_on_conflict(|| async {
            let file = self.get(instance, id)?;
            check_precondition(&file, seen)?;
            if !file.trashed {
                return Err(Error::BadRequest(format!(
                    "'{}' is not in the trash; move it there before deleting it for good",
                    file.name
                )));
            }
            self.destroy_all(instance, vec![file]).await
        })
        .await
    }

    /// Deletes everything in the trash for good.
    pub async fn empty_trash(&self, instance: &Instance) -> Result<()> {
        loop {
            let is_empty = retry_on_conflict(|| async {
                let page = self.children(instance, TRASH_ID, None, DESTROY_BATCH_SIZE)?;
                let is_empty = page.is_empty();
                self.destroy_all(instance, page).await?;
                Ok(is_empty)
            });
            if is_empty.await? {
                return Ok(());
            }
        }
    }

    /// Deletes files and directories with their contents, children before their directories.
    async fn destroy_all(&self, instance: &Instance, tops: Vec<File>) -> Result<()> {
        let mut all = tops;
        let mut next = 0;
        while let Some(file) = all.get(next) {
            if file.kind == FileKind::Directory {
                let id = file.id.clone();
                let mut after: Option<String> = None;
                loop {
                    let page = self.children(instance, &id, after.as_deref(), DESTROY_BATCH_SIZE)?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.name.clone());
                    all.extend(page);
                }
            }
            next += 1;
        }
        all.reverse();
        let (mut step, mut staged) = (DestroyBatch::default(), 0);
        for file in all {
            staged += self.stage_destroy(instance, file, &mut step)?;
            if staged >= DESTROY_BATCH_SIZE {
                self.commit_destroy_batch(instance, std::mem::take(&mut step)).await?;
                staged = 0;
            }
        }
        self.commit_destroy_batch(instance, step).await
    }

    /// Deletes a file with its versions, or a directory; returns the number of documents.
    fn stage_destroy(&self, instance: &Instance, file: File, step: &mut DestroyBatch) -> Result<usize> {
        let document = instance.doc(&FILES, file.id.as_str());
        let (Some(found), Some(rev)) = (self.core.load::<File>(&document)?, &file.rev) else { return Ok(0) };
        // In the same commit, so that the file stays with all its versions if the commit conflicts.
        let versions = if file.kind == FileKind::File { self.versions(instance, &file.id)? } else { Vec::new() };
        let count = versions.len() + 1;
        self.stage_delete_versions(instance, versions, &mut step.changes, &mut step.versions)?;
        step.changes.remove_unique(&instance.id, CHILDREN_INDEX, child_key(&found.value.dir_id, &found.value.name));
        // Deletes only the revision that was read, not a later one.
        step.changes.delete(document, rev);
        step.files.push(file);
        Ok(count)
    }

    async fn commit_destroy_batch(&self, instance: &Instance, step: DestroyBatch) -> Result<()> {
        let DestroyBatch { files, versions, changes } = step;
        if files.is_empty() {
            return Ok(());
        }
        self.core.commit(changes).await?;
        self.finish_version_changes(versions).await;
        for file in &files {
            self.core.publish(&instance.doc(&FILES, file.id.as_str()), ChangeKind::Deleted, file);
        }
        self.core.delete_blobs(files.into_iter().filter_map(|file| Some(file.content?.blob))).await;
        Ok(())
    }
}

/// A batch of files that are deleted in one commit, with their versions.
#[derive(Default)]
struct DestroyBatch {
    changes: Changes,
    versions: VersionEffects,
    files: Vec<File>,
}
