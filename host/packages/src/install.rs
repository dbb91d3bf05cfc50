//! Installation. Quick checks run before the response; compilation continues in the background. A failure leaves the
//! previous state unchanged.

use std::str::FromStr as _;

use bytes::Bytes;
use konnector_manifest::untrusted::truncate_middle;
use konnector_manifest::{Manifest, Permissions, Slug, Source};
use konnector_sandbox::Sandbox;
use konnector_store::{BlobId, Changes, Error as StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::bundle::Bundle;
use super::consent::reads_secrets;
use super::fetch::FetchedBundle;
use super::{ClampedLimit, Konnector, KonnectorState, MANAGED_FIELDS, doc_ref};
use crate::Konnectors;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, Stored, to_object};
use tracing::Instrument as _;

/// Maximum size in bytes of the message of a failed installation, because an error may repeat names of any length.
const MAX_ERROR_SIZE: usize = 2_000;

/// A request for an installation.
#[derive(Debug, Clone)]
pub struct InstallRequest {
    /// Name in URLs.
    pub slug: String,
    /// Source to install from.
    pub source: String,
    /// Value for the manifest's `parameters`; ignored for a registry, whose konnectors have their own.
    pub parameters: Option<Object>,
    /// Whether the konnector is shown as ready only after its first run.
    pub deactivated: bool,
}

/// Event during an installation.
#[derive(Debug, Clone)]
pub enum InstallEvent {
    /// A new state, with the konnector in that state.
    State(Box<Konnector>),
    /// The installation failed; nothing changed.
    Failed(String),
}

/// An installation that was accepted.
#[derive(Debug)]
pub struct InstallProgress {
    /// The konnector as it is now.
    pub konnector: Konnector,
    /// Revision of the previous konnector document; empty for a new one.
    pub rev: String,
    /// Further events; ends after `ready`, `installed` or a failure.
    pub events: mpsc::Receiver<InstallEvent>,
}

/// A checked installation, before the background work.
pub(super) struct InstallPlan {
    pub(super) konnector: Konnector,
    manifest: Manifest,
    bundle: Bundle,
    permissions: Permissions,
    previous: Option<Stored<Konnector>>,
    /// State after a successful installation.
    target_state: KonnectorState,
}

pub(super) fn parse_slug(slug: &str) -> Result<Slug> {
    slug.parse().map_err(|_| Error::InvalidParameter {
        name: "slug",
        message: format!("Invalid slug name '{slug}'; a slug consists of lower-case letters, digits and -"),
    })
}

pub(super) fn parse_source(source: &str) -> Result<Source> {
    if source.is_empty() {
        return Err(Error::BadRequest(
            "the source is empty; set the parameter Source, for example file:///path/to/bundle".to_owned(),
        ));
    }
    Source::from_str(source).map_err(|error| Error::InvalidParameter { name: "Source", message: error.to_string() })
}

impl Konnectors {
    /// Checks and starts an installation.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for the slug or the source, [`Error::Conflict`] if it is already installed,
    /// [`Error::Unreachable`], [`Error::Manifest`], [`Error::Component`]; nothing is installed then.
    pub async fn install(&self, instance: &Instance, request: InstallRequest) -> Result<InstallProgress> {
        let slug = parse_slug(&request.slug)?;
        let source = parse_source(&request.source)?;
        if self.context.core.load::<Konnector>(&doc_ref(instance, &slug))?.is_some() {
            return Err(Error::Conflict("Application with same slug already exists".to_owned()));
        }
        let fetched = self.fetch_bundle(&source).await?;
        let parameters = request.parameters.filter(|_| !matches!(source, Source::Registry { .. }));
        let mut plan = self.plan_install(slug, source, fetched, parameters, None).await?;
        if request.deactivated {
            plan.target_state = KonnectorState::Installed;
        }
        self.start_install(instance, plan, KonnectorState::Installing).await
    }

    /// Performs all checks that need no compilation.
    pub(super) async fn plan_install(
        &self,
        slug: Slug,
        source: Source,
        fetched: FetchedBundle,
        parameters: Option<Object>,
        before: Option<Stored<Konnector>>,
    ) -> Result<InstallPlan> {
        let konnectors = self.clone();
        self.run_install_task(move || konnectors.build_install_plan(&slug, &source, fetched, parameters, before)).await
    }

    fn build_install_plan(
        &self,
        slug: &Slug,
        source: &Source,
        FetchedBundle { bundle, version }: FetchedBundle,
        parameters: Option<Object>,
        before: Option<Stored<Konnector>>,
    ) -> Result<InstallPlan> {
        let info = Sandbox::inspect(&bundle.component).map_err(|error| Error::Component(error.to_string()))?;
        for warning in bundle.manifest.warnings() {
            tracing::warn!(%slug, "manifest warning: {warning}");
        }
        for ClampedLimit { limit, requested, granted } in
            self.context.state.settings.run_limits.clamped_limits(&bundle.manifest.limits)
        {
            tracing::warn!(
                %slug, %limit, requested, granted,
                "the konnector requests more than the setting `limits` allows"
            );
        }
        let mut members = bundle.manifest.raw().clone();
        members.retain(|name, _| !MANAGED_FIELDS.contains(&name.as_str()) && !name.starts_with('_'));
        if let Some(parameters) = parameters {
            members.insert("parameters".to_owned(), serde_json::Value::Object(parameters));
        }
        let now = self.context.core.clock().now();
        let konnector = Konnector {
            slug: slug.clone(),
            state: KonnectorState::Installing,
            source: source.to_string(),
            version,
            available_version: None,
            available_changes: Vec::new(),
            accepted_changes: Vec::new(),
            checksum: hex::encode(Sha256::digest(&bundle.component)),
            created_at: before.as_ref().map_or(now, |before| before.value.created_at),
            updated_at: now,
            error: None,
            reads_secrets: reads_secrets(&info, &bundle.manifest.permissions),
            component: None,
            component_size: None,
            icon: None,
            icon_checksum: None,
            manifest_fields: members,
        };
        // Reading it back proves, before it is stored, that it can be read later.
        let manifest = konnector.manifest()?;
        let permissions = bundle.manifest.permissions.clone();
        Ok(InstallPlan {
            permissions,
            konnector,
            manifest,
            bundle,
            previous: before,
            target_state: KonnectorState::Ready,
        })
    }

