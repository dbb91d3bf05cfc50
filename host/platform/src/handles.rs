//! The operations of the platform, by noun: `platform.files().create(…)`.
//!
//! A handle is a view of the [`Platform`] that costs nothing to obtain and carries the platform's lease. The module of
//! each noun implements its handle.

use ref_cast::RefCast;

use crate::Platform;

macro_rules! handles {
    ($($(#[$doc:meta])+ $accessor:ident: $handle:ident;)+) => {
        $(
            $(#[$doc])+
            #[derive(Clone, RefCast)]
            #[repr(transparent)]
            pub struct $handle {
                pub(crate) platform: Platform,
            }
        )+

        impl Platform {
            $(
                #[doc = concat!("Returns the handle of ", stringify!($accessor), ".")]
                #[must_use]
                pub fn $accessor(&self) -> &$handle {
                    $handle::ref_cast(self)
                }
            )+
        }
    };
}

handles! {
    /// Accounts at vendors and their secrets.
    accounts: Accounts;
    /// Account types: how accounts of one kind are authorized.
    account_types: AccountTypes;
    /// Tokens, one-time tokens and OAuth grants.
    auth: Auth;
    /// Backups of the data folder.
    backups: Backups;
    /// Deletion of blobs that no document refers to.
    blob_sweeper: BlobSweeper;
    /// JSON documents, their indexes and their change feeds.
    documents: Documents;
    /// Files, directories, versions and the trash.
    files: Files;
    /// Spaces of persons.
    instances: Instances;
    /// The queue, its workers and the history of jobs.
    jobs: Jobs;
    /// Installed konnectors: install, update, uninstall.
    konnectors: Konnectors;
    /// Registered OAuth clients.
    oauth_clients: OauthClients;
    /// Permission sets: of konnectors, tokens and shares.
    permissions: PermissionSets;
    /// Limits on what an instance does per hour.
    rate_limits: RateLimits;
    /// Events for websocket and SSE listeners.
    realtime: Realtime;
    /// Registries in which konnectors are looked up.
    registries: Registries;
    /// Triggers and their scheduler.
    triggers: Triggers;
}
