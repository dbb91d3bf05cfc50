//! Places of files, and the rule about the tree of an instance that every commit must satisfy:
//!
//! - every written file is in an existing directory, and a file that is new there is not in a trashed one;
//! - the path of a directory is that of its parent plus its own name, so no directory can contain itself;
//! - a deleted directory is empty.
//!
//! A change is planned on a view of the tree that others may change until the commit. So the commit itself checks the
//! rule, under a lock that it holds until it is durable. A commit that moves or deletes a directory excludes all
//! others. A change that no longer fits is a conflict, and is planned again. The lock belongs to this process, as does
//! the store; after a crash neither a lock nor a partial commit remains.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use konnector_store::{DocRef, InstanceId};
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::tree::join_path;
use super::{CHILDREN_INDEX, File, ROOT_ID, TRASH_ID, child_key};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::stored::Object;

/// Number of index entries that are read at a time.
const PAGE_SIZE: usize = 500;

/// The locks on the trees of instances. Commits that move or delete directories take the write lock; other commits that
/// give files a place take the read lock.
#[derive(Debug, Default)]
pub(crate) struct TreeLocks(Mutex<HashMap<InstanceId, Arc<RwLock<()>>>>);

impl TreeLocks {
    fn instance_lock(&self, instance: &InstanceId) -> Arc<RwLock<()>> {
        let mut trees = self.0.lock();
        Arc::clone(trees.entry(instance.clone()).or_default())
    }

    /// Removes the lock of a deleted instance.
    pub(crate) fn remove(&self, instance: &InstanceId) {
        self.0.lock().remove(instance);
    }
}

/// A held lock on a tree.
#[expect(dead_code, reason = "they are held until they are dropped")]
pub(super) enum TreeGuard {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

/// Place of a file, as stated in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placement {
    is_directory: bool,
    dir_id: String,
    name: String,
    path: Option<String>,
    restore_path: Option<String>,
}

impl Placement {
    fn of(body: &Object) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            is_directory: body.get("type").and_then(Value::as_str) == Some("directory"),
            dir_id: text("dir_id").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            path: text("path"),
            restore_path: text("restore_path"),
        }
    }

    /// Returns whether the place is the trash or inside the trash.
    fn is_in_trash(&self) -> bool {
        self.path.as_deref().is_some_and(|path| path == super::TRASH_PATH || File::is_trash_path(path))
    }
}

/// Change of a place.
#[derive(Debug)]
struct PlacementChange {
    before: Option<Placement>,
    after: Option<Placement>,
}

impl PlacementChange {
    /// Returns whether the change affects descendants, because the path of a directory changes or the directory is
    /// deleted.
    fn affects_subtree(&self) -> bool {
        self.before.as_ref().is_some_and(|before| {
            before.is_directory && self.after.as_ref().is_none_or(|after| after.path != before.path)
        })
    }
}

/// The places that a commit changes, by the ids of the files.
#[derive(Debug, Default)]
pub(super) struct PlacementChanges(BTreeMap<InstanceId, BTreeMap<String, PlacementChange>>);

impl PlacementChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records a written file if its place changes.
    pub(super) fn record(&mut self, document: &DocRef, before: Option<&Object>, after: Option<&Object>) {
        let (before, after) = (before.map(Placement::of), after.map(Placement::of));
        if before != after {
            let moved = self.0.entry(document.instance.clone()).or_default();
            moved.insert(document.id.clone(), PlacementChange { before, after });
        }
    }
}

impl Files {
    /// Checks places against the rule. While the returned locks are held, no other commit can violate it.
    pub(super) async fn lock_and_check_placements(&self, places: PlacementChanges) -> Result<Vec<TreeGuard>> {
        let mut held = Vec::new();
        // In the order of the instances, to avoid deadlocks between commits.
        for (instance, moved) in places.0 {
            let tree = self.state.trees.instance_lock(&instance);
            if moved.values().any(PlacementChange::affects_subtree) {
                held.push(TreeGuard::Exclusive(tree.write_owned().await));
                let files = self.clone();
                // Examines everything in the directories.
                let checked = self.core.tasks().spawn_blocking(move || files.check_placements(&instance, &moved));
                checked.await.unwrap_or(Err(konnector_store::Error::Closed.into()))?;
            } else {
                held.push(TreeGuard::Shared(tree.read_owned().await));
                self.check_placements(&instance, &moved)?;
            }
        }
        Ok(held)
    }

    fn check_placements(&self, instance: &InstanceId, all: &BTreeMap<String, PlacementChange>) -> Result<()> {
        for (id, moved) in all {
            if let Some(after) = &moved.after {
                self.check_placement(instance, id, moved.before.as_ref(), after, all)?;
            }
            if moved.affects_subtree() {
                self.check_children(instance, id, moved.after.is_some(), all)?;
            }
        }
        Ok(())
    }

