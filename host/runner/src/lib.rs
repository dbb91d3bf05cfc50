//! Runs of konnectors. A run gives the sandbox exactly the access that the konnector's rules and the job's lease allow.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

mod account;
mod documents;
mod files;
mod folder;
mod internal_api;
mod log;
mod progress;
mod sandbox_runner;
#[cfg(test)]
mod tests;
mod throttle;
mod tree;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use konnector_egress::log_limit;
use konnector_egress::{SecretTable, SessionOptions};
use konnector_manifest::json_budget::MAX_DOCUMENT_BYTES;
use konnector_manifest::{Manifest, Permissions, Verb};
use konnector_sandbox::capability::{Capabilities, CapabilityError, InternalApi, QuotaKind};
use konnector_sandbox::{ComponentKind, Program, RunCause, RunInput as RunJob, RunOutput, Sandbox};
use konnector_store::{BlobInfo, Lease};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use konnector_accounts::{Account, AccountAccess};
use konnector_documents::Error;
pub(crate) use konnector_documents::Result;
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_files::File;
use konnector_jobs::JobContext;
use konnector_jobs::job::{Cause, Job};
use konnector_packages::Konnector;
pub use sandbox_runner::{PublicApi, RunnerSettings, SandboxRunner};

use folder::RunFolder;

/// `COZY_LANGUAGE` for a manifest without a language (Cozy API, konnector run-time contract, §6.2).
const DEFAULT_LANGUAGE: &str = "node";

/// Context shared by all capabilities of a run.
pub struct RunContext {
    domain: JobContext,
    instance: Instance,
    konnector: Konnector,
    permissions: Permissions,
    account: Option<AccountAccess>,
    /// Identifier of the account at the vendor.
    identifier: Option<String>,
    job: Job,
    /// Whether the user was asked for a code or to approve the login elsewhere; the account's state shows this until
    /// the user responds or the run ends.
    awaits_user: AtomicBool,
}

