//! Instants as the store keeps them: to the microsecond, as a number.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serializer, de};

/// The instant as it will be read back.
pub(crate) fn truncate(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

pub(crate) fn serialize<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.timestamp_micros())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let micros = i64::deserialize(deserializer)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| de::Error::custom("an instant out of range"))
}
