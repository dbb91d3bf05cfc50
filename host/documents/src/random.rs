//! Randomness for retry jitter, so that retries do not coincide, and for secrets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Source of random numbers.
pub trait RandomSource: Send + Sync {
    /// Returns a uniformly distributed number from 0 (inclusive) to 1 (exclusive).
    fn jitter(&self) -> f64;
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        match getrandom::fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
            Err(error) => {
                tracing::warn!(%error, "there are no random numbers; delays are not randomised");
                0.5
            }
        }
    }
}

/// Returns an unguessable secret: 32 random bytes as 43 characters of base64url.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) if the system has no random numbers.
pub fn random_secret() -> crate::Result<String> {
    let mut bytes = [0; 32];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(URL_SAFE_NO_PAD.encode(bytes)),
        Err(error) => {
            Err(crate::Error::io("asking the system for random numbers")(std::io::Error::other(error.to_string())))
        }
    }
}
