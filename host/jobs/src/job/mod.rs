//! Documents, indexes and life cycle of jobs.

mod cancel;
mod chain;
mod client;
mod failure;
mod heartbeat;
mod links;
mod log;
mod payload;
mod permit;
mod reaper;
mod retention;
mod retry;
mod runner;
mod step;
mod transition;
mod waiting;
mod worker;

use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_sandbox::{Problem, Receipt};
use konnector_store::{BlobId, Changes, DocRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use cancel::RunningJobs;
pub use failure::{JobErrorCode, JobFailure};
pub use links::INDEXES;
pub use payload::TriggerPayload;
pub(crate) use permit::VendorHostCache;
pub use retention::JobRetention;
pub use retry::{Retry, RetryPolicy};
pub use runner::{Assignment, JobTask, RunResult, Runner};
pub use step::{IllegalTransition, JobCommand, JobEvent, JobState, Phase, StepContext, step};
pub use transition::RunArtifacts;
pub use waiting::WaitReason;

use crate::Jobs;
use crate::{Error, Result};
use konnector_accounts::AccountLocation;
use konnector_documents::doctype::JOBS;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Stored, new_id, to_object};

/// Maximum number of attempts while the vendor is down.
const MAX_ATTEMPTS: u32 = 8;
/// Name of the worker that runs konnectors.
pub const KONNECTOR_WORKER: &str = "konnector";
/// Name of the worker whose jobs clients carry out and end themselves.
pub const CLIENT_WORKER: &str = "client";
/// Index from worker to the jobs that have not ended: `<worker>/<job>`.
const LIVE_BY_WORKER: &str = "jobs.live";
/// Number of live jobs that are read at a time.
const LIVE_PAGE_SIZE: usize = 100;
/// Index from trigger to its jobs, newest first: `<trigger>/<inverted job id>`. Jobs without a trigger belong to the
/// trigger `-`.
const BY_TRIGGER: &str = "jobs.trigger";
/// Index from trigger to its jobs that have not ended: `<trigger>/<job>`.
const LIVE_BY_TRIGGER: &str = "jobs.trigger.live";

/// Status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waits for a worker.
    Queued,
    /// A worker is running it.
    Running,
    /// Succeeded.
    Done,
    /// Failed with an error.
    Errored,
}

/// Limits of a job; they may only lower those of its worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Maximum number of attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_exec_count: Option<u32>,
    /// Timeout of one attempt, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl JobOptions {
    /// Never retried, regardless of the failure.
    pub const ONCE: Self = Self { max_exec_count: Some(1), timeout: None };

    /// Returns the timeout of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_nanos)
    }
}

/// Why a job was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A person or a client requested it.
    Manual,
    /// A trigger was due.
    Schedule,
    /// A document changed for which an `@event` trigger waits.
    Event,
    /// A webhook was called.
    Webhook,
    /// An earlier job failed in a way that a retry may fix.
    Retry,
    /// The user deleted the account, so the konnector cleans up at the vendor.
    AccountDeleted,
}

/// A job, as stored in its document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Document id; ids of later jobs sort after it.
    #[serde(skip)]
    pub id: String,
    /// Domain of the instance.
    pub domain: String,
    /// Name of the worker.
    pub worker: String,
    /// The trigger that pushed the job, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<String>,
    /// Arguments for the worker.
    pub message: Value,
    /// The event or webhook call that caused it.
    #[serde(flatten)]
    pub payload: TriggerPayload,
    /// Whether a person requested it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manual_execution: bool,
    /// Limits of this job, in addition to those of its worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<JobOptions>,
    /// Status of the job.
    pub state: JobStatus,
    /// Time at which the job was pushed.
    pub queued_at: DateTime<Utc>,
    /// Time at which a worker started the job.
    #[serde(default, with = "never")]
    pub started_at: Option<DateTime<Utc>>,
    /// Time at which the job ended.
    #[serde(default, with = "never")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Error code from Cozy's vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error as a sentence: what happened and who must act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Reason for the job.
    pub cause: Cause,
    /// 1 for the first attempt, one more for each retry.
    pub attempt: u32,
    /// Whether cancellation of the job was requested.
    #[serde(rename = "_cancelled", default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// Whether the job ended with a fault of the konnector.
    #[serde(rename = "_fault", default, skip_serializing_if = "std::ops::Not::not")]
    pub fault: bool,
    /// Whether running the job is pointless while the user's quota is exhausted.
    #[serde(rename = "_needs_room", default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_space: bool,
    /// How often the job was interrupted because the server was killed or lost its lease; that does not count as an
    /// attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// The job that failed before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// Time of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The job that retries this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_as: Option<String>,
    /// For a retry that never ran, the job that did the same work first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// Revision number of the account, counted from 1, with which the run began.
    #[serde(rename = "_account_generation", default, skip_serializing_if = "Option::is_none")]
    pub account_generation: Option<u64>,
    /// For a partly successful job, how much was left out and how much was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialResult>,
    /// Items that could not be saved, although others were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Receipt with the hosts that the run contacted and the resources that it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// Blob of the log lines.
    #[serde(rename = "_log", default, skip_serializing_if = "Option::is_none")]
    pub log: Option<BlobId>,
    /// SHA-256 of the log lines, in hexadecimal.
    #[serde(rename = "_log_checksum", default, skip_serializing_if = "Option::is_none")]
    pub log_checksum: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// In Cozy's API, unknown dates are Go's zero time.
