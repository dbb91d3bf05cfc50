//! Updates (cozy-stack, update rules): on request, or automatic if the registry has a newer version.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::time::Duration;

use konnector_manifest::{Slug, Source};
use konnector_sandbox::Sandbox;
use konnector_store::DocRef;
use semver::Version;
use tokio::sync::mpsc;

use super::consent::{ConsentAddition, ConsentScope};
use super::install::{InstallEvent, InstallProgress, parse_slug, parse_source};
use super::{Konnector, KonnectorState, doc_ref};
use crate::Konnectors;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::stored::Object;

/// How long reading or running a konnector waits for an automatic update.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

/// A request for an update.
#[derive(Debug, Clone)]
pub struct UpdateRequest {
    /// Slug of the konnector.
    pub slug: String,
    /// New source, which replaces the present one.
    pub source: Option<String>,
    /// Value for the manifest's `parameters`; if absent, the old ones stay.
    pub parameters: Option<Object>,
    /// Whether the user accepts the new version's additions: permissions, reading passwords, terms. Absent means yes
    /// (the documented default).
    pub permissions_acked: bool,
}

/// The konnectors that are being updated automatically.
#[derive(Debug, Default)]
pub(crate) struct UpdatesInProgress(Mutex<HashSet<DocRef>>);

impl Konnectors {
    /// Checks and starts an update. If the new version adds something and the user did not accept it, only
    /// `available_version` and `available_changes` change. If there is no other version, only the source changes.
    ///
    /// # Errors
    ///
    /// As [`Konnectors::install`]; [`Error::NotFound`] if it is not installed.
    pub async fn update(&self, instance: &Instance, request: UpdateRequest) -> Result<InstallProgress> {
        let slug = parse_slug(&request.slug)?;
        let before = self.get_stored(instance, &slug)?;
        let source = match &request.source {
            Some(source) if !source.is_empty() => parse_source(source)?,
            _ => Self::installed_source(&before.value)?,
        };
        let parameters = request.parameters.filter(|_| !matches!(source, Source::Registry { .. }));
        let fetched = match parameters {
            // Parameters change the konnector regardless of its version.
            Some(_) => Some(self.fetch_bundle(&source).await?),
            None => self.fetch_if_changed(&source, &before.value).await?,
        };
        let Some(fetched) = fetched else { return self.record_available_version(instance, &slug, &source, None).await };
        let info = Sandbox::inspect(&fetched.bundle.component).map_err(|error| Error::Component(error.to_string()))?;
        let offered = ConsentScope::from_manifest(&fetched.bundle.manifest, &info);
        let growth = offered.additions_over(&ConsentScope::from_installed(&before.value)?);
        let needs_consent = growth.iter().any(|growth| !self.is_waived(growth));
        if !request.permissions_acked && needs_consent {
            let growth = growth.into_iter().filter(|growth| !self.is_waived(growth)).collect();
            return self.record_available_version(instance, &slug, &source, Some((fetched.version, growth))).await;
        }
        let old = before.value.manifest()?;
        let own = &fetched.bundle.manifest.parameters;
        let parameters = parameters.or_else(|| own.clone().or_else(|| old.parameters.clone()));
        let mut plan = self.plan_install(slug, source, fetched, parameters, Some(before)).await?;
        plan.konnector.accepted_changes = growth.iter().map(ConsentAddition::to_string).collect();
        self.start_install(instance, plan, KonnectorState::Upgrading).await
    }

    /// Returns whether the operator accepts an addition on behalf of all users.
    fn is_waived(&self, growth: &ConsentAddition) -> bool {
        growth.is_waivable() && self.context.state.settings.permissions_skip_verification
    }

