//! Disk usage of the files of an instance.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use konnector_store::InstanceId;
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::{File, FileKind};
use crate::Files;
use crate::Result;
use konnector_documents::doctype::{FILES, VERSIONS};
use konnector_documents::instance::Instance;
use konnector_documents::stored::Object;

/// Used bytes by instance, each counted on first use and updated from then on.
#[derive(Debug, Default)]
pub(crate) struct UsageTracker(Mutex<HashMap<InstanceId, Arc<InstanceUsage>>>);

/// The bytes of one instance.
#[derive(Debug, Default)]
struct InstanceUsage {
    /// Each commit takes the read lock until its growth is counted; a full count takes the write lock. So each content
    /// is counted once.
    lock: Arc<RwLock<()>>,
    totals: Mutex<UsageTotals>,
}

#[derive(Debug, Default)]
struct UsageTotals {
    /// Number of bytes of files and versions; `None` until they are counted.
    used: Option<u64>,
    /// Number of bytes of contents that are being written and do not belong to a file yet.
    reserved: u64,
}

/// Growth in bytes of the files of instances with a commit.
pub(crate) type UsageDeltas = BTreeMap<InstanceId, i64>;

impl InstanceUsage {
    fn totals(&self) -> MutexGuard<'_, UsageTotals> {
        self.totals.lock()
    }
}

/// Number of bytes of a content that is being written, reserved until a file refers to the content or the content is
/// abandoned. A crash leaves no reservation.
#[derive(Debug)]
pub(super) struct Reservation {
    usage: Arc<InstanceUsage>,
    /// Quota of the instance, including used and reserved bytes.
    quota: u64,
    bytes: u64,
}

impl Reservation {
    /// Increases the reservation to at least `bytes`; returns `false`, without any change, if the quota does not allow
    /// it.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let mut totals = self.usage.totals();
        let reserved = totals.reserved.saturating_add(more);
        let fits = more == 0 || totals.used.unwrap_or_default().saturating_add(reserved) <= self.quota;
        if fits {
            totals.reserved = reserved;
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut totals = self.usage.totals();
        totals.reserved = totals.reserved.saturating_sub(self.bytes);
    }
}

/// Growth that is counted once its commit is applied.
pub(super) struct UsageUpdate(Vec<(Arc<InstanceUsage>, i64, OwnedRwLockReadGuard<()>)>);

impl UsageUpdate {
    /// Counts the growth.
    pub(super) fn apply(self) {
        for (usage, delta, _held) in self.0 {
            if let Some(used) = usage.totals().used.as_mut() {
                *used = used.saturating_add_signed(delta);
            }
        }
    }
}

impl UsageTracker {
    fn instance_usage(&self, instance: &InstanceId) -> Arc<InstanceUsage> {
        let mut usages = self.0.lock();
        Arc::clone(usages.entry(instance.clone()).or_default())
    }

    /// Waits for the end of a full count, and blocks the next one until the growth of a commit is counted.
    pub(super) async fn begin_update(&self, growth: UsageDeltas) -> UsageUpdate {
        let mut counting = Vec::with_capacity(growth.len());
        for (instance, delta) in growth {
            let usage = self.instance_usage(&instance);
            let held = Arc::clone(&usage.lock).read_owned().await;
            counting.push((usage, delta, held));
        }
        UsageUpdate(counting)
    }

    /// Removes the counters of a deleted instance.
    pub(crate) fn remove(&self, instance: &InstanceId) {
        self.0.lock().remove(instance);
    }
}

/// Adds the effect of a written file or version to the growth of an instance.
pub(super) fn add_delta(
    growth: &mut UsageDeltas,
    instance: &InstanceId,
    before: Option<&Object>,
    after: Option<&Object>,
) {
    let delta = body_size(after).saturating_sub(body_size(before));
    if delta != 0 {
        let sum = growth.entry(instance.clone()).or_default();
        *sum = sum.saturating_add(delta);
    }
}

/// Returns the bytes of a file or version, as stated in its document.
fn body_size(body: Option<&Object>) -> i64 {
    let size = body.and_then(|body| body.get("size")).and_then(Value::as_str);
    size.and_then(|size| size.parse().ok()).unwrap_or_default()
}

impl Files {
    /// Returns the bytes that the instance's quota leaves, after its files and the contents that are being written.
    pub async fn remaining_space(&self, instance: &Instance) -> Result<u64> {
        let used = self.disk_usage(instance).await?;
        let reserved = self.state.usage.instance_usage(&instance.id).totals().reserved;
        Ok(self.quota(instance).saturating_sub(used).saturating_sub(reserved))
    }

    /// Starts a reservation for content of an instance.
    pub(super) async fn begin_reservation(&self, instance: &Instance) -> Result<Reservation> {
        // Counted, so that `used` is known from now on.
        self.disk_usage(instance).await?;
        Ok(Reservation { usage: self.state.usage.instance_usage(&instance.id), quota: self.quota(instance), bytes: 0 })
    }

    fn quota(&self, instance: &Instance) -> u64 {
        instance.disk_quota.unwrap_or(self.state.disk_quota)
    }

    /// Returns whether an instance is below its quota.
    pub async fn is_below_quota(&self, instance: &Instance) -> Result<bool> {
        Ok(self.disk_usage(instance).await? < self.quota(instance))
    }

    /// Returns the bytes that the files of an instance take, with their versions. The first call after a start reads
    /// all of them.
    pub async fn disk_usage(&self, instance: &Instance) -> Result<u64> {
        let usage = self.state.usage.instance_usage(&instance.id);
        let known = usage.totals().used;
        if let Some(used) = known {
            return Ok(used);
        }
        let _held = usage.lock.write().await;
        let known = usage.totals().used;
        if let Some(used) = known {
            return Ok(used);
        }
        let (files, id) = (self.clone(), instance.id.clone());
        let counted = self.core.tasks().spawn_blocking(move || files.count_usage(&id));
        let counted = counted.await.unwrap_or(Err(konnector_store::Error::Closed.into()))?;
        usage.totals().used = Some(counted);
        Ok(counted)
    }

    /// Returns the bytes of a file, or of everything in a directory.
    pub async fn total_size(&self, instance: &Instance, file: &File) -> Result<u64> {
        let mut size = file.len();
        let mut directories: Vec<String> =
            (file.kind == FileKind::Directory).then(|| file.id.clone()).into_iter().collect();
        while let Some(directory) = directories.pop() {
            let mut after: Option<String> = None;
            loop {
                let page = self.children(instance, &directory, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                size += page.iter().map(File::len).sum::<u64>();
                directories
                    .extend(page.into_iter().filter(|child| child.kind == FileKind::Directory).map(|child| child.id));
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
                let page = self.core.store().list(instance, doctype, after.as_deref(), 500)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                let sizes =
                    page.iter().map(|document| u64::try_from(body_size(Some(&document.body))).unwrap_or_default());
                used += sizes.sum::<u64>();
            }
        }
        Ok(used)
    }
}
