//! The capabilities of a run over a store in memory: allowed and denied operations, and the effect of a lost lease.

mod account;
mod documents;
mod files;
mod folder;
mod log;
mod moves;
mod oauth;
mod progress;
mod races;
mod versions;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_egress::{Gate, GateOptions};
use konnector_manifest::{Manifest, Permissions};
use konnector_sandbox::Sandbox;
use konnector_sandbox::capability::{CapabilityError, Locator, Object};
use konnector_store::{Changes, Lease, MasterKey, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::RunContext;
use super::documents::RunDocuments;
use super::files::RunFiles;
use super::folder::RunFolder;
use super::progress::RunProgress;
use konnector_accounts::Account;
use konnector_documents::clock::ManualClock;
use konnector_documents::doctype::ACCOUNTS;
use konnector_documents::instance::InstancePatch;
use konnector_jobs::JobContext;
use konnector_jobs::job::{Cause, JobRequest, KONNECTOR_WORKER, TriggerPayload};
use konnector_packages::Konnector;
use konnector_platform::{Config, Platform, PlatformParts};

/// A run of the konnector `bank101` for the account of `ada`, in an instance of its own.
struct TestRun {
    scope: Arc<RunContext>,
    /// The context without the run's lease.
    outside: JobContext,
    manifest: Manifest,
    lease: Lease,
    _folder: TempDir,
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn id(id: impl Into<String>) -> Locator {
    Locator::Id(id.into())
}

fn key(key: &str) -> Locator {
    Locator::Key(key.to_owned())
}

impl TestRun {
    /// Creates a run with these permission rules.
    async fn with_rules(rules: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now: DateTime<Utc> = "2026-11-03T08:00:00Z".parse().unwrap();
        let parts = PlatformParts {
            store: Store::in_memory(),
            sandbox: Arc::new(
                Sandbox::new(konnector_sandbox::SandboxOptions { max_runs: 1, ..Default::default() }).unwrap(),
            ),
            gate: Gate::new(GateOptions {
                allowed_private: vec!["127.0.0.0/8".parse().unwrap()],
                ..GateOptions::default()
            })
            .unwrap(),
            key: MasterKey::create(&folder.path().join("key")).unwrap(),
            clock: Arc::new(ManualClock::new(now)),
            config: Config::new(folder.path().to_owned()),
        };
        let domain = Platform::new(parts).await.unwrap().context().clone();
        let host = "ada.example.org".to_owned();
        let instance = domain.core().instances().create(&host, &InstancePatch::default()).await.unwrap();
        let account = json!({ "account_type": "bank101", "auth": { "login": "ada" } });
        let mut changes = Changes::new();
        changes.create(instance.doc(&ACCOUNTS, "account"), object(account.clone()));
        let rev = domain.core().store().commit(changes).await.unwrap().remove(0);
        let request = JobRequest {
            worker: KONNECTOR_WORKER.to_owned(),
            message: json!({ "konnector": "bank101", "account": "account" }),
            options: None,
            cause: Cause::Manual,
            trigger: None,
            payload: TriggerPayload::default(),
        };
        let job = domain.jobs().push(&instance, request).await.unwrap();
        let claimed = domain.core().store().claim("test", now, 1, &|_, _| Vec::new(), &|_| {}).await;
        let konnector: Konnector = serde_json::from_value(json!({
            "slug": "bank101", "state": "ready", "source": "file:///x", "version": "1.0.0", "checksum": "",
            "created_at": now, "updated_at": now, "_component": null, "name": "Bank101", "type": "konnector",
            "editor": "x", "language": "rust", "permissions": rules,
        }))
        .unwrap();
        let manifest = konnector.manifest().unwrap();
        let account = Account { id: "account".to_owned(), rev, body: object(account) };
        let account = account.authorize(&konnector.slug).unwrap();
        let lease = claimed.unwrap().remove(0);
        let outside = domain.clone();
        let scope = RunContext {
            permissions: Permissions::from_manifest(&object(rules)).unwrap(),
            domain: domain.fenced(&lease),
            instance,
            konnector,
            account: Some(account),
            identifier: Some("ada".to_owned()),
            job,
            awaits_user: AtomicBool::new(false),
        };
        Self { scope: Arc::new(scope), outside, manifest, lease, _folder: folder }
    }

    /// Creates a run with all permissions on bills, contacts and files.
    async fn unrestricted() -> Self {
        Self::with_rules(json!({
            "bills": { "type": "io.cozy.bills" },
            "contacts": { "type": "io.cozy.contacts" },
            "files": { "type": "io.cozy.files" },
        }))
        .await
    }

    fn documents(&self) -> RunDocuments {
        RunDocuments(Arc::clone(&self.scope))
    }

    fn files(&self) -> RunFiles {
        RunFiles::new(Arc::clone(&self.scope), RunFolder::resolve(&self.scope, &self.manifest).unwrap())
    }

    fn progress(&self) -> RunProgress {
        RunProgress::new(Arc::clone(&self.scope))
    }

    /// Gives the job to another worker.
    async fn lose_lease(&self) {
        let mut changes = Changes::new();
        changes.complete(&self.lease);
        self.scope.domain.core().store().commit(changes).await.unwrap();
    }
}

fn error_text<T: std::fmt::Debug>(refused: Result<T, CapabilityError>) -> String {
    format!("{:?}", refused.map(|_| "done").unwrap_err())
}
