//! The limits of a run: one list for the manifest that requests them, the operator who allows them, and the sandbox
//! that enforces them.

use std::collections::BTreeMap;
use std::fmt;

use crate::Error;
use serde_json::Value;

use crate::json::{ObjectReader, wrong_type};

/// Generates [`Limit`] from one line per limit: name, key, unit, default, maximum unless the operator sets another, and
/// description.
macro_rules! limits {
    ($($name:ident $key:literal $unit:ident $default:literal $max:literal $description:literal;)+) => {
        /// A resource that is limited for each run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Limit {
            $(#[doc = concat!($description, ".")] $name,)+
        }

        impl Limit {
            /// All limits, in display order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the limit's name in a manifest and in the operator's settings, which ends with the unit.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key),+ }
            }

            /// Returns the unit of the limit's values.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self { $(Self::$name => Unit::$unit),+ }
            }

            /// Returns the default for a manifest without this limit, in [`Limit::unit`].
            #[must_use]
            pub const fn default_value(self) -> u64 {
                match self { $(Self::$name => $default),+ }
            }

            /// Returns the maximum that a manifest can request, unless the operator sets another, in [`Limit::unit`].
            #[must_use]
            pub const fn default_max(self) -> u64 {
                match self { $(Self::$name => $max),+ }
            }

            /// Returns a human-readable description.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => $description),+ }
            }
        }
    };
}

limits! {
    // name         key                 unit      default     most
    Memory          "memory_mib"        MiB           256       512   "linear memory, in total for all memories of the component";
    TableElements   "table_elements"    Count     100_000   300_000   "table elements, in total for all tables of the component";
    Handles         "handles"           Count       2_048    10_000   "resources (streams, timers, uploads) open at the same time";
    HostCall        "host_call_mib"     MiB            16        64   "data passed in one call of a host function";
    Cpu             "cpu_s"             Seconds        60       900   "CPU time, including host functions";
    Wall            "wall_s"            Seconds       300     3_600   "elapsed time, excluding waits for the user";
    Answer          "answer_s"          Seconds       300     1_800   "wait for each answer of the user; at most five per run, which together may take twice as long";
    Requests        "requests"          Count       5_000    50_000   "HTTP requests, including redirects";
    Upload          "upload_mib"        MiB            64     1_024   "data sent over the network";
    Download        "download_mib"      MiB         1_024    10_240   "data received over the network, after decompression";
    Body            "body_mib"          MiB             8        64   "one response held in memory";
    Documents       "documents"         Count      20_000   200_000   "documents written or deleted";
    Files           "files"             Count       2_000    20_000   "files written or removed";
    FileContent     "file_mib"          MiB         2_048    20_480   "content of files written";
    Uploads         "uploads"           Count           8        32   "unfinished uploads at the same time";
    Scratch         "scratch_mib"       MiB            32       256   "files in /tmp, and data changed in place in /files";
    ScratchFiles    "scratch_files"     Count      10_000   100_000   "files and directories in /tmp";
    OpenFiles       "open_files"        Count          64       256   "files open for writing at the same time";
    LogLines        "log_lines"         Count      10_000   100_000   "log lines";
    LogText         "log_kib"           KiB         1_024    16_384   "log text";
    LogLine         "log_line_kib"      KiB             8        64   "one log line";
}

/// Unit of the values of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Number of items.
    Count,
    /// Seconds.
    Seconds,
    /// 1,024 bytes.
    KiB,
    /// 1,048,576 bytes.
    MiB,
}

impl Unit {
    /// Returns the number of bytes, seconds or items in one unit.
    #[must_use]
    pub const fn scale(self) -> u64 {
        match self {
            Self::Count | Self::Seconds => 1,
            Self::KiB => 1 << 10,
            Self::MiB => 1 << 20,
        }
    }
}

impl Limit {
    /// Returns the limit with this key.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|limit| limit.key() == key)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "",
            Self::Seconds => "s",
            Self::KiB => "KiB",
            Self::MiB => "MiB",
        })
    }
}

/// Values of some limits, each in its [`Limit::unit`] and never 0, as requested by a manifest or set by an operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitValues(BTreeMap<Limit, u64>);