    /// Leaves the installed version in place, and records the source of the next one and the version that waits for
    /// consent.
    async fn record_available_version(
        &self,
        instance: &Instance,
        slug: &Slug,
        source: &Source,
        waiting: Option<(String, Vec<ConsentAddition>)>,
    ) -> Result<InstallProgress> {
        let now = self.context.core.clock().now();
        let (available, growth) = waiting.unzip();
        let additions: Vec<String> = growth.iter().flatten().map(ConsentAddition::to_string).collect();
        let changed = self
            .context
            .core
            .modify::<Konnector, _>(&doc_ref(instance, slug), |konnector, _| {
                let (source, available, additions) = (source.to_string(), available.clone(), additions.clone());
                let same = konnector.source == source
                    && konnector.available_version == available
                    && konnector.available_changes == additions;
                if !same {
                    (konnector.source, konnector.available_version, konnector.updated_at) = (source, available, now);
                    konnector.available_changes = additions;
                }
                Ok(!same)
            })
            .await?;
        let konnector = changed.ok_or_else(|| super::not_installed(slug))?;
        let (events, receiver) = mpsc::channel(1);
        drop(events.send(InstallEvent::State(Box::new(konnector.clone()))).await);
        let rev = self.get_stored(instance, slug)?.rev.to_string();
        Ok(InstallProgress { konnector, rev, events: receiver })
    }

    /// Updates a konnector if its registry has a newer version and the update needs no consent. Returns when the update
    /// is done, fails or takes too long; the installed version is then usable. Returns whether it looked for a version;
    /// if not, nothing has changed. Cancel-safe: an update that began continues on its own.
    pub async fn refresh(&self, instance: &Instance, slug: &Slug) -> bool {
        let document = doc_ref(instance, slug);
        if self.context.state.settings.registries.is_empty()
            || !self.context.state.refreshing_konnectors.lock().insert(document.clone())
        {
            return false;
        }
        let _turn = RefreshGuard(&self.context.state.refreshing_konnectors, document);
        match tokio::time::timeout(REFRESH_TIMEOUT, self.try_refresh(instance, slug)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(%slug, %error, "the update from the registry failed; using the installed version")
            }
            Err(_) => tracing::info!(%slug, "the update from the registry takes too long; using the installed version"),
        }
        true
    }

    async fn try_refresh(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        let installed = self.get(instance, slug)?;
        let source = Self::installed_source(&installed)?;
        let Some(news) = self.context.registries().latest_version(&source).await? else { return Ok(()) };
        if news.version == installed.version && installed.available_version.is_some() {
            return self.record_available_version(instance, slug, &source, None).await.map(drop);
        }
        if installed.available_version.as_ref() == Some(&news.version)
            || !is_newer(&source, &installed.version, &news.version)
        {
            return Ok(());
        }
        let request =
            UpdateRequest { slug: slug.to_string(), source: None, parameters: None, permissions_acked: false };
        let mut events = self.update(instance, request).await?.events;
        while let Some(event) = events.recv().await {
            if let InstallEvent::Failed(reason) = event {
                return Err(Error::Unreachable(reason));
            }
        }
        Ok(())
    }
}

impl UpdatesInProgress {
    fn lock(&self) -> MutexGuard<'_, HashSet<DocRef>> {
        self.0.lock()
    }
}

/// Prevents other automatic updates of the same konnector until it is dropped.
struct RefreshGuard<'a>(&'a UpdatesInProgress, DocRef);

impl Drop for RefreshGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// Returns whether a version is an update, which is a higher version in the stable channel, and any different version
/// in the others.
fn is_newer(source: &Source, installed: &str, offered: &str) -> bool {
    let stable = matches!(source, Source::Registry { channel, .. } if channel == Source::DEFAULT_CHANNEL);
    match (Version::parse(installed), Version::parse(offered)) {
        (Ok(installed), Ok(offered)) if stable => offered > installed,
        _ => installed != offered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stable_channel_knows_what_is_newer() {
        let source = |channel: &str| format!("registry://bank/{channel}").parse::<Source>().expect("a source");
        for (channel, installed, offered, newer) in [
            ("stable", "1.9.0", "1.10.0", true),
            ("stable", "2.0.0", "1.10.0", false),
            ("stable", "1.0.0", "1.0.0", false),
            ("stable", "latest", "1.0.0", true),
            ("beta", "2.0.0-beta.2", "2.0.0-beta.1", true),
            ("dev", "1.0.0", "1.0.0", false),
        ] {
            assert_eq!(is_newer(&source(channel), installed, offered), newer, "{channel} {installed} {offered}");
        }
    }
}
