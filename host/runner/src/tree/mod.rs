//! The user's files as the directory `/files` of a run: the files that the manifest's rules cover, and the directories
//! above them.

mod content;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use konnector_egress::log_limit;
use konnector_manifest::Verb;
use konnector_sandbox::capability::{ChildRef, ContentReader, Destination, Draft, Node, QuotaKind, Tree, TreeError};

use super::RunContext;
use crate::Error;
use konnector_documents::doctype::FILES;
use konnector_files::{File, FileKind, MAX_NAME_LEN, ROOT_ID, TRASH_ID, sanitize_name_within};

/// Number of children that are read at a time.
const PAGE_SIZE: usize = 100;
/// Verb for replacing the content of a file, as for `PUT /files/:id`.
const WRITE: &[Verb] = &[Verb::Put];
/// Verb for moving or renaming a file or directory, as for `PATCH /files/:id`.
const MOVE: &[Verb] = &[Verb::Patch];

/// The directory `/files`.
#[derive(Clone)]
pub struct RunTree {
    scope: Arc<RunContext>,
    traversable_dirs: Arc<TraversableDirs>,
}

/// Directories above those that rules cover, as of the first access.
#[derive(Default)]
struct TraversableDirs {
    listable: OnceLock<HashSet<String>>,
    addressable: OnceLock<HashSet<String>>,
}

/// Visibility of a file.
struct Visibility {
    verbs: &'static [Verb],
    dirs: fn(&TraversableDirs) -> &OnceLock<HashSet<String>>,
}

/// Visibility of a file that is listed when its directory is read.
static LISTABLE: Visibility = Visibility { verbs: &[Verb::Get], dirs: |dirs| &dirs.listable };
/// Visibility of a file that is found by its name. A konnector that may only create files must be able to name the
/// directory.
static ADDRESSABLE: Visibility = Visibility { verbs: &Verb::ALL, dirs: |dirs| &dirs.addressable };

impl RunTree {
    /// Creates the directory; `None` if no rule covers files.
    pub fn new(scope: &Arc<RunContext>) -> Option<Self> {
        let some_rule = Verb::ALL.iter().any(|verb| scope.permissions.allows_any(*verb, &FILES));
        some_rule.then(|| Self { scope: Arc::clone(scope), traversable_dirs: Arc::default() })
    }

    fn is_selected(&self, verbs: &[Verb], file: &File) -> Result<bool, TreeError> {
        let RunContext { domain, instance, permissions, .. } = &*self.scope;
        domain.files().is_allowed(instance, permissions, verbs, file).map_err(to_tree_error)
    }

    /// Returns whether a file is a directory above something that the rules make visible in this way.
    async fn is_traversable(&self, file: &File, visibility: &'static Visibility) -> Result<bool, TreeError> {
        if file.kind != FileKind::Directory {
            return Ok(false);
        }
        let RunContext { domain, instance, permissions, .. } = &*self.scope;
        let cell = (visibility.dirs)(&self.traversable_dirs);
        let dirs = match cell.get() {
            Some(dirs) => dirs,
            None => {
                let found = domain
                    .files()
                    .traversable_dirs(instance, permissions, visibility.verbs)
                    .await
                    .map_err(to_tree_error)?;
                cell.get_or_init(|| found)
            }
        };
        Ok(dirs.contains(&file.id))
    }

    async fn is_visible(&self, file: &File, visibility: &'static Visibility) -> Result<bool, TreeError> {
        Ok(!file.trashed
            && file.id != TRASH_ID
            && (self.is_selected(visibility.verbs, file)? || self.is_traversable(file, visibility).await?))
    }

    /// Returns a file or directory that a rule makes visible.
    async fn file(&self, id: &str) -> Result<File, TreeError> {
        let file = self.scope.domain.files().get(&self.scope.instance, id).map_err(to_tree_error)?;
        let is_root = file.id == ROOT_ID;
        if is_root || self.is_visible(&file, &ADDRESSABLE).await? { Ok(file) } else { Err(TreeError::NotFound) }
    }

    async fn directory(&self, id: &str) -> Result<File, TreeError> {
        let directory = self.file(id).await?;
        if directory.kind == FileKind::Directory { Ok(directory) } else { Err(TreeError::NotDirectory) }
    }

    async fn child_file(&self, child: ChildRef<'_>) -> Result<Option<File>, TreeError> {
        let found = self
            .scope
            .domain
            .files()
            .child(&self.scope.instance, child.directory, child.name)
            .map_err(to_tree_error)?;
        match found {
            Some(file) => Ok(self.is_visible(&file, &ADDRESSABLE).await?.then_some(file)),
            None => Ok(None),
        }
    }