    /// Starts a planned installation, and returns while it continues in the background.
    pub(super) async fn start_install(
        &self,
        instance: &Instance,
        mut plan: InstallPlan,
        state: KonnectorState,
    ) -> Result<InstallProgress> {
        plan.konnector.state = state;
        let rev = plan.previous.as_ref().map(|before| before.rev.to_string()).unwrap_or_default();
        let konnector = plan.konnector.clone();
        let (events, receiver) = mpsc::channel(4);
        drop(events.send(InstallEvent::State(Box::new(konnector.clone()))).await);
        let happened = if plan.previous.is_some() { ChangeKind::Updated } else { ChangeKind::Created };
        self.context.core.publish(&doc_ref(instance, &konnector.slug), happened, &konnector);
        let (konnectors, instance) = (self.clone(), instance.clone());
        self.context.core.tasks().spawn(
            async move {
                let slug = plan.konnector.slug.clone();
                let mut failed = plan.konnector.clone();
                let event = match konnectors.finish_install(&instance, plan).await {
                    Ok(konnector) => {
                        tracing::info!(%slug, version = konnector.version, "the konnector is ready");
                        InstallEvent::State(Box::new(konnector))
                    }
                    Err(error) => {
                        let error = truncate_middle(error.to_string(), MAX_ERROR_SIZE);
                        tracing::warn!(%slug, error, "the konnector could not be installed");
                        failed.state = KonnectorState::Errored;
                        failed.error = Some(error.clone());
                        if let Ok(body) = to_object(&failed) {
                            konnectors.context.core.publish(&doc_ref(&instance, &slug), ChangeKind::Updated, body);
                        }
                        InstallEvent::Failed(error)
                    }
                };
                drop(events.send(event).await);
            }
            .in_current_span(),
        );
        Ok(InstallProgress { konnector, rev, events: receiver })
    }

    /// Compiles, stores the bytes, then makes the konnector and its permissions visible in one commit.
    async fn finish_install(&self, instance: &Instance, plan: InstallPlan) -> Result<Konnector> {
        let InstallPlan { mut konnector, manifest, bundle, permissions, previous: before, target_state: goal } = plan;
        self.context
            .state
            .sandbox
            .prepare(&bundle.component, &self.context.state.settings.cache_dir)
            .await
            .map_err(|error| Error::Component(error.to_string()))?;
        konnector.component_size = Some(bundle.component.len() as u64);
        konnector.component = Some(self.write_blob(bundle.component).await?);
        if let Some(icon) = bundle.icon {
            konnector.icon_checksum = Some(hex::encode(Sha256::digest(&icon)));
            konnector.icon = Some(self.write_blob(icon).await?);
        }
        konnector.state = goal;
        let accepted_changes = std::mem::take(&mut konnector.accepted_changes);
        let document = doc_ref(instance, &konnector.slug);
        let mut changes = Changes::new();
        let happened = match &before {
            None => {
                changes.create(document.clone(), to_object(&konnector)?);
                self.context.permissions().stage(instance, &konnector.slug, &permissions, &mut changes)?;
                ChangeKind::Created
            }
            Some(before) => {
                changes.put(document.clone(), &before.rev, to_object(&konnector)?);
                let merged =
                    self.permissions_after_update(instance, &konnector.slug, &before.value.manifest()?, &manifest)?;
                self.context.permissions().stage(instance, &konnector.slug, &merged, &mut changes)?;
                ChangeKind::Updated
            }
        };
        match self.context.core.commit(changes).await {
            Ok(_) => {}
            // The commit may still have reached the disk; the konnector then needs its component after a restart.
            Err(error @ Error::Store(StoreError::Poisoned)) => return Err(error),
            Err(error) => {
                self.context.core.delete_blobs(konnector.blobs()).await;
                return Err(error);
            }
        }
        if let Some(before) = before {
            self.context.core.delete_blobs(before.value.blobs()).await;
        }
        self.context.core.publish(&document, happened, &konnector);
        konnector.accepted_changes = accepted_changes;
        Ok(konnector)
    }

    /// Combines the new manifest's rules with those that the user added since the installation.
    fn permissions_after_update(
        &self,
        instance: &Instance,
        slug: &Slug,
        old: &Manifest,
        new: &Manifest,
    ) -> Result<Permissions> {
        let stored = self.context.permissions().of_konnector(instance, slug)?;
        let added = stored.rules().iter().filter(|rule| !old.permissions.rules().contains(rule)).cloned();
        Ok(Permissions::from(new.permissions.rules().iter().cloned().chain(added).collect::<Vec<_>>()))
    }

    async fn write_blob(&self, bytes: Vec<u8>) -> Result<BlobId> {
        let mut writer = self.context.core.store().blobs().create().await?;
        writer.write(Bytes::from(bytes)).await?;
        Ok(writer.finish().await?.id)
    }
}
