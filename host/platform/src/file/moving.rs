//! Moving: names change, content does not. Each is one commit.

use konnector_store::Changes;

use super::replace::{Keep, Replaced};
use super::tree::{self, DEEPEST};
use super::{CHILDREN, File, Kind, child_key};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Object, Stored, object};
use crate::{Error, Platform, Result};

/// Directories below one that is moved: their paths are changed in the same commit.
const MOST_DIRECTORIES: usize = 1_000;

impl Platform {
    /// Gives a file or directory another place or name. A file that has the name already gets the content and keeps its id, with which
    /// others refer to it; an empty directory that has it goes to the trash.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when one of them is gone, [`Error::Conflict`] when somebody else changes one of them at the same time,
    /// [`Error::TooLarge`] when a directory would be nested too deeply or has too many below it.
    pub(crate) async fn move_file(
        &self,
        instance: &Instance,
        file: &File,
        to: &File,
        name: &str,
        over: Option<&File>,
    ) -> Result<()> {
        let mut changes = Changes::new();
        let mut changed = Vec::new();
        match over {
            Some(there) if there.kind == Kind::File => return self.merge(instance, file, there).await,
            Some(there) => {
                let found = self.current(instance, &there.id)?;
                changed.extend(self.stage_trash(instance, found, &Object::new(), &mut changes)?);
            }
            None => {}
        }
        let found = self.current(instance, &file.id)?;
        let rev = found.rev.clone();
        let mut moved = found.named();
        changes.release(&instance.id, CHILDREN, child_key(&moved.dir_id, &moved.name));
        moved.dir_id.clone_from(&to.id);
        name.clone_into(&mut moved.name);
        moved.updated_at = self.clock.now();
        if moved.kind == Kind::Directory {
            let path = tree::join(to.path.as_deref().unwrap_or("/"), name);
            changed.extend(self.stage_paths(instance, &moved.id, &path, &mut changes)?);
            moved.path = Some(path);
        }
        changes.unique(&instance.id, CHILDREN, child_key(&to.id, name), &moved.id);
        let at = instance.doc(&FILES, moved.id.as_str());
        changes.put(at, &rev, object(&moved)?);
        changed.push(moved);
        self.commit(changes).await?;
        self.publish_updated(instance, &changed)
    }

    /// The content of one file becomes that of another, and the one is no more.
    async fn merge(&self, instance: &Instance, from: &File, into: &File) -> Result<()> {
        let (from, into) = (self.current(instance, &from.id)?, self.current(instance, &into.id)?);
        let (from_rev, now) = (from.rev.clone(), self.clock.now());
        let from = from.named();
        let gone = instance.doc(&FILES, from.id.as_str());
        let key = child_key(&from.dir_id, &from.name);
        let (mut staged, mut versions) = (Changes::new(), Replaced::default());
        // In the same commit: one that conflicts leaves the file with all its versions.
        self.stage_removed(instance, self.versions(instance, &from.id)?, &mut staged, &mut versions)?;
        let merged = self.replace(instance, into, None, Keep::ByAge, |file, changes| {
            (file.content, file.size, file.md5sum) = (from.content, from.size, from.md5sum);
            (file.mime, file.class, file.encrypted) = (from.mime, from.class, from.encrypted);
            file.updated_at = now;
            changes.release(&instance.id, CHILDREN, key);
            changes.delete(gone.clone(), &from_rev).then(staged);
            Ok(())
        });
        merged.await?;
        self.finish_replaced(versions).await;
        self.publish(&gone, Happened::Deleted, Object::new());
        Ok(())
    }

    /// The directories below one, with the paths that they have when it is called `path`.
    pub(super) fn stage_paths(
        &self,
        instance: &Instance,
        id: &str,
        path: &str,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        let mut changed = Vec::new();
        let mut todo = vec![(id.to_owned(), path.to_owned())];
        while let Some((id, path)) = todo.pop() {
            if path.matches('/').count() > DEEPEST || todo.len() + changed.len() > MOST_DIRECTORIES {
                return Err(Error::TooLarge(format!(
                    "directories may be nested {DEEPEST} deep, and one with more than {MOST_DIRECTORIES} below it cannot be moved"
                )));
            }
            let mut after: Option<String> = None;
            loop {
                let page = self.children(instance, &id, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for child in page.into_iter().filter(|child| child.kind == Kind::Directory) {
                    let found = self.current(instance, &child.id)?;
                    let rev = found.rev.clone();
                    let mut directory = found.named();
                    let path = tree::join(&path, &directory.name);
                    directory.path = Some(path.clone());
                    changes.put(instance.doc(&FILES, directory.id.as_str()), &rev, object(&directory)?);
                    todo.push((directory.id.clone(), path));
                    changed.push(directory);
                }
            }
        }
        Ok(changed)
    }

    /// A file that is not in the trash, with its revision.
    fn current(&self, instance: &Instance, id: &str) -> Result<Stored<File>> {
        let found = self.stored::<File>(&instance.doc(&FILES, id))?.filter(|found| !found.value.trashed);
        found.ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))
    }

    pub(super) fn publish_updated(&self, instance: &Instance, files: &[File]) -> Result<()> {
        for file in files {
            self.publish(&instance.doc(&FILES, file.id.as_str()), Happened::Updated, file);
        }
        Ok(())
    }
}
