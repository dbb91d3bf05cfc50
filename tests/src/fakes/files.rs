//! Files in memory. A chunk that is `fail` cannot be written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use konnector_sandbox::capability::{Error, Files, Stored, Target, Upload, Written};
use sha2::{Digest as _, Sha256};

/// Files by key.
#[derive(Default)]
pub struct FakeFiles {
    /// What was committed.
    pub stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Uploads that are neither committed nor dropped.
    pub open: Arc<AtomicUsize>,
}

struct FakeUpload {
    target: Target,
    content: Vec<u8>,
    stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    open: Arc<AtomicUsize>,
}

impl Drop for FakeUpload {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn stored(name: &str, mime: Option<String>, content: &[u8], written: Written) -> Stored {
    Stored {
        id: name.to_owned(),
        path: format!("/Administration/Bank101/{name}"),
        size: content.len() as u64,
        mime: mime.unwrap_or_else(|| "application/pdf".to_owned()),
        sha256: hex::encode(Sha256::digest(content)),
        written,
    }
}

#[async_trait]
impl Files for FakeFiles {
    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<Stored>>, Error> {
        let files = self.stored.lock().unwrap();
        let find = |key: &String| files.get(key).map(|content| stored(key, None, content, Written::Unchanged));
        Ok(keys.iter().map(find).collect())
    }

    async fn create(&self, target: Target) -> Result<Box<dyn Upload>, Error> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let (stored, open) = (Arc::clone(&self.stored), Arc::clone(&self.open));
        Ok(Box::new(FakeUpload { target, content: Vec::new(), stored, open }))
    }

    async fn read(&self, id: &str, offset: u64, max: u32) -> Result<Bytes, Error> {
        let files = self.stored.lock().unwrap();
        let content = files.get(id).ok_or_else(|| Error::NotFound(format!("file {id}")))?;
        let rest = content.iter().skip(usize::try_from(offset).expect("small")).take(max as usize);
        Ok(rest.copied().collect())
    }

    async fn remove(&self, keys: Vec<String>) -> Result<u32, Error> {
        let mut files = self.stored.lock().unwrap();
        let removed = keys.iter().filter(|key| files.remove(*key).is_some()).count();
        Ok(u32::try_from(removed).expect("few keys"))
    }
}

#[async_trait]
impl Upload for FakeUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        if chunk == "fail" {
            return Err(Error::Other("the disk is full".to_owned()));
        }
        self.content.extend_from_slice(&chunk);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<Stored, Error> {
        let content = std::mem::take(&mut self.content);
        let answer = stored(&self.target.name, self.target.mime.clone(), &content, Written::Created);
        self.stored.lock().unwrap().insert(self.target.name.clone(), content);
        Ok(answer)
    }
}
