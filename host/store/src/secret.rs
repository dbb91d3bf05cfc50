//! Account secrets, sealed before they reach the store.
//!
//! Each account has its own key, derived from the master key. Each sealed string is bound to its instance, account,
//! konnector and field, so it cannot be opened in another place or for another konnector.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, Result};
use crate::id::InstanceId;

mod file;

/// Prefix of a sealed string that is bound to no konnector; part of the authenticated data.
const UNBOUND_FORMAT: &str = "sealed-v1";
/// Prefix of a sealed string that is bound to a konnector; part of the authenticated data.
const BOUND_FORMAT: &str = "sealed-v2";
const NONCE_BYTES: usize = 24;
/// Length of the key fingerprint in a sealed string, to distinguish a wrong key from a damaged string.
const HINT_DIGITS: usize = 8;

/// The key that seals all secrets of a data folder: 32 random bytes, stored outside of it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

/// The place of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretContext {
    /// The instance that owns the account.
    pub instance: InstanceId,
    /// The id of the account.
    pub account: String,
    /// Slug of the only konnector that may open the secret; `None` for a secret of the server itself.
    pub konnector: Option<String>,
    /// The field of the account, such as `password`.
    pub field: String,
}

impl MasterKey {
    /// Returns a public name of this key: 16 hexadecimal digits that reveal nothing about it. Store it at the first
    /// start, and compare it at each later one.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.expand(&[b"fingerprint"]).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Derives a key for another purpose; different labels give independent keys, and none reveals the master key
    /// (HKDF, RFC 5869).
    #[must_use]
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        self.expand(&[b"label", label.as_bytes()])
    }

    /// Seals a secret as `<format>.<key hint>.<base64url>`: XChaCha20-Poly1305 with a random nonce.
    ///
    /// # Errors
    ///
    /// [`Error::Secret`] if the system has no random numbers.
    pub fn seal(&self, context: &SecretContext, secret: &[u8]) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)
            .map_err(|error| context.error(format!("the system provides no random numbers: {error}")))?;
        let payload = Payload { msg: secret, aad: &context.associated_data() };
        let sealed = self
            .cipher(context)
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| context.error("it is too large to seal"))?;
        let text = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat());
        Ok(format!("{}.{}.{text}", context.format(), self.hint()))
    }

    /// Opens a string that [`MasterKey::seal`] created for the same context. A string of the other format never opens,
    /// because a secret bound to no konnector does not belong to one.
    ///
    /// # Errors
    ///
    /// [`Error::Secret`] if the string was sealed with another key or for another context, or was changed.
    pub fn open(&self, context: &SecretContext, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let format = context.format();
        let mut parts = sealed.splitn(3, '.');
        let (Some(hint), Some(text)) = (parts.next().filter(|found| *found == format).and(parts.next()), parts.next())
        else {
            return Err(context.error(format!("it is not of the form {format}.<key>.<text>; enter it again")));
        };
        if hint != self.hint() {
            let ours = self.hint();
            let reason = format!(
                "it was sealed with the key {hint}…, but this server uses {ours}…; start the server with that key"
            );
            return Err(context.error(reason));
        }
        let changed =
            || context.error("it was changed, or belongs to another account, konnector or field; enter it again");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| changed())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(changed)?;
        let payload = Payload { msg: sealed, aad: &context.associated_data() };
        let secret = self.cipher(context).decrypt(&XNonce::from(*nonce), payload).map_err(|_| changed())?;
        Ok(Zeroizing::new(secret))
    }

    /// Returns whether a string was sealed with this key, in either format.
    #[must_use]
    pub fn is_sealed(&self, text: &str) -> bool {
        self.is_sealed_as(UNBOUND_FORMAT, text) || self.is_sealed_as(BOUND_FORMAT, text)
    }

    /// Returns whether a string was sealed with this key and has the format of this context.
    #[must_use]
    pub fn is_sealed_for(&self, context: &SecretContext, text: &str) -> bool {
        self.is_sealed_as(context.format(), text)
    }

    fn is_sealed_as(&self, format: &str, text: &str) -> bool {
        text.strip_prefix(format)
            .and_then(|text| text.strip_prefix('.'))
            .is_some_and(|text| text.starts_with(&self.hint()))
    }

    fn hint(&self) -> String {
        let mut hint = self.fingerprint();
        hint.truncate(HINT_DIGITS);
        hint
    }

    fn cipher(&self, context: &SecretContext) -> XChaCha20Poly1305 {
        let key = self.expand(&[b"account", context.instance.as_bytes(), context.account.as_bytes()]);
        XChaCha20Poly1305::new((&*key).into())
    }

    fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let info = encode_parts([b"konnector-key-1".as_slice()].into_iter().chain(info.iter().copied()));
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8160 bytes")]
        Hkdf::<Sha256>::new(None, &self.0).expand(&info, key.as_mut_slice()).expect("32 bytes are within HKDF's limit");
        key
    }
}

impl SecretContext {
    const fn format(&self) -> &'static str {
        if self.konnector.is_some() { BOUND_FORMAT } else { UNBOUND_FORMAT }
    }

    fn associated_data(&self) -> Vec<u8> {
        let before = [self.format().as_bytes(), self.instance.as_bytes(), self.account.as_bytes()];
        let konnector = self.konnector.iter().map(String::as_bytes);
        encode_parts(before.into_iter().chain(konnector).chain([self.field.as_bytes()]))
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Secret { account: self.account.clone(), field: self.field.clone(), reason: reason.into() }
    }
}

/// Encodes each part with its length, so two different lists of parts never have the same encoding.
fn encode_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    parts.flat_map(|part| [&(part.len() as u64).to_be_bytes(), part].concat()).collect()
}

/// Prints the fingerprint, never the key.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKey").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests;
