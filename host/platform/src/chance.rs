//! Chance, for what is to be spread.

/// A number from 0 up to 1. Without randomness it is a half, which spreads nothing and harms nothing.
pub fn chance() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(error) => {
            tracing::warn!(%error, "no randomness; delays are not spread");
            0.5
        }
    }
}
