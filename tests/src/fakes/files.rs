//! Files in memory. Writing the chunk `fail` fails; the file `slow` never responds, the folder `denied` is out of
//! bounds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use konnector_sandbox::capability::{
    CapabilityError, Details, Entry, File, Files, Folder, Listing, Locator, Object, OpenFile, Reference, SaveOutcome,
    SavedFile, Target, Upload,
};
use sha2::{Digest as _, Sha256};

/// Files by name, which is their id and their key.
#[derive(Default)]
pub struct FakeFiles {
    /// Committed contents.
    pub stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Uploads that are neither committed nor dropped, and open files.
    pub open: Arc<AtomicUsize>,
    known: Mutex<BTreeMap<String, (Object, Vec<Reference>)>>,
}

/// One unit of [`FakeFiles::open`].
struct OpenCount(Arc<AtomicUsize>);

impl OpenCount {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct FakeUpload {
    target: Target,
    content: Vec<u8>,
    stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    _open: OpenCount,
}

struct FakeContent {
    content: Vec<u8>,
    _open: OpenCount,
}

fn file(name: &str, mime: Option<String>, content: &[u8]) -> File {
    File {
        id: name.to_owned(),
        path: format!("/Administration/Bank101/{name}"),
        size: content.len() as u64,
        mime: mime.unwrap_or_else(|| "application/pdf".to_owned()),
        sha256: hex::encode(Sha256::digest(content)),
    }
}

impl FakeFiles {
    /// A file's name and content.
    async fn resolve(&self, locator: &Locator) -> Result<(String, Vec<u8>), CapabilityError> {
        let (Locator::Id(name) | Locator::Key(name)) = locator;
        if name == "slow" {
            std::future::pending().await
        }
        let files = self.stored.lock().unwrap();
        let content = files.get(name).ok_or_else(|| CapabilityError::NotFound(format!("file {name}")))?;
        Ok((name.clone(), content.clone()))
    }
}

fn check_folder(folder: &str) -> Result<(), CapabilityError> {
    match folder {
        "denied" => Err(CapabilityError::Denied("the manifest has no rule for GET on io.cozy.files".to_owned())),
        _ => Ok(()),
    }
}

#[async_trait]
impl Files for FakeFiles {
    async fn check_save(&self) -> Result<(), CapabilityError> {
        Ok(())
    }

    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<File>>, CapabilityError> {
        let files = self.stored.lock().unwrap();
        Ok(keys.iter().map(|key| files.get(key).map(|content| file(key, None, content))).collect())
    }

    async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, CapabilityError> {
        check_folder(&target.folder)?;
        let stored = Arc::clone(&self.stored);
        Ok(Box::new(FakeUpload { target, content: Vec::new(), stored, _open: OpenCount::new(&self.open) }))
    }

    async fn open(&self, locator: &Locator) -> Result<Box<dyn OpenFile>, CapabilityError> {
        let content = self.resolve(locator).await?.1;
        Ok(Box::new(FakeContent { content, _open: OpenCount::new(&self.open) }))
    }

    async fn describe(&self, locator: &Locator) -> Result<Details, CapabilityError> {
        let (name, content) = self.resolve(locator).await?;
        let (metadata, references) = self.known.lock().unwrap().get(&name).cloned().unwrap_or_default();
        let entry = Entry::File(file(&name, None, &content));
        Ok(Details { entry, created_at: -1, updated_at: 1, metadata, references })
    }

    async fn merge_metadata(&self, locator: &Locator, patch: Object) -> Result<(), CapabilityError> {
        let (name, _) = self.resolve(locator).await?;
        self.known.lock().unwrap().entry(name).or_default().0.extend(patch);
        Ok(())
    }

    async fn add_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError> {
        let (name, _) = self.resolve(locator).await?;
        self.known.lock().unwrap().entry(name).or_default().1.extend(references);
        Ok(())
    }

    async fn remove_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError> {
        let (name, _) = self.resolve(locator).await?;
        self.known.lock().unwrap().entry(name).or_default().1.retain(|known| !references.contains(known));
        Ok(())
    }

    async fn move_file(&self, locator: &Locator, folder: &str, name: &str) -> Result<File, CapabilityError> {
        check_folder(folder)?;
        let (old, content) = self.resolve(locator).await?;
        let moved = file(name, None, &content);
        let mut files = self.stored.lock().unwrap();
        files.remove(&old);
        files.insert(name.to_owned(), content);
        Ok(moved)
    }

    async fn trash(&self, locators: Vec<Locator>) -> Result<u32, CapabilityError> {
        let mut files = self.stored.lock().unwrap();
        let (Locator::Id(name) | Locator::Key(name)) = &locators[0];
        assert_eq!(locators.len(), 1, "the guests trash one at a time");
        Ok(u32::from(files.remove(name).is_some()))
    }

    async fn ensure_folder(&self, folder: &str) -> Result<Folder, CapabilityError> {
        check_folder(folder)?;
        Ok(Folder { id: format!("id of {folder}"), path: format!("/Administration/Bank101/{folder}") })
    }

    async fn list_folder(&self, folder: &str, limit: u32, cursor: Option<String>) -> Result<Listing, CapabilityError> {
        check_folder(folder)?;
        let files = self.stored.lock().unwrap();
        let remaining = files.iter().filter(|(name, _)| cursor.as_ref().is_none_or(|cursor| *name > cursor));
        let mut entries: Vec<_> = remaining.map(|(name, content)| file(name, None, content)).collect();
        let next = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = entries.last().filter(|_| next).map(|last| last.id.clone());
        Ok(Listing { entries: entries.into_iter().map(Entry::File).collect(), next_cursor: next })
    }
}

#[async_trait]
impl OpenFile for FakeContent {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    async fn read(&mut self, offset: u64, max: u32) -> Result<Bytes, CapabilityError> {
        if self.content == b"stuck" {
            std::future::pending().await
        }
        Ok(self.content.iter().skip(usize::try_from(offset).expect("small")).take(max as usize).copied().collect())
    }
}

#[async_trait]
impl Upload for FakeUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), CapabilityError> {
        if chunk == "fail" {
            return Err(CapabilityError::Internal("the disk is full".to_owned()));
        }
        self.content.extend_from_slice(&chunk);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<SavedFile, CapabilityError> {
        let content = std::mem::take(&mut self.content);
        let file = file(&self.target.name, self.target.mime.clone(), &content);
        self.stored.lock().unwrap().insert(self.target.name.clone(), content);
        Ok(SavedFile { file, outcome: SaveOutcome::Created })
    }
}
