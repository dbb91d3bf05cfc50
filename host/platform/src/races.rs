//! Concurrent changes between two steps of one operation. Each test triggers a change at exactly that moment.

mod quota;
mod tree;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use konnector_egress::{Gate, GateOptions};
use konnector_sandbox::Sandbox;
use konnector_store::{
    Batch, Changes, CommitOutcome, DocRef, Error as StoreError, FsckOptions, InstanceId, Kv, MasterKey, MemoryBlobs,
    NoSchema, QueueEntry, Store,
};
use serde_json::json;
use tempfile::TempDir;

use crate::clock::{Clock as _, ManualClock};
use crate::design::{IndexDefinition, NewIndex};
use crate::doctype::{FILES, JOBS, VERSIONS};
use crate::file::{File, NewContent};
use crate::instance::{Instance, InstancePatch};
use crate::job::{CLIENT_WORKER, Cause, JobRequest, JobStatus, TriggerPayload};
use crate::principal::Audience;
use crate::stored::Object;
use crate::{Config, Error, Platform, PlatformParts, Schema};

type Hook = Box<dyn FnOnce() + Send>;

/// A key-value store with hooks for writes at the moments that a test chooses.
#[derive(Clone, Default)]
struct HookedKv(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Hooks that run before the next commits.
    before_commits: VecDeque<Hook>,
    /// Hooks that run after each read of a key with this suffix.
    after_reads: Vec<(Vec<u8>, Hook)>,
    /// Hook that runs before each scan.
    before_scan: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl HookedKv {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn before_commit(&self, hook: impl FnOnce() + Send + 'static) {
        self.inner().before_commits.push_back(Box::new(hook));
    }

    fn after_read(&self, end: &str, hook: impl FnOnce() + Send + 'static) {
        self.inner().after_reads.push((end.as_bytes().to_vec(), Box::new(hook)));
    }

    /// Another store over the same data, for the interfering writer.
    fn store(&self, blobs: &MemoryBlobs) -> Store {
        Store::with_backends(Box::new(self.clone()), Box::new(blobs.clone()))
    }
}

#[async_trait]
impl Kv for HookedKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (found, hook) = {
            let mut inner = self.inner();
            let found = inner.entries.get(key).cloned();
            let hook = inner.after_reads.iter().position(|(end, _)| key.ends_with(end));
            (found, hook.map(|hook| inner.after_reads.remove(hook).1))
        };
        if let Some(hook) = hook {
            hook();
        }
        Ok(found)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let hook = self.inner().before_scan.clone();
        if let Some(hook) = hook {
            hook();
        }
        let inner = self.inner();
        let range = inner.entries.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { range.rev().take(limit).collect() } else { range.take(limit).collect() })
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, StoreError> {
        let hook = self.inner().before_commits.pop_front();
        if let Some(hook) = hook {
            hook();
        }
        batch.validate()?;
        let mut inner = self.inner();
        if !batch.checks_hold(|key, expected| Ok(inner.entries.get(key).map(Vec::as_slice) == expected))? {
            return Ok(CommitOutcome::Rejected);
        }
        for (key, value) in batch.resolve_writes(|key| Ok(inner.entries.get(key).cloned()))? {
            match value {
                Some(value) => inner.entries.insert(key, value),
                None => inner.entries.remove(&key),
            };
        }
        Ok(CommitOutcome::Applied)
    }

    async fn close(&self) {}
}

struct RaceFixture {
    platform: Platform,
    instance: Instance,
    clock: Arc<ManualClock>,
    kv: HookedKv,
    blobs: MemoryBlobs,
    _folder: TempDir,
}