    /// Checks the rules; the error names the missing rule.
    fn check(&self, verbs: &[Verb], file: &File) -> Result<(), TreeError> {
        self.scope.check_file(verbs, file).map_err(to_tree_error)
    }

    /// Checks that a new file or directory may be created in a directory.
    fn check_new(&self, directory: &File, name: &str, kind: FileKind, mime: Option<String>) -> Result<(), TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        check_name(name)?;
        let new = File::directory("", &directory.id, name, "", domain.core().clock().now(), &instance.domain);
        self.check(&[Verb::Post], &File { kind, mime, ..new })
    }

    fn node(&self, file: &File) -> Result<Node, TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        Ok(Node {
            id: file.id.clone(),
            path: domain.files().path_of(instance, file).map_err(to_tree_error)?,
            is_directory: file.kind == FileKind::Directory,
            is_readable: self.is_selected(&[Verb::Get], file)?,
            size: file.len(),
            modified: system_time(file.updated_at),
        })
    }
}

#[async_trait]
impl Tree for RunTree {
    async fn root(&self) -> Result<Node, TreeError> {
        self.node(&self.file(ROOT_ID).await?)
    }

    async fn node(&self, id: &str) -> Result<Node, TreeError> {
        self.node(&self.file(id).await?)
    }

    async fn child(&self, child: ChildRef<'_>) -> Result<Node, TreeError> {
        self.node(&self.child_file(child).await?.ok_or(TreeError::NotFound)?)
    }

    async fn children(&self, directory: &str, after: Option<&str>) -> Result<Vec<(String, Node)>, TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        let directory = self.directory(directory).await?;
        if !self.is_traversable(&directory, &LISTABLE).await? {
            self.check(&[Verb::Get], &directory)?;
        }
        let mut after = after.map(str::to_owned);
        loop {
            let page =
                domain.files().children(instance, &directory.id, after.as_deref(), PAGE_SIZE).map_err(to_tree_error)?;
            let Some(last) = page.last() else { return Ok(Vec::new()) };
            after = Some(last.name.clone());
            let mut visible = Vec::new();
            for file in page {
                if self.is_visible(&file, &LISTABLE).await? {
                    visible.push((file.name.clone(), self.node(&file)?));
                }
            }
            if !visible.is_empty() {
                return Ok(visible);
            }
        }
    }

    async fn open(&self, id: &str) -> Result<Box<dyn ContentReader>, TreeError> {
        let file = self.file(id).await?;
        self.check(&[Verb::Get], &file)?;
        let reader = self.scope.domain.files().open_content(&file).await.map_err(to_content_error)?;
        Ok(Box::new(content::TreeContent::new(reader, file.len())))
    }

    async fn check_write(&self, to: &Destination) -> Result<(), TreeError> {
        match to {
            Destination::New { directory, name } => {
                self.check_new(&self.directory(directory).await?, name, FileKind::File, None)
            }
            Destination::Existing(id) => self.check(WRITE, &self.file(id).await?),
        }
    }

    async fn create_draft(&self) -> Result<Box<dyn Draft>, TreeError> {
        let content =
            self.scope.domain.files().create_content_writer(&self.scope.instance).await.map_err(to_tree_error)?;
        Ok(Box::new(content::TreeDraft::new(self.clone(), content)))
    }

    async fn create_directory(&self, child: ChildRef<'_>) -> Result<Node, TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        let parent = self.directory(child.directory).await?;
        self.check_new(&parent, child.name, FileKind::Directory, None)?;
        let made = domain.files().create_directory(instance, &parent, child.name).await;
        self.node(&made.map_err(to_create_error)?)
    }

    async fn rename(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<(), TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        let moved = self.child_file(from).await?.ok_or(TreeError::NotFound)?;
        let (to_directory, there) = (self.directory(to.directory).await?, self.child_file(to).await?);
        if there.as_ref().is_some_and(|there| there.id == moved.id) {
            return Ok(());
        }
        self.check(MOVE, &moved)?;
        match &there {
            None => {
                let moved = File { dir_id: to_directory.id.clone(), name: to.name.to_owned(), ..moved.clone() };
                check_name(to.name)?;
                // It must stay within the rules, both at the old and the new location.
                self.check(MOVE, &moved)?;
            }
            Some(there) if self.is_below(&moved, there)? => return Err(TreeError::NotEmpty),
            Some(there) => match (moved.kind, there.kind) {
                (FileKind::Directory, FileKind::File) => return Err(TreeError::NotDirectory),
                (FileKind::File, FileKind::Directory) => return Err(TreeError::IsDirectory),
                (FileKind::File, FileKind::File) => self.check(WRITE, there)?,
                (FileKind::Directory, FileKind::Directory) => {
                    self.check(&[Verb::Delete], there)?;
                    self.check_empty(there)?;
                }
            },
        }
        if to_directory.id == moved.id || self.is_below(&to_directory, &moved)? {
            return Err(TreeError::MoveIntoItself);
        }
        // A file that replaces another one takes over its place and its attributes.
        let after = match &there {
            Some(there) if there.kind == FileKind::File => there.clone(),
            _ => File { dir_id: to_directory.id.clone(), name: to.name.to_owned(), ..moved.clone() },
        };
        self.scope.check_permission_gain(&moved, &after).map_err(to_tree_error)?;
        let done = domain.files().relocate(instance, &moved, &to_directory, to.name, there.as_ref()).await;
        done.map_err(if there.is_some() { to_tree_error } else { to_create_error })
    }

    async fn remove(&self, child: ChildRef<'_>, directory: bool) -> Result<(), TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        let file = self.child_file(child).await?.ok_or(TreeError::NotFound)?;
        match (file.kind, directory) {
            (FileKind::Directory, false) => return Err(TreeError::IsDirectory),
            (FileKind::File, true) => return Err(TreeError::NotDirectory),
            (FileKind::Directory, true) | (FileKind::File, false) => {}
        }
        self.check(&[Verb::Delete], &file)?;
        if directory {
            self.check_empty(&file)?;
        }
        match domain.files().try_trash(instance, &file.id).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(TreeError::NotFound),
            Err(error) => Err(to_tree_error(error)),
        }
    }
}

