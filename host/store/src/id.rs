//! Identifiers of instances and of documents.

use std::fmt;
use std::str::FromStr;

use konnector_manifest::Doctype;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The id of an instance (one person's space): 32 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    text: String,
    bytes: [u8; 16],
}

impl InstanceId {
    /// Creates a new id; later ones sort after earlier ones (UUID version 7).
    #[must_use]
    pub fn new() -> Self {
        Self::from_bytes(Uuid::now_v7().into_bytes())
    }

    /// Returns the owner of data that belongs to no instance: the list of instances, the installed programs, and the
    /// settings of the server.
    #[must_use]
    pub fn global() -> Self {
        Self::from_bytes([0; 16])
    }

    /// Returns whether this is [`InstanceId::global`].
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.bytes == [0; 16]
    }

    /// Returns the 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self { text: hex::encode(bytes), bytes }
    }
}

impl Default for InstanceId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for InstanceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if !text.contains(|c: char| c.is_ascii_uppercase()) => Ok(Self::from_bytes(bytes)),
            _ => Err(Error::Invalid {
                field: "instance id",
                reason: format!("{text:?} is not 32 lower-case hexadecimal digits"),
            }),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.text
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of one document: instance, type and id.
///
/// Ids are 1 to 200 bytes long; otherwise a commit returns [`Error::TooLarge`] or [`Error::Invalid`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocRef {
    /// The instance that owns the document.
    pub instance: InstanceId,
    /// Type of the document.
    pub doctype: Doctype,
    /// Id, which is unique within the instance and the doctype.
    pub id: String,
}

impl DocRef {
    /// Creates the name of a document, which need not exist.
    #[must_use]
    pub fn new(instance: &InstanceId, doctype: &Doctype, id: impl Into<String>) -> Self {
        Self { instance: instance.clone(), doctype: doctype.clone(), id: id.into() }
    }
}

/// `doctype/id`, without the instance, for messages to the instance's owner.
impl fmt::Display for DocRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.doctype, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_32_lower_case_digits() {
        let id = InstanceId::new();
        assert_eq!(id.as_str().len(), 32);
        assert_eq!(id.to_string().parse::<InstanceId>().unwrap(), id);
        for wrong in ["", "0", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &"g".repeat(32), &"é".repeat(16)] {
            assert!(wrong.parse::<InstanceId>().is_err(), "{wrong:?}");
        }
        assert!(InstanceId::global().is_global() && !id.is_global());
    }

    #[test]
    fn an_id_survives_json_and_an_invalid_one_is_rejected() {
        let id = InstanceId::new();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<InstanceId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<InstanceId>("\"nobody\"").is_err());
    }
}