    /// Checks a file against the directory that contains it.
    fn check_placement(
        &self,
        instance: &InstanceId,
        id: &str,
        before: Option<&Placement>,
        after: &Placement,
        all: &BTreeMap<String, PlacementChange>,
    ) -> Result<()> {
        if id == ROOT_ID {
            return Ok(());
        }
        let directory = self.placement(instance, &after.dir_id, all)?;
        let is_new_there = before.is_none_or(|before| before.dir_id != after.dir_id);
        let is_open = |directory: &Placement| {
            directory.is_directory && (!is_new_there || after.dir_id == TRASH_ID || !directory.is_in_trash())
        };
        let Some(directory) = directory.filter(is_open) else { return Err(directory_not_found(&after.dir_id)) };
        let path = join_path(directory.path.as_deref().unwrap_or("/"), &after.name);
        if after.is_directory && after.path.as_ref() != Some(&path) {
            return Err(concurrent_move_error(&path));
        }
        // A file that moves to the trash must record its former place.
        if let Some(before) = before.filter(|before| is_new_there && before.restore_path != after.restore_path)
            && let Some(origin) = self.placement(instance, &before.dir_id, all)?
            && after.restore_path.is_some()
            && after.restore_path != origin.path
        {
            return Err(concurrent_move_error(&path));
        }
        Ok(())
    }

    /// Checks that all children of a directory are moved or deleted with it.
    fn check_children(
        &self,
        instance: &InstanceId,
        id: &str,
        is_moved: bool,
        all: &BTreeMap<String, PlacementChange>,
    ) -> Result<()> {
        let (prefix, mut after) = (child_key(id, ""), None::<String>);
        loop {
            let page =
                self.core.store().lookup_prefix(instance, CHILDREN_INDEX, &prefix, after.as_deref(), PAGE_SIZE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, child) in page {
                let fits = match all.get(&child).map(|moved| &moved.after) {
                    // Checked against this directory, or against another one.
                    Some(Some(after)) => is_moved || after.dir_id != id,
                    Some(None) => true,
                    None => is_moved && self.placement(instance, &child, all)?.is_none_or(|child| !child.is_directory),
                };
                if !fits {
                    return Err(Error::Conflict(format!(
                        "the directory '{id}' got a new entry in the meantime; try again"
                    )));
                }
            }
        }
    }

    /// Returns the place of a file once the commit is applied.
    fn placement(
        &self,
        instance: &InstanceId,
        id: &str,
        all: &BTreeMap<String, PlacementChange>,
    ) -> Result<Option<Placement>> {
        match all.get(id) {
            Some(moved) => Ok(moved.after.clone()),
            None => {
                Ok(self.core.store().get(&DocRef::new(instance, &FILES, id))?.map(|found| Placement::of(&found.body)))
            }
        }
    }
}

fn concurrent_move_error(path: &str) -> Error {
    Error::Conflict(format!("another request is moving the directory of '{path}'; try again"))
}

/// Returns the error for a directory that cannot take new entries: missing, a file, or in the trash.
pub(super) fn directory_not_found(id: &str) -> Error {
    Error::NotFound(format!("'{id}' does not exist, is not a directory, or is in the trash; choose another directory"))
}

/// Returns why a file does not fit its directory, for fsck; `None` if it does. In a cycle of directories, at least one
/// has a path that does not match.
pub fn placement_problem(
    document: &DocRef,
    body: &Object,
    look: &dyn Fn(&DocRef) -> konnector_store::Result<Option<Object>>,
) -> konnector_store::Result<Option<String>> {
    if document.id == ROOT_ID {
        return Ok(None);
    }
    let look = |id: &str| look(&DocRef::new(&document.instance, &document.doctype, id));
    let place = Placement::of(body);
    let Some(directory) = look(&place.dir_id)?.map(|found| Placement::of(&found)) else {
        return Ok(Some(format!("its directory '{}' does not exist", place.dir_id)));
    };
    if !directory.is_directory {
        return Ok(Some(format!("its directory '{}' is a file", place.dir_id)));
    }
    let path = join_path(directory.path.as_deref().unwrap_or("/"), &place.name);
    if !place.is_directory || place.path.as_ref() == Some(&path) {
        return Ok(None);
    }
    let mut above = directory;
    for _ in 0..=super::tree::MAX_DEPTH {
        if above.dir_id == document.id {
            return Ok(Some("it contains itself".to_owned()));
        }
        let next = if above.dir_id.is_empty() { None } else { look(&above.dir_id)? };
        let Some(next) = next else { break };
        above = Placement::of(&next);
    }
    let stored = place.path.unwrap_or_default();
    Ok(Some(format!("its stored path is '{stored}', but it is at '{path}'")))
}