impl RunContext {
    /// Returns the id for a natural key. It is the same in every run for the same account at the vendor, even after the
    /// account was deleted and created again, so nothing is saved twice.
    fn id_for_key(&self, space: &str, key: &str) -> String {
        let account =
            self.identifier.as_deref().or(self.account.as_ref().map(|account| account.id.as_str())).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [self.konnector.slug.as_ref(), account, space, key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        hex::encode(digest.get(..16).unwrap_or(&digest))
    }

    /// Checks that a rule allows one of `verbs` on a file. A file that is about to be created has no id.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] naming the missing rule.
    fn check_file(&self, verbs: &[Verb], file: &File) -> Result<()> {
        if self.domain.files().is_allowed(&self.instance, &self.permissions, verbs, file)? {
            return Ok(());
        }
        let verb = verbs.first().copied().unwrap_or(Verb::Get);
        if file.id.is_empty() {
            // The file does not exist yet, so no rule can name its id.
            return Ok(self.permissions.check_type(verb, &FILES)?);
        }
        Ok(self.permissions.check_document(verb, &FILES, &file.id, &konnector_documents::stored::to_object(file)?)?)
    }

    /// Rejects a move that would give the konnector more permissions on a file. The konnector's own folders count, too,
    /// because its token allows operations there that the capabilities do not.
    fn check_permission_gain(&self, before: &File, after: &File) -> Result<()> {
        let rules = self.domain.permissions().of_konnector(&self.instance, &self.konnector.slug)?;
        for rules in [&rules, &self.permissions] {
            self.domain.files().check_permission_gain(&self.instance, rules, before, after)?;
        }
        Ok(())
    }

    /// Returns the creator of a document or file, in the format of `cozyMetadata`.
    fn provenance(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut origin = serde_json::Map::new();
        let mut set = |name: &str, value: &str| origin.insert(name.to_owned(), value.into());
        set("createdByApp", self.konnector.slug.as_ref());
        set("createdByAppVersion", &self.konnector.version);
        if let Some(account) = &self.account {
            set("sourceAccount", &account.id);
        }
        if let Some(identifier) = &self.identifier {
            set("sourceAccountIdentifier", identifier);
        }
        origin
    }
}

/// A run that is ready to be executed.
pub struct Run {
    sandbox: Arc<Sandbox>,
    program: Program,
    job: RunJob,
    capabilities: Capabilities,
    log: Arc<log::JobLog>,
}

impl Run {
    /// Loads the program and assembles the capabilities. Makes no network requests, and writes only the folder that the
    /// job names and the rule that lets the konnector work in it.
    pub async fn new(
        runner: &SandboxRunner,
        domain: &JobContext,
        instance: &Instance,
        job: &Job,
        konnector: Konnector,
        account: Option<AccountAccess>,
        lease: &Lease,
    ) -> Result<Self> {
        let (konnector, program) = domain.konnectors().load_installed_program(instance, konnector).await?;
        let manifest = konnector.manifest()?;
        domain.fenced(lease).permissions().allow_referenced_folders(instance, &konnector.slug).await?;
        let permissions = domain.permissions().of_capabilities(instance, &konnector.slug)?;
        let secrets = match &account {
            Some(account) => domain.accounts().secrets(instance, account)?,
            None => Vec::new(),
        };
        let cookies = match &account {
            Some(account) => domain.accounts().session(instance, account)?,
            None => None,
        };
        let fields = account.as_deref().map(Account::fields).unwrap_or_default();
        let identifier = account.as_ref().and_then(|account| account.identifier(manifest.identifier_field()));
        let mut limits = runner.settings.run_limits.limits_for(&manifest.limits);
        if let Some(timeout) = job.options.and_then(|options| options.timeout()) {
            limits.wall = limits.wall.min(timeout);
        }
        let http = runner.gate.session(SessionOptions {
            rules: permissions.http_rules(&fields)?,
            cookies: cookies.clone(),
            budget: limits.http,
            secrets: Arc::new(secret_table(&manifest, account.as_deref(), secrets.clone())?),
            account: account.as_ref().map(|account| format!("{}/{}", instance.id, account.id)),
        });
        let log = Arc::new(log::JobLog::new(domain.clone(), lease.job.clone()));
        let mut run_job = run_job(domain, instance, job, &manifest)?;
        let scope = Arc::new(RunContext {
            domain: domain.fenced(lease),
            instance: instance.clone(),
            konnector,
            permissions,
            account,
            identifier,
            job: job.clone(),
            awaits_user: AtomicBool::new(false),
        });
        let folder = RunFolder::resolve(&scope, &manifest)?;
        folder.set_message_folder(&scope, &mut run_job.message).await?;
        let api: Option<Arc<dyn InternalApi>> = match program.info().kind {
            ComponentKind::Typed { .. } => None,
            ComponentKind::Command => Some(Arc::new(internal_api::RunApi::new(runner, Arc::clone(&scope), lease)?)),
        };
        let capabilities = Capabilities {
            account: Arc::new(account::RunAccount { scope: Arc::clone(&scope), initial_cookies: cookies }),
            secrets: Arc::new(account::RunSecrets::new(Arc::clone(&scope), manifest.clone(), secrets)),
            documents: Arc::new(documents::RunDocuments(Arc::clone(&scope))),
            files: Arc::new(files::RunFiles::new(Arc::clone(&scope), folder)),
            tree: tree::RunTree::new(&scope).map(|tree| Arc::new(tree) as _),
            progress: Arc::new(progress::RunProgress::new(scope)),
            log: Arc::clone(&log) as _,
            http: Arc::new(http),
            api,
            limits,
        };
        Ok(Self { sandbox: Arc::clone(&runner.sandbox), program, job: run_job, capabilities, log })
    }

    /// Executes the run until it ends, with any outcome.
    pub async fn execute(&self, cancel: CancellationToken) -> RunOutput {
        self.sandbox.run(&self.program, self.job.clone(), self.capabilities.clone(), cancel).await
    }