impl RaceFixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (kv, blobs) = (HookedKv::default(), MemoryBlobs::default());
        let clock = Arc::new(ManualClock::new("2026-11-03T08:00:00Z".parse().unwrap()));
        let parts = PlatformParts {
            store: kv.store(&blobs),
            sandbox: Arc::new(
                Sandbox::new(konnector_sandbox::SandboxOptions { max_runs: 1, ..Default::default() }).unwrap(),
            ),
            gate: Gate::new(GateOptions::default()).unwrap(),
            key: MasterKey::create(&folder.path().join("key")).unwrap(),
            clock: clock.clone(),
            config: Config::new(folder.path().to_owned()),
        };
        let platform = Platform::new(parts).await.unwrap();
        let instance = platform.instances().create("ada.example", &InstancePatch::default()).await.unwrap();
        Self { platform, instance, clock, kv, blobs, _folder: folder }
    }

    /// Changes a document without the platform.
    fn touch(&self, at: DocRef) -> impl FnOnce() + Send + 'static {
        let store = self.kv.store(&self.blobs);
        move || {
            let mut found = store.get(&at).unwrap().unwrap();
            found.body.insert("touched".to_owned(), json!(true));
            let mut changes = Changes::new();
            changes.put(at, &found.rev, found.body);
            poll_ready(store.commit(changes)).unwrap();
        }
    }

    async fn file(&self, name: &str, contents: &[&'static str]) -> File {
        let (platform, instance) = (&self.platform, &self.instance);
        let new = NewContent::with_new_id(crate::file::ROOT_ID.to_owned(), name.to_owned(), "text/plain".to_owned());
        let new = NewContent { tags: Some(vec!["kept".to_owned()]), ..new };
        let mut file = None;
        for content in contents {
            let mut writer = platform.files().create_content_writer(instance).await.unwrap();
            assert!(writer.write((*content).into()).await.is_ok());
            let blob = writer.finish().await.unwrap();
            file = Some(platform.files().commit_content(instance, &new, &blob).await.unwrap());
        }
        file.unwrap()
    }

    async fn assert_fsck_clean(&self) {
        let mut problems = Vec::new();
        let told = &mut |event: konnector_store::FsckProgress<'_>| {
            if let konnector_store::FsckProgress::Found(problem) = event {
                problems.push(problem.to_string());
            }
        };
        self.platform.core().store().fsck(&Schema, FsckOptions { deep: true, repair: false }, told).await.unwrap();
        assert_eq!(problems, [""; 0]);
    }
}

/// Returns the outcome of a future that never waits.
fn poll_ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn client_job() -> JobRequest {
    JobRequest {
        worker: CLIENT_WORKER.to_owned(),
        message: json!({}),
        options: None,
        cause: Cause::Manual,
        trigger: None,
        payload: TriggerPayload::default(),
    }
}

#[tokio::test]
async fn a_client_job_ends_once() {
    let site = RaceFixture::new().await;
    let job = site.platform.jobs().push(&site.instance, client_job()).await.unwrap();
    let (platform, instance, id) = (site.platform.clone(), site.instance.clone(), job.id.clone());
    // Another client ends it after this one has read it.
    site.kv.after_read(&format!("io.cozy.jobs\0{}", job.id), move || {
        poll_ready(platform.jobs().end_client_job(&instance, &id, Some("LOGIN_FAILED".to_owned()))).unwrap();
    });
    let second = site.platform.jobs().end_client_job(&site.instance, &job.id, None).await;
    assert!(matches!(second, Err(Error::Conflict(_))), "{second:?}");
    let job = site.platform.jobs().get(&site.instance, &job.id).unwrap();
    assert_eq!((job.state, job.error.as_deref()), (JobStatus::Errored, Some("LOGIN_FAILED")));
}

/// A file takes over the content of another, whose versions are deleted together with it or not at all.
#[tokio::test]
async fn a_move_that_conflicts_loses_no_version() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let from = site.file("from.txt", &["one", "two", "three"]).await;
    let into = site.file("into.txt", &["old"]).await;
    let root = platform.files().get(instance, crate::file::ROOT_ID).unwrap();
    for _ in 0..8 {
        site.kv.before_commit(site.touch(instance.doc(&FILES, from.id.as_str())));
        // The commit of the interfering writer.
        site.kv.before_commit(|| ());
    }
    let moved = platform.files().relocate(instance, &from, &root, "into.txt", Some(&into)).await;
    assert!(matches!(moved, Err(Error::Conflict(_))), "{moved:?}");
    assert_eq!(platform.files().versions(instance, &from.id).unwrap().len(), 2);
    site.assert_fsck_clean().await;
    // A single conflict does not abort the move.
    site.kv.before_commit(site.touch(instance.doc(&FILES, from.id.as_str())));
    platform.files().relocate(instance, &from, &root, "into.txt", Some(&into)).await.unwrap();
    assert_eq!(platform.files().versions(instance, &from.id).unwrap(), []);
    assert_eq!(
        platform.files().read_content(&platform.files().get(instance, &into.id).unwrap()).await.unwrap(),
        b"three"
    );
    site.assert_fsck_clean().await;
}

