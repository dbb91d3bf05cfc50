use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Result, host};

/// A password or another secret field of the account, which the konnector can use but never read.
///
/// It prints and serialises as a placeholder. If the placeholder occurs in a header, or in a form or JSON body,
/// the host inserts the value, provided that the request goes to a host that the manifest names.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    placeholder: String,
}

impl Secret {
    /// Returns the secret field of that name.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Bug`] if the account has no such secret.
    pub(crate) fn load(name: &str) -> Result<Self> {
        let placeholder = host::secrets::placeholder(name)?;
        Ok(Self { name: name.to_owned(), placeholder })
    }

    /// Stores a rotated credential (a refresh token), sealed, for later runs.
    ///
    /// # Errors
    ///
    /// [`crate::Error::LimitReached`] if the value is too large, and other errors if the host fails.
    pub fn replace(&self, value: &str) -> Result<()> {
        Ok(host::secrets::put(&self.name, value)?)
    }

    /// Returns the value itself. Needs the feature `reveal`, and the user is informed that this konnector can read
    /// the password.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Denied`] if the user did not agree.
    #[cfg(all(feature = "reveal", target_family = "wasm"))]
    pub fn reveal(&self) -> Result<String> {
        Ok(crate::bindings::konnector::host::reveal::reveal(&self.name)?)
    }
}

/// The placeholder of the secret.
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

/// The placeholder of the secret.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.placeholder)
    }
}
