use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::bindings::exports::konnector::host::run::{Cause, Job};
use crate::{Account, Error, Result};

/// Input of a run.
#[derive(Debug, Clone)]
pub struct Context {
    job: Job,
}

/// The languages that a konnector can usually distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// French.
    French,
    /// English, and every other language.
    English,
}

impl Context {
    pub(crate) fn new(job: Job) -> Self {
        Self { job }
    }

    /// Returns the account that the run works for.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCredentials`] if the konnector was started without an account.
    pub fn account(&self) -> Result<Account> {
        Account::load()
    }

    /// Returns the manifest's `parameters`, deserialised into a type of the konnector.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] naming the field that is missing or has another type.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.job.parameters)
            .map_err(|error| Error::bug(format!("the manifest's parameters are invalid: {error}")))
    }

    /// Returns one string of the manifest's `parameters`.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] if the parameter is missing.
    pub fn parameter(&self, name: &str) -> Result<String> {
        let mut parameters: serde_json::Map<String, serde_json::Value> = self.parameters()?;
        match parameters.remove(name) {
            Some(serde_json::Value::String(value)) => Ok(value),
            _ => Err(Error::bug(format!("the manifest's parameters have no string `{name}`"))),
        }
    }

    /// Returns the payload of the webhook call, if a webhook started the run.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if the payload does not deserialise.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let parse = |text: &String| {
            serde_json::from_str(text)
                .map_err(|error| Error::vendor_changed(format!("the webhook's payload is invalid: {error}")))
        };
        self.job.payload.as_ref().map(parse).transpose()
    }

    /// Returns the id of the job.
    #[must_use]
    pub fn job_id(&self) -> &str {
        &self.job.id
    }

    /// Returns 1 for the first run of the job, and a higher number for a retry.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.job.attempt
    }

    /// Returns why the run was started.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.job.cause
    }

    /// Returns the start of the last successful run of this account. Older items were saved then.
    #[must_use]
    pub fn last_success(&self) -> Option<DateTime<Utc>> {
        self.job.last_success.and_then(DateTime::from_timestamp_millis)
    }

    /// Returns the user's language, for example `fr`.
    #[must_use]
    pub fn locale(&self) -> &str {
        &self.job.locale
    }

    /// Returns the user's language, for choosing between two translations.
    #[must_use]
    pub fn language(&self) -> Language {
        if self.job.locale.starts_with("fr") { Language::French } else { Language::English }
    }

    /// Returns the IANA name of the user's time zone.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.job.time_zone
    }
}