    /// Stores the log lines and returns their blob. A failure to store the log does not discard the result.
    pub async fn store_log(&self) -> Option<BlobInfo> {
        match self.log.store().await {
            Ok(blob) => blob,
            Err(error) => {
                tracing::warn!(%error, "cannot store the log of the run");
                None
            }
        }
    }
}

/// Separates secrets that the konnector stored in earlier runs from those of the user or a provider, because the
/// konnector knows the former.
fn secret_table(manifest: &Manifest, account: Option<&Account>, secrets: Vec<(String, String)>) -> Result<SecretTable> {
    let is_own = |name: &str| {
        let declared = manifest.fields.iter().any(|field| field.name == name);
        let provided = account.is_some_and(|account| account.is_from_provider(name));
        !declared && !provided && manifest.may_replace_secret(name)
    };
    let (own, others): (Vec<_>, Vec<_>) = secrets.into_iter().partition(|(name, _)| is_own(name));
    SecretTable::new(others)
        .and_then(|table| table.with_konnector_secrets(own))
        .map_err(|error| Error::Gate(error.to_string()))
}

fn run_job(domain: &JobContext, instance: &Instance, job: &Job, manifest: &Manifest) -> Result<RunJob> {
    let last_success = match &job.trigger_id {
        Some(trigger) => domain.triggers().last_success(instance, trigger)?,
        None => None,
    };
    Ok(RunJob {
        id: job.id.clone(),
        attempt: job.attempt,
        cause: match job.cause {
            // Also on a retry, because nothing may be saved.
            _ if job.is_clean_up() => RunCause::AccountDeleted,
            Cause::AccountDeleted => RunCause::AccountDeleted,
            Cause::Manual => RunCause::Manual,
            Cause::Schedule => RunCause::Schedule,
            Cause::Event => RunCause::Event,
            Cause::Webhook => RunCause::Webhook,
            Cause::Retry => RunCause::Retry,
        },
        last_success: last_success.map(|at| at.timestamp_millis()),
        parameters: parameters(domain, job, manifest)?,
        payload: job.payload.webhook_json(),
        locale: instance.locale.clone(),
        time_zone: instance.tz.name().to_owned(),
        message: job.message.clone(),
        trigger: job.trigger_id.clone(),
        language: manifest.language.clone().unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned()),
    })
}

/// Returns the parameters of the manifest, with the operator's secret for this konnector (Cozy API, account types,
/// §7.4).
fn parameters(
    domain: &JobContext,
    job: &Job,
    manifest: &Manifest,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let mut parameters = manifest.parameters.clone().unwrap_or_default();
    if let Some(secret) = domain.account_types().konnector_secret(job.argument("konnector").unwrap_or_default())? {
        parameters.insert("secret".to_owned(), secret);
    }
    Ok(parameters)
}

/// Converts a domain error for the guest. Errors that a guest can cause have their own cases; `internal` is a fault
/// of the server.
fn to_capability_error(error: Error) -> CapabilityError {
    match error {
        Error::NotFound(message) => CapabilityError::NotFound(message),
        Error::Conflict(message) => CapabilityError::Conflict(message),
        Error::TooLarge(message) => CapabilityError::Invalid(message),
        Error::Forbidden(message) => CapabilityError::Denied(message),
        Error::StaleLease => CapabilityError::LeaseLost,
        Error::Store(error) => store_to_capability_error(error),
        Error::InvalidParameter { message, .. }
        | Error::InvalidAttribute { message, .. }
        | Error::PreconditionFailed { message, .. }
        | Error::BadRequest(message) => CapabilityError::Invalid(message),
        Error::Query(error) => CapabilityError::Invalid(error.to_string()),
        other => internal_error(&other),
    }
}

/// Converts a store error for the guest.
fn store_to_capability_error(error: konnector_store::Error) -> CapabilityError {
    use konnector_store::Error as Store;
    match error {
        error if error.is_disk_full() => CapabilityError::QuotaExceeded(QuotaKind::Storage),
        // Too long names also cause this error; their message is more specific.
        Store::TooLarge { limit, .. } if limit == MAX_DOCUMENT_BYTES => CapabilityError::TooLarge(limit as u64),
        Store::NotFound { .. } => CapabilityError::NotFound(error.to_string()),
        Store::TooLarge { .. } | Store::Invalid { .. } => CapabilityError::Invalid(error.to_string()),
        other => internal_error(&Error::Store(other)),
    }
}

fn internal_error(error: &Error) -> CapabilityError {
    if log_limit::may_log() {
        tracing::error!(%error, "a capability call failed");
    }
    CapabilityError::Internal("internal error of the server; its log has the details".to_owned())
}

/// Converts a missing permission for the guest.
fn to_denied_error(denied: konnector_manifest::PermissionDenied) -> CapabilityError {
    CapabilityError::Denied(denied.message)
}
