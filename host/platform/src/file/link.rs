//! Links to a content that work for a while and without a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Duration;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{File, Kind};
use crate::instance::Instance;
use crate::{Error, Platform, Result};

/// How long a link works (Cozy API, files).
const LIFETIME: Duration = Duration::hours(1);

impl Platform {
    /// The secret of a link to a file. It names the file and its end, and is signed: nothing is stored.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] for a directory.
    pub fn link(&self, instance: &Instance, file: &File) -> Result<String> {
        if file.kind == Kind::Directory {
            return Err(Error::BadRequest(format!("'{}' is a directory and has no content", file.name)));
        }
        let end = (self.clock.now() + LIFETIME).timestamp();
        let payload = URL_SAFE_NO_PAD.encode(format!("{end}/{}", file.id));
        let signature = URL_SAFE_NO_PAD.encode(self.link_signature(instance, &payload)?.finalize().into_bytes());
        Ok(format!("{payload}.{signature}"))
    }

    /// The file of a link.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for one that was not made here, is over, or whose file is gone.
    pub fn follow_link(&self, instance: &Instance, secret: &str) -> Result<File> {
        let over = || Error::NotFound("the link does not work any more; ask for another one".to_owned());
        let (payload, signature) = secret.split_once('.').ok_or_else(over)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| over())?;
        self.link_signature(instance, payload)?.verify_slice(&signature).map_err(|_| over())?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let payload = payload.ok_or_else(over)?;
        let (end, id) = payload.split_once('/').ok_or_else(over)?;
        if end.parse::<i64>().map_err(|_| over())? < self.clock.now().timestamp() {
            return Err(over());
        }
        self.file(instance, id)
    }

    fn link_signature(&self, instance: &Instance, payload: &str) -> Result<Hmac<Sha256>> {
        let key = self.key.derive(&format!("link/{}", instance.id));
        let mut mac = Hmac::<Sha256>::new_from_slice(&*key).map_err(|_| Error::InvalidToken)?;
        mac.update(payload.as_bytes());
        Ok(mac)
    }
}
