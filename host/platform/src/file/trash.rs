//! The trash: out of sight, back again, or gone for good.

use konnector_store::Changes;
use serde_json::json;

use super::{CHILDREN, File, Kind, ROOT_ID, TRASH_ID, TRASH_PATH, child_key, tree};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Object, Stored, object};
use crate::{Error, Platform, Result};

/// Files that are deleted in one commit.
const STEP: usize = 100;

impl File {
    /// Whether a path lies below the trash.
    pub(super) fn is_below_trash(path: &str) -> bool {
        path.strip_prefix(TRASH_PATH).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Platform {
    /// Moves a file, or a directory with what is in it, to the trash; answers whether it was there and not in the trash already.
    pub(crate) async fn trash_file(&self, instance: &Instance, id: &str) -> Result<bool> {
        match self.trash(instance, id, &Object::new()).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_) | Error::BadRequest(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a file, or a directory with what is in it, to the trash. `by` is who did it, as `trashedBy` says it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::BadRequest`] for what lies there already, and for the root and the trash themselves.
    pub async fn trash(&self, instance: &Instance, id: &str, by: &Object) -> Result<File> {
        if self.file(instance, id)?.trashed {
            return Err(Error::BadRequest(format!("'{id}' is in the trash already")));
        }
        let found = self.present(instance, id)?;
        let mut changes = Changes::new();
        let mut changed = self.stage_trash(instance, found, by, &mut changes)?;
        self.commit(changes).await?;
        self.publish_updated(instance, &changed)?;
        changed.pop().ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    /// A file or directory that may be moved.
    fn present(&self, instance: &Instance, id: &str) -> Result<Stored<File>> {
        if matches!(id, ROOT_ID | TRASH_ID) {
            return Err(Error::BadRequest("the root directory and the trash stay where they are".to_owned()));
        }
        let found = self.stored::<File>(&instance.doc(&FILES, id))?;
        found.ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    /// The file is the last one that is answered; the directories below it, whose paths change, come before it.
    pub(super) fn stage_trash(
        &self,
        instance: &Instance,
        found: Stored<File>,
        by: &Object,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        let parent = self.file(instance, &found.value.dir_id)?;
        let now = self.clock.now();
        self.stage_place(instance, found, (TRASH_ID, TRASH_PATH), changes, |file| {
            file.restore_path = parent.path.clone();
            file.trashed = true;
            file.cozy_metadata.insert("trashedAt".to_owned(), json!(now));
            if !by.is_empty() {
                file.cozy_metadata.insert("trashedBy".to_owned(), json!(by));
            }
        })
    }

    /// Gives a file another place, under its own name or, where that is taken, with a number. What `change` does to it is in the same commit.
    fn stage_place(
        &self,
        instance: &Instance,
        found: Stored<File>,
        (dir_id, dir_path): (&str, &str),
        changes: &mut Changes,
        change: impl FnOnce(&mut File),
    ) -> Result<Vec<File>> {
        let rev = found.rev.clone();
        let mut file = found.named();
        changes.release(&instance.id, CHILDREN, child_key(&file.dir_id, &file.name));
        file.name = self.free_name(instance, dir_id, &file.name)?;
        dir_id.clone_into(&mut file.dir_id);
        file.updated_at = self.clock.now();
        change(&mut file);
        let mut changed = Vec::new();
        if file.kind == Kind::Directory {
            let path = tree::join(dir_path, &file.name);
            changed = self.stage_paths(instance, &file.id, &path, changes)?;
            file.path = Some(path);
        }
        changes.unique(&instance.id, CHILDREN, child_key(dir_id, &file.name), &file.id);
        let at = instance.doc(&FILES, file.id.as_str());
        changes.put(at, &rev, object(&file)?);
        changed.push(file);
        Ok(changed)
    }

    /// Takes a file or directory out of the trash, to where it was; directories that are gone are made again, and a number is added to a
    /// name that is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::BadRequest`] for what is not in the trash.
    pub async fn restore_file(&self, instance: &Instance, id: &str) -> Result<File> {
        let file = self.file(instance, id)?;
        if !file.trashed {
            return Err(Error::BadRequest(format!("'{}' is not in the trash", file.name)));
        }
        let directory = self.ensure_directory(instance, &self.origin(instance, &file)?).await?;
        let found = self.present(instance, id)?;
        let mut changes = Changes::new();
        let to = (directory.id.as_str(), directory.path.as_deref().unwrap_or("/"));
        let mut changed = self.stage_place(instance, found, to, &mut changes, |file| {
            file.restore_path = None;
            file.trashed = false;
            file.cozy_metadata.shift_remove("trashedAt");
            file.cozy_metadata.shift_remove("trashedBy");
        })?;
        self.commit(changes).await?;
        self.publish_updated(instance, &changed)?;
        changed.pop().ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    /// Path of the directory that something in the trash came from: its own, or below that of the directory which was put there.
    fn origin(&self, instance: &Instance, file: &File) -> Result<String> {
        let above = self.above(instance, file)?;
        let names = above.iter().take_while(|directory| directory.id != TRASH_ID);
        let (mut path, mut names): (_, Vec<&File>) = (file.restore_path.clone(), names.collect());
        if let Some(top) = names.last() {
            path.clone_from(&top.restore_path);
        }
        names.reverse();
        let start = path.filter(|path| !File::is_below_trash(path)).unwrap_or_else(|| "/".to_owned());
        Ok(names.into_iter().fold(start, |path, directory| tree::join(&path, &directory.name)))
    }

    /// Deletes a file, or a directory with what is in it, for good.
    ///
    /// Cancel safety: what was deleted is gone, the rest is still in the trash.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::BadRequest`] for what is not in the trash.
    pub async fn destroy_file(&self, instance: &Instance, id: &str) -> Result<()> {
        let file = self.file(instance, id)?;
        if !file.trashed {
            return Err(Error::BadRequest(format!(
                "'{}' is not in the trash; only what is there can be deleted",
                file.name
            )));
        }
        self.destroy(instance, vec![file]).await
    }

    /// Deletes everything in the trash for good.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn empty_trash(&self, instance: &Instance) -> Result<()> {
        loop {
            let page = self.children(instance, TRASH_ID, None, STEP)?;
            if page.is_empty() {
                return Ok(());
            }
            self.destroy(instance, page).await?;
        }
    }

    /// Deletes these and what is in them, children before their directories.
    async fn destroy(&self, instance: &Instance, tops: Vec<File>) -> Result<()> {
        let mut all = tops;
        let mut next = 0;
        while let Some(file) = all.get(next) {
            if file.kind == Kind::Directory {
                let id = file.id.clone();
                let mut after: Option<String> = None;
                loop {
                    let page = self.children(instance, &id, after.as_deref(), STEP)?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.name.clone());
                    all.extend(page);
                }
            }
            next += 1;
        }
        all.reverse();
        for step in all.chunks(STEP) {
            self.destroy_step(instance, step).await?;
        }
        Ok(())
    }

    async fn destroy_step(&self, instance: &Instance, files: &[File]) -> Result<()> {
        let mut changes = Changes::new();
        for file in files {
            let at = instance.doc(&FILES, file.id.as_str());
            let Some(found) = self.stored::<File>(&at)? else { continue };
            changes.release(&instance.id, CHILDREN, child_key(&found.value.dir_id, &found.value.name));
            changes.delete(at, &found.rev);
        }
        self.commit(changes).await?;
        for file in files {
            self.usage.account(&instance.id, file.len(), 0);
            if let Some(content) = &file.content {
                self.store.blobs().remove(&content.blob).await?;
            }
            self.publish(&instance.doc(&FILES, file.id.as_str()), Happened::Deleted, object(file)?);
        }
        Ok(())
    }
}
