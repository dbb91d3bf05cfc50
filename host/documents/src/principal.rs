//! Principals: who makes a request, and what it may do.

use chrono::Duration;
use konnector_manifest::Permissions;
use konnector_store::Lease;
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::{Error, Result};

/// Audience of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// A web application; 24 hours.
    #[serde(rename = "app")]
    App,
    /// A konnector; 30 minutes, or the duration of its run. Its rights are those of its permission document at the time
    /// of each request.
    #[serde(rename = "konn")]
    Konnector,
    /// An operator's command line; 30 minutes.
    #[serde(rename = "cli")]
    Cli,
    /// An OAuth client; 7 days. Invalid once the client is deleted.
    #[serde(rename = "access")]
    Access,
    /// The holder of a share's code; does not expire, but the share may. Its rights are those of the share's permission
    /// document.
    #[serde(rename = "share")]
    Share,
    /// An OAuth client, only for obtaining new access tokens; does not expire.
    #[serde(rename = "refresh")]
    Refresh,
    /// An OAuth client, only for its own registration; does not expire.
    #[serde(rename = "registration")]
    Registration,
}

impl Audience {
    /// Returns how long a token of this audience is valid after it was issued; `None` means that it does not expire
    /// (Cozy API, authentication, §1.3).
    #[must_use]
    pub fn lifetime(self) -> Option<Duration> {
        match self {
            Self::App => Some(Duration::hours(24)),
            Self::Konnector | Self::Cli => Some(Duration::minutes(30)),
            Self::Access => Some(Duration::days(7)),
            Self::Share | Self::Refresh | Self::Registration => None,
        }
    }
}

impl std::str::FromStr for Audience {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "app" => Ok(Self::App),
            "konn" | "konnector" => Ok(Self::Konnector),
            "cli" => Ok(Self::Cli),
            "access" | "access-token" => Ok(Self::Access),
            "refresh" | "refresh-token" => Ok(Self::Refresh),
            other => Err(Error::BadRequest(format!(
                "the audience '{other}' is unknown; use app, konn, cli, access-token or refresh-token"
            ))),
        }
    }
}

/// Claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Audience.
    pub aud: Audience,
    /// Domain of the instance.
    pub iss: String,
    /// Issued at, in seconds since 1970.
    pub iat: i64,
    /// Slug of the app or konnector, or a name.
    pub sub: String,
    /// Space-separated rules; empty for konnectors.
    #[serde(default)]
    pub scope: String,
    /// The account of the run for which the token was issued; its secrets are shown, and those of no other account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The permission document of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// The run for which the token was issued. The token is valid only inside that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunClaim>,
}

/// A run, identified by its job and the epoch of its lease, because a second run of the same job has another epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunClaim {
    job: String,
    epoch: u64,
}

impl RunClaim {
    /// Returns the claim of the run that holds a lease.
    #[must_use]
    pub fn from_lease(lease: &Lease) -> Self {
        Self { job: lease.job.id.clone(), epoch: lease.epoch }
    }
}

/// The caller of a request, and its permissions.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Claims of the token.
    pub claims: Claims,
    /// Current permissions.
    pub permissions: Permissions,
    /// Whether an app requested the secrets of accounts, and therefore sees them (Cozy API, accounts, §7.2).
    pub wants_credentials: bool,
}

impl Principal {
    /// Returns the slug, if the caller is a konnector.
    #[must_use]
    pub fn konnector(&self) -> Option<&str> {
        (self.claims.aud == Audience::Konnector).then_some(self.claims.sub.as_str())
    }

    /// Returns the owner, for operations of the server on the owner's behalf.
    #[must_use]
    pub fn owner(instance: &Instance) -> Self {
        let claims = Claims { iss: instance.domain.clone(), ..Claims::new(Audience::Cli, "konnector", "*") };
        Self { claims, permissions: Permissions::everything(), wants_credentials: false }
    }

    /// Denies a konnector operations that would outlast its run or give access to others. The konnector's access ends
    /// with the run, regardless of its rules.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], which names the denied operation `what`.
    pub fn check_may_outlive_run(&self, what: &str) -> Result<()> {
        match self.konnector() {
            None => Ok(()),
            Some(_) => Err(Error::Forbidden(format!("a konnector cannot {what}, because its rights end with its run"))),
        }
    }
}

impl Principal {
    /// Returns the source for the objects that a konnector owns and creates.
    #[must_use]
    pub fn konnector_source(slug: &(impl std::fmt::Display + ?Sized)) -> String {
        format!("io.cozy.konnectors/{slug}")
    }

    /// Returns the type and source of the principal's permission set, in Cozy's terms. For a share, both are in its
    /// document.
    #[must_use]
    pub fn source(&self) -> (&'static str, String) {
        let subject = &self.claims.sub;
        match self.claims.aud {
            Audience::App => ("app", format!("io.cozy.apps/{subject}")),
            Audience::Konnector => ("konnector", Self::konnector_source(subject)),
            Audience::Cli => ("cli", String::new()),
            Audience::Access | Audience::Refresh | Audience::Registration => {
                ("oauth", format!("io.cozy.oauth.clients/{subject}"))
            }
            Audience::Share => ("share", String::new()),
        }
    }
}

impl Claims {
    /// Creates claims without an issuer and a time, which the signature adds.
    #[must_use]
    pub fn new(audience: Audience, subject: &str, scope: &str) -> Self {
        Self {
            aud: audience,
            iss: String::new(),
            iat: 0,
            sub: subject.to_owned(),
            scope: scope.to_owned(),
            account: None,
            share: None,
            run: None,
        }
    }
}
