//! Bundles in registries of the Open Container Initiative (OCI distribution specification 1.1).

use konnector_manifest::OciReference;

use super::fetch::Fetched;
use crate::{Error, Platform, Result};

impl Platform {
    /// The bundle of an artifact.
    pub(super) async fn fetch_artifact(
        &self,
        registry: &str,
        repository: &str,
        reference: &OciReference,
    ) -> Result<Fetched> {
        Err(Error::Unreachable(format!("oci://{registry}/{repository}{reference}")))
    }
}
