//! Temporary links to contents that need no token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Duration;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Files;
use crate::{Error, Result};
use konnector_documents::instance::Instance;

/// Lifetime of a link (Cozy API, files).
pub(super) const LINK_TTL: Duration = Duration::hours(1);

/// Target of a link, identified by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// The content of a file.
    File(String),
    /// The content of a version.
    Version(String),
    /// An archive that is built on request.
    Archive(String),
}

impl LinkTarget {
    const fn kind_and_id(&self) -> (&'static str, &String) {
        match self {
            Self::File(id) => ("file", id),
            Self::Version(id) => ("version", id),
            Self::Archive(id) => ("archive", id),
        }
    }

    fn parse(kind: &str, id: &str) -> Option<Self> {
        let make = match kind {
            "file" => Self::File,
            "version" => Self::Version,
            "archive" => Self::Archive,
            _ => return None,
        };
        Some(make(id.to_owned()))
    }
}

impl Files {
    /// Creates a signed link that contains the target and the expiry time; nothing is stored. Returns the secret of the
    /// link.
    ///
    /// # Errors
    ///
    /// If the signing key cannot be read or used.
    pub fn create_link(&self, instance: &Instance, target: &LinkTarget) -> Result<String> {
        let end = (self.core.clock().now() + LINK_TTL).timestamp();
        let (kind, id) = target.kind_and_id();
        let payload = URL_SAFE_NO_PAD.encode(format!("{end}/{kind}/{id}"));
        let signature = URL_SAFE_NO_PAD.encode(self.link_signature(instance, &payload)?.finalize().into_bytes());
        Ok(format!("{payload}.{signature}"))
    }

    /// Returns the target of a link.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the link was not created by this server, or has expired.
    pub fn resolve_link(&self, instance: &Instance, secret: &str) -> Result<LinkTarget> {
        let invalid = || Error::NotFound("the link is invalid or has expired; request a new one".to_owned());
        let (payload, signature) = secret.split_once('.').ok_or_else(invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid())?;
        self.link_signature(instance, payload)?.verify_slice(&signature).map_err(|_| invalid())?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let payload = payload.ok_or_else(invalid)?;
        let (end, target) = payload.split_once('/').ok_or_else(invalid)?;
        if end.parse::<i64>().map_err(|_| invalid())? < self.core.clock().now().timestamp() {
            return Err(invalid());
        }
        target.split_once('/').and_then(|(kind, id)| LinkTarget::parse(kind, id)).ok_or_else(invalid)
    }

    fn link_signature(&self, instance: &Instance, payload: &str) -> Result<Hmac<Sha256>> {
        let key = self.core.key().derive(&format!("link/{}", instance.id));
        let mut mac = Hmac::<Sha256>::new_from_slice(&*key).map_err(|_| Error::InvalidToken)?;
        mac.update(payload.as_bytes());
        Ok(mac)
    }
}