impl LimitValues {
    /// Returns the value of a limit, if it is set.
    #[must_use]
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.0.get(&limit).copied()
    }

    /// Iterates over all limits that are set.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> {
        self.0.iter().map(|(limit, value)| (*limit, *value))
    }

    /// Returns whether no limit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses the object `limits` of a manifest. An unknown limit has no effect and causes a warning.
    pub(crate) fn parse(object: &ObjectReader, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let mut values = Self::default();
        for (key, value) in object.fields() {
            let path = || object.path(key);
            let Some(limit) = Limit::from_key(key) else {
                warnings.push(format!("{}: this limit is unknown and ignored; {}", path(), known_limits()));
                continue;
            };
            let result = match (value.as_u64(), value) {
                (Some(number), _) => values.set(limit, number),
                (None, Value::Number(other)) => Err(invalid_value(other.to_string())),
                (None, other) => Err(wrong_type("a whole number of at least 1", other)),
            };
            result.map_err(|error| error.at_field(path()))?;
        }
        Ok(values)
    }

    /// Sets a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the value is 0, with which no run could do anything.
    pub fn set(&mut self, limit: Limit, value: u64) -> Result<(), Error> {
        if value == 0 {
            return Err(invalid_value("0".to_owned()));
        }
        self.0.insert(limit, value);
        Ok(())
    }
}

const fn invalid_value(found: String) -> Error {
    Error::Invalid { found, advice: "write a whole number of at least 1, or omit it to use the default" }
}

fn known_limits() -> String {
    let keys: Vec<_> = Limit::ALL.iter().map(|limit| limit.key()).collect();
    format!("the limits are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Manifest;

    fn manifest(limits: Value) -> Result<Manifest, Error> {
        let text = json!({ "name": "A", "version": "1.0.0", "limits": limits }).to_string();
        Manifest::parse(text.as_bytes())
    }

    #[test]
    fn the_list_is_in_itself_sound() {
        for limit in Limit::ALL.iter().copied() {
            assert_eq!(Limit::from_key(limit.key()), Some(limit), "two limits have the key {limit}");
            assert!(0 < limit.default_value() && limit.default_value() <= limit.default_max(), "{limit}");
            let unit = limit.unit().to_string().to_lowercase();
            assert!(unit.is_empty() || limit.key().ends_with(&format!("_{unit}")), "{limit} names another unit");
        }
    }

    #[test]
    fn operators_read_the_same_list() {
        let digits = |number: u64| {
            let mut text = number.to_string();
            for position in
                (1..text.len()).rev().filter(|position| (text.len() - position).is_multiple_of(3)).collect::<Vec<_>>()
            {
                text.insert(position, ',');
            }
            text
        };
        let guide = include_str!("../../../docs/operators.md");
        for limit in Limit::ALL {
            let (default, max) = (digits(limit.default_value()), digits(limit.default_max()));
            let row = format!("| `{limit}` | {} | {default} | {max} |", limit.description());
            assert!(guide.contains(&row), "docs/operators.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn a_manifest_asks_for_some() {
        let parsed = manifest(json!({ "memory_mib": 512, "wall_s": 600 })).unwrap();
        assert_eq!(parsed.limits.iter().collect::<Vec<_>>(), [(Limit::Memory, 512), (Limit::Wall, 600)]);
        assert_eq!(parsed.limits.get(Limit::Cpu), None);
        assert!(manifest(json!(null)).unwrap().limits.is_empty());
    }

    #[test]
    fn errors_name_the_problem() {
        let wrong = [
            json!({ "memory_mib": "512" }),
            json!({ "wall_s": 0 }),
            json!({ "files": -1 }),
            json!({ "files": 1.5 }),
            json!([1]),
        ];
        let errors = wrong.map(|limits| manifest(limits).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"), @r"
        line 1, column 54: limits.memory_mib: expected a whole number of at least 1, found a string
        line 1, column 50: limits.wall_s: 0 is not allowed; write a whole number of at least 1, or omit it to use the default
        line 1, column 49: limits.files: -1 is not allowed; write a whole number of at least 1, or omit it to use the default
        line 1, column 49: limits.files: 1.5 is not allowed; write a whole number of at least 1, or omit it to use the default
        line 1, column 40: limits: expected an object, found a list
        ");
        let warned = manifest(json!({ "memory": 512 })).unwrap();
        insta::assert_snapshot!(warned.warnings().join("\n"), @"limits.memory: this limit is unknown and ignored; the limits are memory_mib, table_elements, handles, host_call_mib, cpu_s, wall_s, answer_s, requests, upload_mib, download_mib, body_mib, documents, files, file_mib, uploads, scratch_mib, scratch_files, open_files, log_lines, log_kib, log_line_kib");
    }
}