mod never {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

    pub fn serialize<S: Serializer>(date: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        match date {
            Some(date) => date.serialize(serializer),
            None => serializer.serialize_str(GO_ZERO_TIME),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        let date = DateTime::<Utc>::deserialize(deserializer)?;
        Ok((date.timestamp() > 0).then_some(date))
    }
}

/// Result of a run that left some items out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialResult {
    /// Number of items and files that were left out.
    pub failed: u64,
    /// Number of documents that were written or found unchanged.
    pub documents: u64,
    /// Number of files that were written or found unchanged.
    pub files: u64,
}

impl PartialResult {
    /// Returns `None` if nothing was left out.
    fn from_artifacts(remains: &RunArtifacts) -> Option<Self> {
        let receipt = remains.receipt.as_ref();
        let failed = remains.problem_count + receipt.map_or(0, |receipt| receipt.files_not_saved);
        let (documents, files) =
            receipt.map_or((0, 0), |receipt| (receipt.documents.up_to_date(), receipt.files.up_to_date()));
        (failed > 0).then_some(Self { failed, documents, files })
    }
}

/// Parameters of a new job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// Name of the worker.
    pub worker: String,
    /// Arguments for the worker.
    pub message: Value,
    /// Limits of this job, in addition to those of its worker.
    pub options: Option<JobOptions>,
    /// Reason for the job.
    pub cause: Cause,
    /// The trigger that pushes the job, if any.
    pub trigger: Option<String>,
    /// The event or webhook call that caused it.
    pub payload: TriggerPayload,
}

impl Job {
    /// Creates a job that waits for its first attempt.
    fn new(instance: &Instance, request: JobRequest, now: DateTime<Utc>) -> Self {
        Self {
            id: new_id(),
            domain: instance.domain.clone(),
            worker: request.worker,
            trigger_id: request.trigger,
            message: request.message,
            payload: request.payload,
            manual_execution: matches!(request.cause, Cause::Manual | Cause::AccountDeleted),
            options: request.options,
            state: JobStatus::Queued,
            queued_at: now,
            started_at: None,
            finished_at: None,
            error: None,
            error_message: None,
            cause: request.cause,
            attempt: 1,
            cancelled: false,
            fault: false,
            needs_space: false,
            interruptions: 0,
            retry_of: None,
            next_attempt_at: None,
            retried_as: None,
            superseded_by: None,
            account_generation: None,
            partial: None,
            problems: Vec::new(),
            receipt: None,
            log: None,
            log_checksum: None,
        }
    }

    /// Creates the job that retries this one.
    fn next_attempt(&self, instance: &Instance, now: DateTime<Utc>) -> Self {
        let request = JobRequest {
            worker: self.worker.clone(),
            message: self.message.clone(),
            options: self.options,
            cause: Cause::Retry,
            trigger: self.trigger_id.clone(),
            payload: self.payload.clone(),
        };
        Self {
            attempt: self.attempt + 1,
            needs_space: self.needs_space,
            retry_of: Some(self.id.clone()),
            ..Self::new(instance, request, now)
        }
    }