#[tokio::test]
async fn a_deletion_that_conflicts_loses_no_version() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let file = site.file("a.txt", &["one", "two", "three"]).await;
    assert!(platform.files().try_trash(instance, &file.id).await.unwrap());
    site.kv.before_commit(site.touch(instance.doc(&FILES, file.id.as_str())));
    let seen = platform.files().get(instance, &file.id).unwrap().rev;
    let destroyed = platform.files().destroy(instance, &file.id, seen.as_ref()).await;
    assert!(matches!(destroyed, Err(Error::PreconditionFailed { .. })), "{destroyed:?}");
    assert_eq!(platform.files().versions(instance, &file.id).unwrap().len(), 2);
    platform.files().destroy(instance, &file.id, None).await.unwrap();
    assert!(platform.core().store().list(&instance.id, &VERSIONS, None, 10).unwrap().is_empty());
    site.assert_fsck_clean().await;
}

/// Writes during the count, and callers that stop waiting for it, are counted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_that_files_take_is_counted_once() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    site.file("first.txt", &["12345"]).await;
    // Slow, so that others have time to write in the meantime.
    site.kv.inner().before_scan = Some(Arc::new(|| std::thread::sleep(std::time::Duration::from_millis(20))));
    let counting = {
        let (platform, instance) = (platform.clone(), instance.clone());
        tokio::spawn(async move { platform.files().disk_usage(&instance).await })
    };
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut writer = platform.core().store().blobs().create().await.unwrap();
        writer.write("12345".into()).await.unwrap();
        let blob = writer.finish().await.unwrap();
        let new = NewContent::with_new_id(crate::file::ROOT_ID.to_owned(), name.to_owned(), "text/plain".to_owned());
        let mut create = Box::pin(platform.files().commit_content(instance, &new, &blob));
        if number % 2 == 0 {
            create.await.unwrap();
            continue;
        }
        // The caller stops waiting once the upload has begun.
        let _: bool = std::future::poll_fn(|cx| std::task::Poll::Ready(create.as_mut().poll(cx).is_ready())).await;
        drop(create);
    }
    counting.await.unwrap().unwrap();
    site.kv.inner().before_scan = None;
    platform.core().tasks().close();
    platform.core().tasks().wait().await;
    let listed = platform.core().store().list(&instance.id, &FILES, None, 100).unwrap();
    let sizes = listed.iter().filter_map(|file| file.body.get("size")?.as_str()?.parse::<u64>().ok());
    let stored: u64 = sizes.sum();
    assert!(stored >= 15, "{stored}");
    assert_eq!(platform.files().disk_usage(instance).await.unwrap(), stored);
}

/// A run that ends while the clean-up reads it does not stop the clean-up of the other jobs.
#[tokio::test]
async fn old_jobs_go_although_one_of_them_is_changed() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    for _ in 0..60 {
        let job = platform.jobs().push(instance, client_job()).await.unwrap();
        platform.jobs().end_client_job(instance, &job.id, None).await.unwrap();
    }
    site.clock.set(site.clock.now() + chrono::TimeDelta::hours(1));
    let jobs = platform.core().store().list(&instance.id, &JOBS, None, 100).unwrap();
    site.kv.before_commit(site.touch(instance.doc(&JOBS, jobs[3].id.as_str())));
    let purged = platform.jobs().purge(instance, std::time::Duration::ZERO, &[]).await.unwrap();
    assert!((8..=9).contains(&purged), "{purged} of 10");
    assert!(
        platform.core().store().get(&instance.doc(&JOBS, jobs[3].id.as_str())).unwrap().is_some(),
        "the changed one stays"
    );
}

#[tokio::test]
async fn declaring_an_index_gives_up_in_the_end() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let doctype = "io.cozy.bills".parse().unwrap();
    let token = platform.auth().issue_token(instance, Audience::Cli, "CLI", "*").unwrap();
    let principal = platform.auth().authenticate(instance, &token).unwrap();
    let new = |field: &str| NewIndex {
        design: Some("mine".to_owned()),
        name: Some(field.to_owned()),
        definition: IndexDefinition { fields: vec![field.to_owned()], partial_filter_selector: None },
    };
    platform.documents().declare_index(instance, &principal, &doctype, new("first")).await.unwrap();
    let design = instance.doc(&crate::doctype::DESIGNS, format!("{doctype}/mine"));
    platform.core().store().ensure_index(&instance.id, &doctype, &["vendor".to_owned()]).await.unwrap();
    for _ in 0..50 {
        site.kv.before_commit(site.touch(design.clone()));
        // The commit of the interfering writer.
        site.kv.before_commit(|| ());
    }
    let declared = platform.documents().declare_index(instance, &principal, &doctype, new("vendor")).await;
    assert!(matches!(declared, Err(Error::Conflict(_))), "{declared:?}");
}

