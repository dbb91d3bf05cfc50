use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Metadata;
use super::metadata::{iso_instant, midnight};
use crate::bindings::konnector::host::files::Target;
use crate::http::FileSource;
use crate::parse::Amount;
use crate::{Error, Result};

/// A bill with its file, saved as a document of the doctype `io.cozy.bills`.
#[derive(Debug)]
#[must_use = "a bill is saved by `save_bills`"]
pub struct Bill {
    pub(super) vendor: String,
    pub(super) amount: Amount,
    pub(super) date: NaiveDate,
    pub(super) source: FileSource,
    pub(super) reference: Option<String>,
    contract: Option<(String, String)>,
    file_name: Option<String>,
    metadata: Metadata,
    members: Map<String, Value>,
}

impl Bill {
    /// Creates a bill from its vendor, amount, day, and the source of its file (a URL, a request or bytes).
    pub fn new(vendor: impl Into<String>, amount: Amount, date: NaiveDate, file: impl Into<FileSource>) -> Self {
        Self {
            vendor: vendor.into(),
            amount,
            date,
            source: file.into(),
            reference: None,
            contract: None,
            file_name: None,
            metadata: Metadata::new(),
            members: Map::new(),
        }
    }

    /// Sets the vendor's own number for the bill, which is the best way to recognise the bill in later runs.
    pub fn vendor_ref(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Sets what the bill is for.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.with_field("subject", subject.into())
    }

    /// Sets the number and the name of the bill's contract. The name becomes a folder of its own.
    pub fn contract(mut self, id: impl Into<String>, label: impl Into<String>) -> Self {
        self.contract = Some((id.into(), label.into()));
        self
    }

    /// Sets the file's name, in place of `2026-11-03_bank101_42.10EUR.pdf`.
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// Marks the bill as money that the vendor pays back.
    pub fn refund(self) -> Self {
        self.with_field("isRefund", true)
    }

    /// Sets metadata of the file, in addition to vendor and day.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets any other field of the document, such as `originalAmount` or `matchingCriterias`. A value that cannot be
    /// serialised as JSON is left out.
    pub fn with_field(mut self, name: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.members.insert(name.to_owned(), value);
        }
        self
    }

    /// Returns an error if the bill cannot be saved.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |reason: &str| {
            Err(Error::bug(format!("the bill of {} for {} is invalid: {reason}", self.date, self.amount)))
        };
        match &self.reference {
            _ if self.vendor.trim().is_empty() => wrong("its vendor is empty"),
            Some(reference) if reference.trim().is_empty() => wrong("its vendor_ref is empty; leave it out"),
            _ => Ok(()),
        }
    }

    /// Returns the key of the bill, without the number that distinguishes equal bills. The key is the vendor's number,
    /// or contract, day and amount.
    pub(super) fn natural_key(&self) -> String {
        let contract = self.contract.as_ref().map(|(id, _)| format!("{id}/")).unwrap_or_default();
        match &self.reference {
            Some(reference) => format!("{contract}{reference}"),
            None => format!("{contract}{}/{}{}", self.date, self.amount.decimal(), self.amount.currency),
        }
    }

    /// Returns the name of the bill in a report.
    pub(super) fn label(&self) -> String {
        let name = self.reference.as_deref().unwrap_or(&self.vendor);
        format!("{name} of {}, {}", self.date, self.amount)
    }

    pub(super) fn name(&self) -> String {
        self.file_name.clone().unwrap_or_else(|| {
            let vendor = self.vendor.trim().to_lowercase().replace(char::is_whitespace, "-");
            format!("{}_{vendor}_{}{}.pdf", self.date, self.amount.decimal(), self.amount.currency)
        })
    }

    /// Returns where its file is stored.
    pub(super) fn target(&self, key: &str) -> Target {
        let metadata = Metadata::new().author(&self.vendor).issued_on(self.date);
        let metadata = match &self.reference {
            Some(reference) => metadata.with_field("vendorRef", reference),
            None => metadata,
        };
        let folder = self.contract.as_ref().map(|(_, label)| label.replace('/', "-")).unwrap_or_default();
        Target {
            folder,
            name: self.name(),
            key: Some(key.to_owned()),
            mime: None,
            created_at: Some(midnight(self.date)),
            metadata: self.metadata.clone().with_defaults(metadata).to_json(),
            references: Vec::new(),
        }
    }

    /// Returns the document, once the file has an id (io.cozy.bills).
    pub(super) fn document(&self, file_id: &str, file_name: &str) -> Value {
        let mut document = json!({
            "vendor": self.vendor,
            "amount": self.amount.as_f64(),
            "currency": self.amount.currency,
            "date": iso_instant(self.date),
            "filename": file_name,
            "invoice": format!("io.cozy.files:{file_id}"),
        });
        if let Value::Object(members) = &mut document {
            members.extend(self.reference.iter().map(|reference| ("vendorRef".to_owned(), json!(reference))));
            if let Some((id, label)) = &self.contract {
                members.extend([("contractId".to_owned(), json!(id)), ("contractLabel".to_owned(), json!(label))]);
            }
            members.extend(self.members.clone());
        }
        document
    }
}
