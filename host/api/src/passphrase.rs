//! The passphrase of the admin API.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The passphrase, as its digest: comparing takes the same time whatever is wrong with a guess, and no log can show it.
#[derive(Clone)]
pub struct Passphrase([u8; 32]);

impl Passphrase {
    /// Creates a passphrase from its text, without surrounding white space, which files often have.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.trim()).into())
    }

    /// Whether a guess is right.
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
