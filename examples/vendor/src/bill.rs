//! A bill of the bank.

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::contract::Contract;

/// An amount in euro cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(i64);

impl Amount {
    /// Creates an amount from euro cents; negative for a refund.
    pub fn new(cents: i64) -> Self {
        Self(cents)
    }

    /// Returns the amount in euro cents.
    pub fn cents(self) -> i64 {
        self.0
    }
}

/// A bill. It never changes once issued, so its PDF and its `ETag` never change either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The bank's own number for the bill, unique over both contracts, such as `FA-2026-0020`.
    pub reference: String,
    /// The contract it belongs to.
    pub contract: Contract,
    /// The day of the bill.
    pub issued_on: NaiveDate,
    /// Subject of the bill, in the language of the contract.
    pub subject: String,
    /// The total, in euro cents.
    #[serde(rename = "amount_cents")]
    pub amount: Amount,
}

impl Bill {
    /// Returns the day on which the money is collected: 15 days after the bill.
    pub fn due_on(&self) -> NaiveDate {
        self.issued_on.checked_add_days(Days::new(15)).unwrap_or(NaiveDate::MAX)
    }

    /// Returns the path of the PDF on the site.
    pub fn pdf_path(&self) -> String {
        format!("/account/bills/{}.pdf", self.reference)
    }
}

/// A bill to add. Omitted fields get the values of the initial bills.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewBill {
    /// Contract of the bill: `FR-2041` or `EN-7730`.
    pub contract: Option<Contract>,
    /// Day of the bill, as `2026-12-03`.
    pub issued_on: Option<NaiveDate>,
    /// Subject of the bill.
    pub subject: Option<String>,
    /// Amount in euro cents.
    #[serde(rename = "amount_cents")]
    pub amount: Option<Amount>,
}
