//! A platform for one run.

use std::sync::Arc;

use konnector_api::InProcessApi;
use konnector_egress::{AddressRule, Gate, GateOptions};
use konnector_manifest::{Manifest, Slug};
use konnector_platform::clock::SystemClock;
use konnector_platform::doctype::{ACCOUNTS, JOB_EVENTS, JOB_LOGS, JOBS};
use konnector_platform::instance::{Instance, InstancePatch};
use konnector_platform::job::KONNECTOR_WORKER;
use konnector_platform::job::{Cause, JobOptions, JobRequest, TriggerPayload};
use konnector_platform::konnector::{InstallEvent, InstallRequest};
use konnector_platform::principal::{Audience, Principal};
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::Sandbox;
use konnector_store::{MasterKey, Store};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::author::bundle::Bundle;
use crate::client::Event;
use crate::error::{Error, Result, file, io};
use crate::follow::JobProgress;
use crate::output::{Output, cell};

/// Platform for one run, whose data is deleted with it.
pub struct RunEnvironment {
    pub platform: Platform,
    /// The only instance.
    pub instance: Instance,
    /// Principal with full access.
    pub principal: Principal,
    /// Folder of the key and the compiled component.
    folder: TempDir,
}

impl RunEnvironment {
    /// Creates an empty platform.
    pub async fn set_up(allowed_private: Vec<AddressRule>) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(io("creating a temporary folder"))?;
        let parts = PlatformParts {
            store: Store::in_memory(),
            sandbox: Arc::new(Sandbox::new(konnector_sandbox::SandboxOptions {
                max_runs: 1,
                ..konnector_sandbox::SandboxOptions::default()
            })?),
            gate: Gate::new(GateOptions { allowed_private, ..GateOptions::default() })?,
            key: MasterKey::create(&folder.path().join("key"))?,
            clock: Arc::new(SystemClock),
            config: Config { workers: 1, ..Config::new(folder.path().join("cache")) },
        };
        std::fs::create_dir(folder.path().join("cache")).map_err(file("create", folder.path()))?;
        let platform = Platform::new(parts).await?;
        let instance = platform.instances().create("localhost", &InstancePatch::default()).await?;
        let token = platform.auth().issue_token(&instance, Audience::Cli, "konnector-run", "*")?;
        let principal = platform.auth().authenticate(&instance, &token)?;
        platform.set_internal_api(Arc::new(InProcessApi::default()));
        platform.start().await?;
        Ok(Self { platform, instance, principal, folder })
    }

    /// Installs the folder as a server would.
    pub async fn install(&self, bundle: &Bundle, parameters: Option<Map<String, Value>>) -> Result<Slug> {
        let folder = bundle.folder.canonicalize().map_err(file("open", &bundle.folder))?;
        let source = url::Url::from_file_path(&folder)
            .map_err(|()| Error::message(format!("{} cannot be expressed as a file:// URL", folder.display())))?;
        let request =
            InstallRequest { slug: slug(&bundle.name()), source: source.to_string(), parameters, deactivated: false };
        let mut installing = self.platform.konnectors().install(&self.instance, request).await?;
        while let Some(event) = installing.events.recv().await {
            if let InstallEvent::Failed(message) = event {
                return Err(Error::failed(message, "see `konnector check`"));
            }
        }
        Ok(installing.konnector.slug)
    }

    /// Creates the account that the run works for; returns `None` if the manifest has no fields.
    pub async fn add_account(
        &self,
        konnector: &Slug,
        manifest: &Manifest,
        fields: Map<String, Value>,
    ) -> Result<Option<String>> {
        if manifest.fields.is_empty() && fields.is_empty() {
            return Ok(None);
        }
        let mut body = Map::new();
        body.insert("account_type".to_owned(), json!(konnector));
        if let Some(identifier) = manifest.identifier_field() {
            body.insert("identifier".to_owned(), json!(identifier));
        }
        body.insert("auth".to_owned(), Value::Object(fields));
        let account = self.platform.documents().create(&self.instance, &self.principal, &ACCOUNTS, None, body).await?;
        Ok(Some(account.id))
    }

    /// Runs the konnector and shows its progress; returns the job after its end.
    pub async fn run(&self, output: Output, konnector: &Slug, account: Option<String>) -> Result<Value> {
        let progress = JobProgress::new(output);
        let mut events = self.platform.realtime().subscribe(&self.instance.id);
        let mut message = json!({ "konnector": konnector });
        if let (Some(account), Some(members)) = (&account, message.as_object_mut()) {
            members.insert("account".to_owned(), json!(account));
            members.insert("folder_to_save".to_owned(), json!("yes"));
        }
        let request = JobRequest {
            worker: KONNECTOR_WORKER.to_owned(),
            message,
            // No server is left to retry the job.
            options: Some(JobOptions::ONCE),
            cause: Cause::Manual,
            trigger: None,
            payload: TriggerPayload::default(),
        };
        let job = self.platform.jobs().push(&self.instance, request).await?;
        loop {
            let current = self.platform.jobs().get(&self.instance, &job.id)?;
            if current.finished_at.is_some() {
                progress.finish();
                let mut result = serde_json::to_value(&current).map_err(Error::message)?;
                if let Some(members) = result.as_object_mut() {
                    members.insert("id".to_owned(), json!(current.id));
                    members.retain(|name, _| !name.starts_with('_'));
                }
                return Ok(result);
            }
            loop {
                match events.recv().await {
                    Ok(event) if event.id != job.id => {}
                    Ok(event) if event.doctype == *JOBS => break,
                    Ok(event) if event.doctype == *JOB_LOGS => {
                        progress
                            .handle_event(&Event { name: "log".to_owned(), data: Value::Object(event.doc.clone()) });
                    }
                    Ok(event) if event.doctype == *JOB_EVENTS => {
                        let event = Event { name: cell(event.doc.get("type")), data: Value::Object(event.doc.clone()) };
                        if event.name == "code_needed" {
                            self.answer_question(&progress, account.as_deref(), &event.data).await?;
                        }
                        progress.handle_event(&event);
                    }
                    // Some events were missed; the stored job is authoritative.
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
    }

    /// Asks for the one-time code at the terminal and stores it in the account, where the run looks for it.
    async fn answer_question(&self, progress: &JobProgress, account: Option<&str>, question: &Value) -> Result<()> {
        let advice = "run the command in a terminal";
        let (Some(account), Some(code)) = (account, progress.prompt_code(question, advice).await?) else {
            return Ok(());
        };
        let platform = &self.platform;
        let document = platform.documents().read(&self.instance, &self.principal, &ACCOUNTS, account)?;
        let mut body = document.body;
        body.insert("twoFACode".to_owned(), json!(code));
        platform.documents().update(&self.instance, &self.principal, &ACCOUNTS, account, &document.rev, body).await?;
        Ok(())
    }

    /// Stops the platform and deletes its data.
    pub async fn shut_down(self) {
        self.platform.stop().await;
        if let Err(error) = self.folder.close() {
            crate::output::warning(&format!("cannot delete the temporary folder: {error}"));
        }
    }
}

/// Makes a slug from the name of a folder, which may contain any character.
fn slug(name: &str) -> String {
    let slug: String = name
        .to_lowercase()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .collect();
    if slug.trim_matches('-').is_empty() { "konnector".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_name_makes_a_slug() {
        for name in ["My Shop", "été_2026", "...", "bank101"] {
            let slug = slug(name);
            assert!(slug.parse::<Slug>().is_ok(), "{name} → {slug}");
        }
    }
}
