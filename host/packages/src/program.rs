//! Compiled programs of installed konnectors.

use konnector_documents::instance::Instance;
use konnector_sandbox::Program;
use konnector_store::Error as StoreError;

use crate::{Error, Konnector, Konnectors, Result};

/// Maximum number of times that a konnector is read again if it is updated while a run of it starts.
const MAX_RELOADS: usize = 3;

impl Konnectors {
    /// Loads the program of a konnector. If an update has deleted its component in the meantime, the konnector is read
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the component is missing, [`Error::Component`] if it cannot be compiled.
    pub async fn load_installed_program(
        &self,
        instance: &Instance,
        mut konnector: Konnector,
    ) -> Result<(Konnector, Program)> {
        for _ in 0..MAX_RELOADS {
            match self.program(&konnector).await {
                Err(Error::Store(StoreError::BlobNotFound { .. })) => {
                    let now = self.get(instance, &konnector.slug)?;
                    if now.component == konnector.component {
                        break;
                    }
                    konnector = now;
                }
                loaded => return loaded.map(|program| (konnector, program)),
            }
        }
        Err(Error::NotFound(format!("the component of '{}' is missing; reinstall the konnector", konnector.slug)))
    }

    /// Returns the compiled component of an installed konnector: from memory, from the cache, or compiled again.
    async fn program(&self, konnector: &Konnector) -> Result<Program> {
        if let Some(program) =
            konnector.checksum.parse().ok().and_then(|digest| self.context.state.sandbox.cached_program(digest))
        {
            return Ok(program);
        }
        let Some(content) = konnector.component_link() else {
            return Err(Error::NotFound(format!(
                "the component of '{}' is missing; reinstall the konnector",
                konnector.slug
            )));
        };
        let bytes = self.context.core.store().read_blob(&content).await?;
        self.context
            .state
            .sandbox
            .prepare(&bytes, &self.context.state.settings.cache_dir)
            .await
            .map_err(|error| Error::Component(error.to_string()))
    }
}