/// A lease without a job, and one of a deleted instance, block neither the start nor other jobs.
#[tokio::test]
async fn an_orphan_lease_stops_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(&folder.path().join("store"), konnector_store::StoreOptions::default()).unwrap();
    let clock = Arc::new(ManualClock::new("2026-11-03T08:00:00Z".parse().unwrap()));
    let key = folder.path().join("key");
    MasterKey::create(&key).unwrap();
    let parts = |store| PlatformParts {
        store,
        sandbox: Arc::new(
            Sandbox::new(konnector_sandbox::SandboxOptions { max_runs: 1, ..Default::default() }).unwrap(),
        ),
        gate: Gate::new(GateOptions::default()).unwrap(),
        key: MasterKey::load(&key).unwrap().unwrap(),
        clock: clock.clone(),
        config: Config::new(folder.path().join("cache")),
    };
    let store = open();
    let gone: InstanceId = "9".repeat(32).parse().unwrap();
    let orphan = DocRef::new(&gone, &JOBS, "orphan");
    let mut changes = Changes::new();
    changes.create(orphan.clone(), Object::new());
    changes.enqueue(orphan.clone(), QueueEntry::new(clock.now(), clock.now()).lock(Some("lock".to_owned())));
    store.commit(changes).await.unwrap();
    assert_eq!(store.claim("gone", clock.now(), 5, &|_, _| Vec::new(), &|_| {}).await.unwrap().len(), 1);
    store.close().await.unwrap();

    let platform = Platform::new(parts(open())).await.unwrap();
    platform.jobs().recover().await.unwrap();
    assert_eq!(platform.core().store().leases().unwrap(), []);
    let mut problems = 0;
    let told = &mut |event: konnector_store::FsckProgress<'_>| {
        problems += u32::from(matches!(event, konnector_store::FsckProgress::Found(_)));
    };
    platform.core().store().fsck(&NoSchema, FsckOptions { deep: false, repair: false }, told).await.unwrap();
    assert_eq!(problems, 0);
}

/// The remains of an instance whose deletion was interrupted are deleted at the next start, including contents.
#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    site.file("a.txt", &["one", "two"]).await;
    let other = platform.instances().create("bob.example", &InstancePatch::default()).await.unwrap();
    // The process exits after the first commit of the deletion.
    let removal = {
        let (platform, kv) = (platform.clone(), site.kv.clone());
        tokio::spawn(async move {
            kv.before_commit(|| ());
            kv.before_commit(|| panic!("the process ends"));
            platform.delete_instance("ada.example").await
        })
    };
    removal.await.unwrap_err();
    assert!(platform.instances().get("ada.example").is_err());
    assert_eq!(site.platform.core().store().blobs().list().await.unwrap().len(), 2);

    platform.resume_erasures().await.unwrap();
    assert!(platform.core().store().blobs().list().await.unwrap().is_empty());
    assert!(platform.core().store().doctypes(&instance.id).unwrap().is_empty());
    assert!(platform.files().get(&other, crate::file::ROOT_ID).is_ok());
    site.assert_fsck_clean().await;
}

#[tokio::test]
async fn the_files_of_a_removed_instance_are_gone_at_once() {
    let site = RaceFixture::new().await;
    let (platform, instance) = (&site.platform, &site.instance);
    let file = site.file("a.txt", &["one", "two"]).await;
    let mut reading = platform.files().open_content(&file).await.unwrap();
    let blobs = platform.core().store().blobs();
    assert_eq!(blobs.list().await.unwrap().len(), 2);
    platform.delete_instance("ada.example").await.unwrap();
    assert!(blobs.list().await.unwrap().is_empty());
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut reading, &mut text).await.unwrap();
    assert_eq!(text, "two", "who reads it reads to the end");
    assert!(platform.core().store().doctypes(&instance.id).unwrap().is_empty());
    site.assert_fsck_clean().await;
}
