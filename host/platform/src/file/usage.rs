//! How much room the files of an instance take.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use konnector_store::{Changes, InstanceId, Rev};
use serde_json::Value;
use tokio::sync::RwLock;

use super::{File, Kind};
use crate::doctype::{FILES, VERSIONS};
use crate::instance::Instance;
use crate::stored::Object;
use crate::{Platform, Result};

/// Bytes by instance, each counted when it is first asked for and kept up from then on.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<InstanceId, Arc<Gauge>>>);

/// The bytes of one instance.
#[derive(Debug, Default)]
struct Gauge {
    /// Held to read by each commit from before it is made until it is counted, and to write while everything is counted: so each content is
    /// counted once.
    gate: Arc<RwLock<()>>,
    bytes: Mutex<Option<u64>>,
}

/// By how many bytes the files of instances grow with a commit.
pub(crate) type Growth = BTreeMap<InstanceId, i64>;

impl Gauge {
    fn bytes(&self) -> MutexGuard<'_, Option<u64>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn gauge(&self, instance: &InstanceId) -> Arc<Gauge> {
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gauges.entry(instance.clone()).or_default())
    }

    /// Forgets an instance that is gone.
    pub(crate) fn forget(&self, instance: &InstanceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(instance);
    }
}

/// Adds to the growth of an instance what a written file or version means for it.
pub(super) fn grow(growth: &mut Growth, instance: &InstanceId, before: Option<&Object>, after: Option<&Object>) {
    let by = size(after).saturating_sub(size(before));
    if by != 0 {
        let sum = growth.entry(instance.clone()).or_default();
        *sum = sum.saturating_add(by);
    }
}

/// Bytes of a file or version, as its document says.
fn size(body: Option<&Object>) -> i64 {
    let size = body.and_then(|body| body.get("size")).and_then(Value::as_str);
    size.and_then(|size| size.parse().ok()).unwrap_or_default()
}

impl Platform {
    /// Makes changes and counts their growth. Goes on to the end when whoever asked for it no longer waits: what is stored is counted.
    pub(crate) async fn commit_counted(&self, changes: Changes, growth: Growth) -> Result<Vec<Rev>> {
        let platform = self.clone();
        let committed = self.tasks().spawn(async move {
            let mut gauges = Vec::with_capacity(growth.len());
            for (instance, by) in growth {
                let gauge = platform.usage.gauge(&instance);
                let held = Arc::clone(&gauge.gate).read_owned().await;
                gauges.push((gauge, by, held));
            }
            let revs = platform.store.commit(changes).await?;
            for (gauge, by, _held) in gauges {
                if let Some(bytes) = gauge.bytes().as_mut() {
                    *bytes = bytes.saturating_add_signed(by);
                }
            }
            Ok(revs)
        });
        committed.await.unwrap_or(Err(konnector_store::Error::Closed.into()))
    }

    /// Whether the user's space has room for anything.
    pub(crate) async fn has_room(&self, instance: &Instance) -> Result<bool> {
        Ok(self.disk_usage(instance).await? < instance.disk_quota.unwrap_or(self.config.disk_quota))
    }

    /// Bytes that the files of an instance take, with their versions. The first time after a start, every one of them is looked at.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn disk_usage(&self, instance: &Instance) -> Result<u64> {
        let gauge = self.usage.gauge(&instance.id);
        if let Some(bytes) = *gauge.bytes() {
            return Ok(bytes);
        }
        let _held = gauge.gate.write().await;
        if let Some(bytes) = *gauge.bytes() {
            return Ok(bytes);
        }
        let (platform, id) = (self.clone(), instance.id.clone());
        let counted = self.tasks().spawn_blocking(move || platform.count_usage(&id));
        let counted = counted.await.unwrap_or(Err(konnector_store::Error::Closed.into()))?;
        *gauge.bytes() = Some(counted);
        Ok(counted)
    }

    /// Bytes of a file, or of everything in a directory.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn size_of(&self, instance: &Instance, file: &File) -> Result<u64> {
        let mut size = file.len();
        let mut directories: Vec<String> =
            (file.kind == Kind::Directory).then(|| file.id.clone()).into_iter().collect();
        while let Some(directory) = directories.pop() {
            let mut after: Option<String> = None;
            loop {
                let page = self.children(instance, &directory, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                size += page.iter().map(File::len).sum::<u64>();
                directories
                    .extend(page.into_iter().filter(|child| child.kind == Kind::Directory).map(|child| child.id));
            }
            tokio::task::yield_now().await;
        }
        Ok(size)
    }

    fn count_usage(&self, instance: &InstanceId) -> Result<u64> {
        let mut used = 0;
        for doctype in [&FILES, &VERSIONS] {
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(instance, doctype, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                let sizes = page.iter().map(|document| u64::try_from(size(Some(&document.body))).unwrap_or_default());
                used += sizes.sum::<u64>();
            }
        }
        Ok(used)
    }
}
