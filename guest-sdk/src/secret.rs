use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Result, host};

/// A password or another secret field of the account, which the konnector can use and never read.
///
/// It prints and serialises as a word that stands for the value: wherever that word occurs in a header, or in a form or JSON body, the
/// host puts the value, provided that the request goes to a host that the manifest names.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    placeholder: String,
}

impl Secret {
    /// The secret field of that name.
    ///
    /// # Errors
    /// [`crate::Error::Bug`] when the account has no such secret.
    pub(crate) fn load(name: &str) -> Result<Self> {
        let placeholder = host::secrets::placeholder(name)?;
        Ok(Self { name: name.to_owned(), placeholder })
    }

    /// Keeps a rotated credential (a refresh token), sealed, for later runs.
    ///
    /// # Errors
    /// As the host answers: [`crate::Error::LimitReached`] for a value that is too large.
    pub fn replace(&self, value: &str) -> Result<()> {
        Ok(host::secrets::put(&self.name, value)?)
    }

    /// The value itself. Needs the feature `reveal`, and the user is told that this konnector can read the password.
    ///
    /// # Errors
    /// [`crate::Error::Denied`] where the user did not agree.
    #[cfg(all(feature = "reveal", target_family = "wasm"))]
    pub fn reveal(&self) -> Result<String> {
        Ok(crate::bindings::konnector::host::reveal::reveal(&self.name)?)
    }
}

/// The word that stands for the secret.
impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.placeholder)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({})", self.name)
    }
}

/// The word that stands for the secret.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.placeholder)
    }
}