    /// Returns whether the job cleans up after a deleted account (Cozy API, account-deletion runs, §6.6).
    #[must_use]
    pub fn is_clean_up(&self) -> bool {
        konnector_accounts::is_clean_up(&self.message)
    }

    /// Returns a string field of the message.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.message.get(name).and_then(Value::as_str)
    }
}

/// Checks that the worker can handle a message. The worker for konnectors needs an object that names a konnector, and
/// may name an account.
///
/// # Errors
///
/// If the message is not valid; the error says what is missing or invalid.
pub(crate) fn check_message(worker: &str, message: &Value) -> Result<(), String> {
    if worker != KONNECTOR_WORKER {
        return Ok(());
    }
    let slug = message.get("konnector").and_then(Value::as_str);
    if slug.is_none_or(|slug| slug.parse::<Slug>().is_err()) {
        return Err(
            "the arguments of a konnector's job must be an object with 'konnector' (a slug) and, if it needs one, 'account' (an id)"
                .to_owned(),
        );
    }
    match message.get("account") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err("'account' in the arguments of a konnector's job must be an account id (a string)".to_owned()),
    }
}

/// Returns the id with each digit inverted, which sorts newer ids first.
fn inverted_id(id: &str) -> String {
    id.chars().filter_map(|digit| char::from_digit(15 - digit.to_digit(16)?, 16)).collect()
}

/// Returns a job's key in [`BY_TRIGGER`].
fn trigger_index_key(job: &Job) -> String {
    format!("{}/{}", job.trigger_id.as_deref().unwrap_or("-"), inverted_id(&job.id))
}

/// Adds a job to the indexes of live jobs.
fn add_to_live_index(instance: &Instance, job: &Job, changes: &mut Changes) {
    let scope = &instance.id;
    changes.put_unique(scope, LIVE_BY_WORKER, format!("{}/{}", job.worker, job.id), &job.id);
    changes.put_unique(scope, BY_TRIGGER, trigger_index_key(job), &job.id);
    if let Some(trigger) = &job.trigger_id {
        changes.put_unique(scope, LIVE_BY_TRIGGER, format!("{trigger}/{}", job.id), &job.id);
    }
    if let Some(chain) = job.retry_index_key() {
        changes.put_unique(scope, chain::RETRY_BY_CHAIN, chain, &job.id);
    }
}

/// Removes a finished job from the indexes of live jobs.
fn remove_from_live_index(instance: &Instance, job: &Job, changes: &mut Changes) {
    let scope = &instance.id;
    changes.remove_unique(scope, LIVE_BY_WORKER, format!("{}/{}", job.worker, job.id));
    if let Some(trigger) = &job.trigger_id {
        changes.remove_unique(scope, LIVE_BY_TRIGGER, format!("{trigger}/{}", job.id));
    }
    if let Some(chain) = job.retry_index_key() {
        changes.remove_unique(scope, chain::RETRY_BY_CHAIN, chain);
    }
}

impl Jobs {
    /// Pushes a job, which is durable when this function returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown worker, [`Error::BadRequest`] if the message names no konnector,
    /// [`Error::ForeignAccount`] if the konnector may not use the account, [`Error::InvalidAttribute`] if it logs into
    /// accounts and the message names none, [`Error::Unavailable`] while the konnector is in maintenance.
    pub async fn push(&self, instance: &Instance, request: JobRequest) -> Result<Job> {
        self.context.accounts().check(instance, &request.message, AccountLocation::Arguments)?;
        if request.worker != CLIENT_WORKER {
            self.context.accounts().check_given(instance, &request.message, AccountLocation::Arguments)?;
        }
        if let Some(maintenance) = self.context.konnectors().maintenance_for_job(instance, &request.message)? {
            maintenance.check_start(request.cause == Cause::Manual)?;
        }
        let mut changes = Changes::new();
        let job = self.stage(instance, request, self.context.core.clock().now(), &mut changes)?;
        self.context.core.commit(changes).await?;
        self.context.core.publish(&instance.doc(&JOBS, job.id.as_str()), ChangeKind::Created, &job);
        self.context.wake_workers();
        Ok(job)
    }

