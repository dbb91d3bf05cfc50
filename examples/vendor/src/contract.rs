//! The customer's contracts: one in French, one in English, so that a konnector sees both notations.

use serde::{Deserialize, Serialize};

use crate::language::Language;

/// A contract of the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Contract {
    /// The current account in Lyon.
    #[serde(rename = "FR-2041")]
    French,
    /// The savings account in Dublin.
    #[serde(rename = "EN-7730")]
    English,
}

impl Contract {
    /// Both contracts, in the order of the site. The first is shown if a page names none.
    pub const ALL: [Self; 2] = [Self::French, Self::English];

    /// Returns the contract with this number, if the customer has it.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| contract.id() == id)
    }

    /// Returns the contract's number, as in URLs, pages and JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::French => "FR-2041",
            Self::English => "EN-7730",
        }
    }

    /// Returns the contract's name on the site.
    pub fn label(self) -> &'static str {
        match self {
            Self::French => "Compte courant n° 2041",
            Self::English => "Savings account No. 7730",
        }
    }

    /// Returns the language of its bills.
    pub fn language(self) -> Language {
        match self {
            Self::French => Language::French,
            Self::English => Language::English,
        }
    }

    /// Returns the prefix of the references of its bills.
    pub(crate) fn reference_prefix(self) -> &'static str {
        match self {
            Self::French => "FA",
            Self::English => "INV",
        }
    }

    /// Returns the subjects of its bills, in turn.
    pub(crate) fn subjects(self) -> [&'static str; 3] {
        match self {
            Self::French => ["Frais de tenue de compte", "Cotisation carte Premier", "Assurance « vol & perte »"],
            Self::English => ["Account keeping fee", "Cards & payments insurance", "Statement by post"],
        }
    }
}
