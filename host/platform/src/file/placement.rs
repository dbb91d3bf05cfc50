//! Where files lie. The one rule about the tree of an instance, which every commit is held to:
//!
//! - whatever is written lies in a directory that is there, and what is new there lies in none that is in the trash;
//! - the path of a directory is that of the directory it lies in and its own name, so that no directory comes to lie in itself;
//! - a directory that is deleted has nothing left in it.
//!
//! Whoever plans a change looks at the tree before, and somebody else may change it until the commit. So the rule is checked by the commit
//! itself, which holds others off until it is durable: whoever moves or deletes a directory waits for all others, and they for it. What does
//! not fit any more is a conflict, and is planned anew. The lock is one of this process, as is the store; nothing of it outlives a crash, nor
//! does a commit in parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use konnector_store::{DocRef, InstanceId};
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::tree::join_path;
use super::{CHILDREN_INDEX, File, ROOT_ID, TRASH_ID, child_key};
use crate::doctype::FILES;
use crate::stored::Object;
use crate::{Error, Platform, Result};

/// Entries of the index that are read at a time.
const PAGE_SIZE: usize = 500;

/// The locks on the trees of instances: held to write by a commit that moves or deletes directories, to read by others that give files a
/// place.
#[derive(Debug, Default)]
pub(crate) struct TreeLocks(Mutex<HashMap<InstanceId, Arc<RwLock<()>>>>);

impl TreeLocks {
    fn instance_lock(&self, instance: &InstanceId) -> Arc<RwLock<()>> {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(trees.entry(instance.clone()).or_default())
    }

    /// Forgets an instance that is gone.
    pub(crate) fn remove(&self, instance: &InstanceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(instance);
    }
}

/// A held lock on a tree.
#[expect(dead_code, reason = "they are held until they are dropped")]
pub(super) enum TreeGuard {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

/// Where a file lies, as its document says.
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

    /// Whether it is the trash, or lies in it.
    fn is_in_trash(&self) -> bool {
        self.path.as_deref().is_some_and(|path| path == super::TRASH_PATH || File::is_trash_path(path))
    }
}

/// A change of a place.
#[derive(Debug)]
struct PlacementChange {
    before: Option<Placement>,
    after: Option<Placement>,
}

impl PlacementChange {
    /// Whether what lies in it depends on it: another path of a directory, or its end.
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

    /// Notes a written file, where its place is another one than before.
    pub(super) fn record(&mut self, document: &DocRef, before: Option<&Object>, after: Option<&Object>) {
        let (before, after) = (before.map(Placement::of), after.map(Placement::of));
        if before != after {
            let moved = self.0.entry(document.instance.clone()).or_default();
            moved.insert(document.id.clone(), PlacementChange { before, after });
        }
    }
}

impl Platform {
    /// Checks places against the rule. Nobody gives other files a place against it, for as long as what is returned is held.
    pub(super) async fn lock_and_check_placements(&self, places: PlacementChanges) -> Result<Vec<TreeGuard>> {
        let mut held = Vec::new();
        // In the order of the instances, so that no two commits wait for each other.
        for (instance, moved) in places.0 {
            let tree = self.trees.instance_lock(&instance);
            if moved.values().any(PlacementChange::affects_subtree) {
                held.push(TreeGuard::Exclusive(tree.write_owned().await));
                let platform = self.clone();
                // Looks at everything in the directories.
                let checked = self.tasks().spawn_blocking(move || platform.check_placements(&instance, &moved));
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

    /// Checks a file against the directory that it lies in.
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
        // What goes to the trash remembers where it was.
        if let Some(before) = before.filter(|before| is_new_there && before.restore_path != after.restore_path)
            && let Some(origin) = self.placement(instance, &before.dir_id, all)?
            && after.restore_path.is_some()
            && after.restore_path != origin.path
        {
            return Err(concurrent_move_error(&path));
        }
        Ok(())
    }

    /// Checks that all that lies in a directory is moved or deleted with it.
    fn check_children(
        &self,
        instance: &InstanceId,
        id: &str,
        is_moved: bool,
        all: &BTreeMap<String, PlacementChange>,
    ) -> Result<()> {
        let (prefix, mut behind) = (child_key(id, ""), None::<String>);
        loop {
            let page = self.store.lookup_prefix(instance, CHILDREN_INDEX, &prefix, behind.as_deref(), PAGE_SIZE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            behind = Some(last.clone());
            for (_, child) in page {
                let fits = match all.get(&child).map(|moved| &moved.after) {
                    // Checked against this directory, or against another one.
                    Some(Some(after)) => is_moved || after.dir_id != id,
                    Some(None) => true,
                    None => is_moved && self.placement(instance, &child, all)?.is_none_or(|child| !child.is_directory),
                };
                if !fits {
                    return Err(Error::Conflict(format!("something came into the directory '{id}'; try again")));
                }
            }
        }
    }

    /// Where a file lies once the commit is made.
    fn placement(
        &self,
        instance: &InstanceId,
        id: &str,
        all: &BTreeMap<String, PlacementChange>,
    ) -> Result<Option<Placement>> {
        match all.get(id) {
            Some(moved) => Ok(moved.after.clone()),
            None => Ok(self.store.get(&DocRef::new(instance, &FILES, id))?.map(|found| Placement::of(&found.body))),
        }
    }
}

fn concurrent_move_error(path: &str) -> Error {
    Error::Conflict(format!("the directory of '{path}' is being moved by somebody else; try again"))
}

/// For a directory that nothing can be put into, whyever.
pub(super) fn directory_not_found(id: &str) -> Error {
    Error::NotFound(format!("there is no directory '{id}' that something can be put into"))
}

/// Why a file does not fit the directory that it lies in, for fsck; `None` when it does. In a cycle of directories, at least one is longer
/// than its path.
pub(crate) fn placement_problem(
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
        return Ok(Some(format!("the directory '{}' that it lies in is not there", place.dir_id)));
    };
    if !directory.is_directory {
        return Ok(Some(format!("'{}', in which it lies, is a file", place.dir_id)));
    }
    let path = join_path(directory.path.as_deref().unwrap_or("/"), &place.name);
    if !place.is_directory || place.path.as_ref() == Some(&path) {
        return Ok(None);
    }
    let mut above = directory;
    for _ in 0..=super::tree::MAX_DEPTH {
        if above.dir_id == document.id {
            return Ok(Some("it lies in itself".to_owned()));
        }
        let next = if above.dir_id.is_empty() { None } else { look(&above.dir_id)? };
        let Some(next) = next else { break };
        above = Placement::of(&next);
    }
    let said = place.path.unwrap_or_default();
    Ok(Some(format!("its path is '{said}', but it lies at '{path}'")))
}