    /// Adds a job to pending changes.
    pub(crate) fn stage(
        &self,
        instance: &Instance,
        request: JobRequest,
        run_at: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<Job> {
        if request.worker == CLIENT_WORKER {
            return self.stage_client_job(instance, request, changes);
        }
        if request.worker != KONNECTOR_WORKER {
            return Err(Error::NotFound(format!("there is no worker '{}'; use {KONNECTOR_WORKER}", request.worker)));
        }
        check_message(&request.worker, &request.message).map_err(Error::BadRequest)?;
        let job = Job::new(instance, request, self.context.core.clock().now());
        self.stage_new(instance, &job, run_at, changes)?;
        Ok(job)
    }

    /// Stages a new job with its indexes and its entry in the queue.
    fn stage_new(&self, instance: &Instance, job: &Job, run_at: DateTime<Utc>, changes: &mut Changes) -> Result<()> {
        let at = instance.doc(&JOBS, job.id.as_str());
        changes.create(at.clone(), to_object(job)?);
        add_to_live_index(instance, job, changes);
        changes.enqueue(at, self.queue_entry(instance, job, run_at));
        Ok(())
    }

    /// Returns a job.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if none has this id.
    pub fn get(&self, instance: &Instance, id: &str) -> Result<Job> {
        let found = self.context.core.load::<Job>(&instance.doc(&JOBS, id))?;
        found.map(with_id).ok_or_else(|| Error::NotFound(format!("there is no job '{id}'")))
    }

    /// Lists the jobs of a worker that have not ended, oldest first, at most 200.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list_live(&self, instance: &Instance, worker: &str) -> Result<Vec<Job>> {
        let entries =
            self.context.core.store().lookup_prefix(&instance.id, LIVE_BY_WORKER, &format!("{worker}/"), None, 200)?;
        self.load_all(instance, entries)
    }

    /// Returns the jobs of a konnector on this instance that have not ended, by their ids.
    pub fn list_live_of_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Vec<String>> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        let prefix = format!("{KONNECTOR_WORKER}/");
        loop {
            let page = self.context.core.store().lookup_prefix(
                &instance.id,
                LIVE_BY_WORKER,
                &prefix,
                after.as_deref(),
                LIVE_PAGE_SIZE,
            )?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            let jobs = self.load_all(instance, page)?;
            let of_it = jobs.into_iter().filter(|job| job.argument("konnector") == Some(slug.as_ref()));
            found.extend(of_it.map(|job| job.id));
        }
    }

    /// Lists the newest jobs of a trigger, newest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list_of_trigger(&self, instance: &Instance, trigger: &str, limit: usize) -> Result<Vec<Job>> {
        let entries =
            self.context.core.store().lookup_prefix(&instance.id, BY_TRIGGER, &format!("{trigger}/"), None, limit)?;
        self.load_all(instance, entries)
    }

    /// Visits the newest jobs of a trigger, at most `limit`, one at a time, until `visit` stops the iteration.
    pub(crate) fn visit_of_trigger(
        &self,
        instance: &Instance,
        trigger: &str,
        limit: usize,
        mut visit: impl FnMut(&Job) -> bool,
    ) -> Result<()> {
        for (_, id) in
            self.context.core.store().lookup_prefix(&instance.id, BY_TRIGGER, &format!("{trigger}/"), None, limit)?
        {
            let job = self.context.core.load::<Job>(&instance.doc(&JOBS, id))?.map(with_id);
            if job.is_some_and(|job| !visit(&job)) {
                break;
            }
        }
        Ok(())
    }

    /// Counts the jobs of a trigger that have not ended, up to `most`.
    pub(crate) fn count_live_of_trigger(&self, instance: &Instance, trigger: &str, most: usize) -> Result<usize> {
        Ok(self
            .context
            .core
            .store()
            .lookup_prefix(&instance.id, LIVE_BY_TRIGGER, &format!("{trigger}/"), None, most)?
            .len())
    }

    fn load_all(&self, instance: &Instance, entries: Vec<(String, String)>) -> Result<Vec<Job>> {
        let mut jobs = Vec::with_capacity(entries.len());
        for (_, id) in entries {
            jobs.extend(self.context.core.load::<Job>(&instance.doc(&JOBS, id))?.map(with_id));
        }
        Ok(jobs)
    }
}

fn with_id(stored: Stored<Job>) -> Job {
    Job { id: stored.id, ..stored.value }
}

/// Returns the reference to a job's document.
pub(crate) fn doc_ref(instance: &Instance, job: &Job) -> DocRef {
    instance.doc(&JOBS, job.id.as_str())
}
