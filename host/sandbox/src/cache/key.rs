//! The key that authenticates this server's compiled code.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::Error;

/// Size of a MAC in bytes.
pub(super) const TAG_BYTES: usize = 32;

/// Authenticates compiled code on disk. Anyone who has the key can make the server execute arbitrary code, so it must
/// not be stored in the directory of the code; derive it from the server's master key.
#[derive(Clone)]
pub struct CodeKey(Zeroizing<[u8; 32]>);

impl CodeKey {
    /// Creates a key from 32 secret, random bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Generates a key that exists only in this process, so no code of another process is loaded.
    pub(crate) fn random() -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice())
            .map_err(|error| Error::Engine(format!("the operating system provides no random numbers: {error}")))?;
        Ok(Self(key))
    }

    pub(super) fn mac(&self) -> Mac {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Mac(Hmac::new_from_slice(self.0.as_slice()).expect("a key of any length"))
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey(…)")
    }
}

/// HMAC-SHA-256 (RFC 2104) of the bytes that are read or written.
pub(super) struct Mac(Hmac<Sha256>);

impl Mac {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn tag(self) -> [u8; TAG_BYTES] {
        self.0.finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(super) fn verify(self, tag: &[u8; TAG_BYTES]) -> bool {
        self.0.verify_slice(tag).is_ok()
    }
}
