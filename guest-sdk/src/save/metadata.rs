use chrono::{NaiveDate, NaiveTime};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Metadata of a file in the user's Cozy. It is stored as `metadata`, and other apps display and search it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Creates empty metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the kind of paper, which is a label of Cozy's catalogue such as `energy_invoice`, `isp_invoice`,
    /// `bank_statement`, `pay_sheet`.
    #[must_use]
    pub fn qualification(self, label: &str) -> Self {
        self.with_field("qualification", json!({ "label": label }))
    }

    /// Sets the issuer, for example the vendor's domain.
    #[must_use]
    pub fn author(self, name: &str) -> Self {
        self.with_field("contentAuthor", name)
    }

    /// Sets the date of the paper.
    #[must_use]
    pub fn issued_on(self, day: NaiveDate) -> Self {
        let time = iso_instant(day);
        self.with_field("issueDate", &time).with_field("datetime", &time).with_field("datetimeLabel", "issueDate")
    }

    /// Sets any other field. A value that cannot be serialised as JSON is left out.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// Returns these fields, plus the fields of `other` that are not among them.
    pub(super) fn with_defaults(self, other: Self) -> Self {
        let mut members = other.0;
        members.extend(self.0);
        Self(members)
    }

    pub(crate) fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

/// Formats a day as the timestamp that Cozy's documents use for it.
pub(super) fn iso_instant(day: NaiveDate) -> String {
    format!("{day}T00:00:00.000Z")
}

/// Returns the beginning of a day in milliseconds since 1970.
pub(super) fn midnight(day: NaiveDate) -> i64 {
    day.and_time(NaiveTime::MIN).and_utc().timestamp_millis()
}