impl RunTree {
    /// Returns whether a file or directory is inside another one, at any depth.
    fn is_below(&self, file: &File, directory: &File) -> Result<bool, TreeError> {
        let above = self.scope.domain.files().ancestors(&self.scope.instance, file).map_err(to_tree_error)?;
        Ok(above.iter().any(|above| above.id == directory.id))
    }

    /// Checks that a directory is empty. Files that the rules do not show count, too, because they must not be deleted
    /// with it.
    fn check_empty(&self, directory: &File) -> Result<(), TreeError> {
        let RunContext { domain, instance, .. } = &*self.scope;
        let first = domain.files().children(instance, &directory.id, None, 1).map_err(to_tree_error)?;
        if first.is_empty() { Ok(()) } else { Err(TreeError::NotEmpty) }
    }
}

/// Rejects names that sanitising would change, so that the konnector finds its files under the names it gave.
fn check_name(name: &str) -> Result<(), TreeError> {
    let safe = sanitize_name_within(name, MAX_NAME_LEN);
    if name.len() > MAX_NAME_LEN {
        return Err(TreeError::TooLong);
    }
    if safe == name { Ok(()) } else { Err(TreeError::InvalidName(safe)) }
}

fn system_time(time: DateTime<Utc>) -> SystemTime {
    time.into()
}

/// Converts a domain error for the guest.
fn to_tree_error(error: Error) -> TreeError {
    match error {
        Error::NotFound(_) => TreeError::NotFound,
        Error::Conflict(_) => TreeError::Conflict,
        Error::Forbidden(message) => TreeError::Denied(message),
        Error::StaleLease => TreeError::LeaseLost,
        Error::TooLarge(_) => TreeError::TooLong,
        Error::Store(error) if error.is_disk_full() => TreeError::QuotaExceeded(QuotaKind::Storage),
        Error::Store(konnector_store::Error::TooLarge { .. }) => TreeError::TooLong,
        Error::Store(konnector_store::Error::Invalid { .. })
        | Error::InvalidParameter { .. }
        | Error::BadRequest(_) => TreeError::MoveIntoItself,
        other => {
            if log_limit::may_log() {
                tracing::error!(error = %other, "an operation on the user's files failed");
            }
            TreeError::Other("internal error of the server; its log has the details".to_owned())
        }
    }
}

/// Like [`to_tree_error`], for content to be read. Missing or damaged content is reported as not found, so the
/// konnector fetches it again.
fn to_content_error(error: Error) -> TreeError {
    match error {
        Error::Store(error) if error.is_blob_lost() => {
            tracing::error!(%error, "the content of a file is missing or damaged");
            TreeError::NotFound
        }
        other => to_tree_error(other),
    }
}

/// Like [`to_tree_error`], but a conflict means that the name is taken.
fn to_create_error(error: Error) -> TreeError {
    match error {
        Error::Conflict(_) => TreeError::AlreadyExists,
        other => to_tree_error(other),
    }
}
