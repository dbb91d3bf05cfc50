//! The passphrase of the admin API.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Passphrase, stored as its digest, so that comparisons take the same time for all guesses and no log can reveal it.
#[derive(Clone)]
pub struct Passphrase([u8; 32]);

impl Passphrase {
    /// Creates a passphrase from a string. Surrounding white space, which files often have, is removed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.trim()).into())
    }

    /// Returns whether `guess` is the passphrase.
    #[must_use]
    pub fn matches(&self, guess: &str) -> bool {
        Self::new(guess).0.ct_eq(&self.0).into()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_guess_is_right() {
        let passphrase = Passphrase::new("correct horse\n");
        assert!(passphrase.matches("correct horse"));
        for wrong in ["", "correct", "Correct horse", "correct horse battery"] {
            assert!(!passphrase.matches(wrong), "{wrong}");
        }
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
    }
}
