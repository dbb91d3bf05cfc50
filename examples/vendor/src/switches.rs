//! Failures of a vendor, as switches that a test sets while the vendor runs.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;

/// The structure of the account pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A table of bills, contracts as JSON in `#account-data`: the structure konnectors are written for.
    #[default]
    Old,
    /// After a redesign: cards in place of the table, other class names, the JSON under another name. A konnector
    /// written for the old structure must report that the vendor changed, not that there are no bills.
    New,
}

/// The switches. With all of them off the vendor is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switches {
    /// Every page responds with 503 and `Retry-After`.
    pub maintenance: bool,
    /// Every page waits this many milliseconds before it responds.
    pub slow_ms: u64,
    /// A one-time code is required after the password.
    pub otp: bool,
    /// Broken HTML in the list of bills: unclosed tags, rows without their amount.
    pub malformed: bool,
    /// The structure of the account pages.
    pub layout: Layout,
    /// References of the bills whose PDF responds with 500.
    pub pdf_error: Vec<String>,
    /// References of the bills whose PDF responds with 200 and an HTML error page in place of the PDF.
    pub pdf_html: Vec<String>,
    /// The current password. Changing it also unlocks the account.
    pub password: String,
    /// After this many consecutive wrong passwords the account is locked; `None` for never.
    pub locked_after: Option<NonZeroU32>,
}

impl Switches {
    /// Creates the switches of a healthy vendor with this password.
    pub fn new(password: impl Into<String>) -> Self {
        Self {
            maintenance: false,
            slow_ms: 0,
            otp: false,
            malformed: false,
            layout: Layout::Old,
            pdf_error: Vec::new(),
            pdf_html: Vec::new(),
            password: password.into(),
            locked_after: None,
        }
    }

    /// Returns how long a page waits before it responds.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.slow_ms)
    }

    /// Returns these switches after applying `patch`, a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// [`Error::Switches`] naming the switch if a name is unknown or a value has the wrong type.
    pub fn apply_patch(&self, patch: Map<String, Value>) -> Result<Self, Error> {
        let mut value = serde_json::to_value(self).map_err(Error::Switches)?;
        if let Value::Object(fields) = &mut value {
            fields.extend(patch);
        }
        serde_json::from_value(value).map_err(Error::Switches)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply_patch(patch: Value) -> Result<Switches, String> {
        let Value::Object(patch) = patch else { panic!("an object") };
        Switches::new("secret").apply_patch(patch).map_err(|error| error.to_string())
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let switches = apply_patch(json!({"layout": "new", "locked_after": 3})).unwrap();
        let expected = Switches { layout: Layout::New, locked_after: NonZeroU32::new(3), ..Switches::new("secret") };
        assert_eq!(switches, expected);
        assert_eq!(
            switches.apply_patch(Map::from_iter([("locked_after".into(), Value::Null)])).unwrap().locked_after,
            None
        );
    }

    #[test]
    fn a_mistake_is_named() {
        let error = apply_patch(json!({"maintenence": true})).unwrap_err();
        assert!(error.contains("unknown field `maintenence`") && error.contains("`maintenance`"), "{error}");
        let error = apply_patch(json!({"layout": "newer"})).unwrap_err();
        assert!(error.contains("newer") && error.contains("`old` or `new`"), "{error}");
        assert!(apply_patch(json!({"locked_after": 0})).is_err());
    }
}
