//! How often a konnector runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How often a konnector runs for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frequency {
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week; also the meaning of an absent or unknown word.
    #[default]
    Weekly,
    /// Every month.
    Monthly,
}

impl Frequency {
    /// Returns the name as in a manifest: `weekly`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// Returns the frequency with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly].into_iter().find(|each| each.as_str() == name)
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
