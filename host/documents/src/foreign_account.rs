//! The error about an account that a konnector may not use.

use std::fmt;

/// Part of a request that named an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountLocation {
    /// In the arguments of a job.
    Arguments,
    /// In the message of a trigger.
    Message,
    /// As the parameter `AccountID`.
    Parameter,
}

/// A konnector tried to use an account that is neither its own nor shared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignAccount {
    /// Part of the request that named the account.
    pub location: AccountLocation,
    /// Id of the account.
    pub account: String,
    /// Slug of the konnector that tried to use the account.
    pub konnector: String,
    /// Slug of the konnector that the account belongs to.
    pub owning_konnector: Option<String>,
}

impl std::error::Error for ForeignAccount {}

impl fmt::Display for ForeignAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, konnector, owning_konnector: owner, .. } = self;
        match owner {
            Some(owner) => write!(
                f,
                "the account '{account}' belongs to the konnector '{owner}' and is not shared with '{konnector}'; \
                 name an account of '{konnector}', or share this one: konnector accounts share {account} {konnector}"
            ),
            None => write!(
                f,
                "the account '{account}' has no account_type, so no konnector may use it; \
                 set account_type to '{konnector}' and enter its secrets again"
            ),
        }
    }
}
