//! Chance, so that what is tried again is not tried by everybody at the same moment.

/// Throws the dice.
pub trait Random: Send + Sync {
    /// A number from 0 up to 1, each as likely as any other.
    fn share(&self) -> f64;
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn share(&self) -> f64 {
        let mut bytes = [0; 4];
        match getrandom::fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
            Err(error) => {
                tracing::warn!(%error, "no randomness; delays are not spread");
                0.5
            }
        }
    }
}
