//! The document types of the platform itself, and which of them `/data` may access.

use std::sync::LazyLock;

use konnector_manifest::Doctype;

macro_rules! doctypes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: LazyLock<Doctype> = LazyLock::new(|| parse_known($text));)*
    };
}

#[expect(clippy::expect_used, reason = "the texts are constants below and a test parses each of them")]
fn parse_known(text: &str) -> Doctype {
    text.parse().expect("a known doctype")
}

doctypes! {
    /// Instances, stored outside any instance.
    INSTANCES = "io.cozy.instances";
    /// Instances whose removal is in progress, stored outside any instance.
    ERASURES = "io.cozy.instances.erasures";
    /// Installed konnectors.
    KONNECTORS = "io.cozy.konnectors";
    /// Permission sets of konnectors.
    PERMISSIONS = "io.cozy.permissions";
    /// Accounts at vendors.
    ACCOUNTS = "io.cozy.accounts";
    /// Accounts that were deleted while their konnector still has to clean up at the vendor.
    DELETED_ACCOUNTS = "io.cozy.accounts.soft_deleted";
    /// Konnectors that the operator has put into maintenance, stored outside any instance.
    MAINTENANCES = "io.cozy.konnectors.maintenance";
    /// Messages that clients log about a konnector; written to the server's log, never stored.
    APP_LOGS = "io.cozy.apps.logs";
    /// Files and directories.
    FILES = "io.cozy.files";
    /// Former contents of files.
    VERSIONS = "io.cozy.files.versions";
    /// Metadata for future uploads.
    UPLOAD_METADATA = "io.cozy.files.metadata";
    /// Lists of the files in archives to which links lead.
    ARCHIVES = "io.cozy.files.archives";
    /// Jobs.
    JOBS = "io.cozy.jobs";
    /// Events of running jobs; published, never stored.
    JOB_EVENTS = "io.cozy.jobs.events";
    /// Log lines of running jobs; published, never stored.
    JOB_LOGS = "io.cozy.jobs.logs";
    /// Mail to the support team; named by rules, never stored.
    SUPPORT = "io.cozy.support";
    /// Triggers.
    TRIGGERS = "io.cozy.triggers";
    /// Indexes that clients declared, stored apart from the documents that they cover.
    DESIGNS = "io.cozy.designs";
    /// Events of documents that triggers have yet to handle.
    PENDING_EVENTS = "io.cozy.triggers.occasions";
    /// Persistent state of the server itself.
    SETTINGS = "io.cozy.settings";
    /// Services with which users have accounts, stored outside any instance.
    ACCOUNT_TYPES = "io.cozy.account_types";
    /// Programs that may act for the owner, as OAuth clients.
    OAUTH_CLIENTS = "io.cozy.oauth.clients";
    /// Short-lived one-time tokens.
    ONE_TIME_TOKENS = "io.cozy.tickets";
}

/// Neither readable nor writable through `/data` (cozy-stack, permission of doctypes).
const INACCESSIBLE: &[&str] = &[
    "io.cozy.account_types",
    "io.cozy.accounts.soft_deleted",
    "io.cozy.apps.logs",
    "io.cozy.apps.open",
    "io.cozy.auth.confirmations",
    "io.cozy.designs",
    "io.cozy.files.archives",
    "io.cozy.files.metadata",
    "io.cozy.files.sizes",
    "io.cozy.files.thumbnails",
    "io.cozy.instances",
    "io.cozy.intents",
    "io.cozy.jobs.events",
    "io.cozy.jobs.logs",
    "io.cozy.konnectors.maintenance",
    "io.cozy.notes.events",
    "io.cozy.notes.telepointers",
    "io.cozy.notes.url",
    "io.cozy.oauth.access_codes",
    "io.cozy.oauth.clients",
    "io.cozy.office.url",
    "io.cozy.permissions",
    "io.cozy.remote.secrets",
    "io.cozy.sessions",
    "io.cozy.shared",
    "io.cozy.sharings",
    "io.cozy.sharings.answer",
    "io.cozy.sharings.initial_sync",
    "io.cozy.sharings.moved",
    "io.cozy.support",
    "io.cozy.tickets",
    "io.cozy.triggers.occasions",
    "io.cozy.triggers.state",
    "com.bitwarden.profiles",
];

/// Readable through `/data`, written only through their own routes.
const READ_ONLY: [&str; 12] = [
    "io.cozy.apps",
    "io.cozy.files",
    "io.cozy.files.versions",
    "io.cozy.jobs",
    "io.cozy.konnectors",
    "io.cozy.notes.images",
    "io.cozy.notes.steps",
    "io.cozy.notifications",
    "io.cozy.remote.requests",
    "io.cozy.sessions.logins",
    "io.cozy.triggers",
    "com.bitwarden.contacts",
];

/// Returns whether `/data` may read documents of this doctype.
#[must_use]
pub fn is_readable(doctype: &Doctype) -> bool {
    let name: &str = doctype.as_ref();
    !INACCESSIBLE.contains(&name) && !name.starts_with("io.cozy.certified.")
}

/// Returns whether `/data` may write documents of this doctype.
#[must_use]
pub fn is_writable(doctype: &Doctype) -> bool {
    is_readable(doctype) && !READ_ONLY.contains(&doctype.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_parses_and_the_lists_hold_valid_names() {
        for known in [
            &INSTANCES,
            &KONNECTORS,
            &PERMISSIONS,
            &ACCOUNTS,
            &DELETED_ACCOUNTS,
            &MAINTENANCES,
            &APP_LOGS,
            &FILES,
            &JOBS,
            &JOB_EVENTS,
            &JOB_LOGS,
            &TRIGGERS,
            &DESIGNS,
            &PENDING_EVENTS,
            &SETTINGS,
            &ACCOUNT_TYPES,
            &OAUTH_CLIENTS,
            &ONE_TIME_TOKENS,
        ] {
            assert!(AsRef::<str>::as_ref(&**known).starts_with("io.cozy."));
        }
        for name in INACCESSIBLE.iter().chain(&READ_ONLY) {
            name.parse::<Doctype>().expect(name);
        }
    }

    /// The lists of the specification (§8.3), one by one; our own additions come last.
    #[test]
    fn every_closed_type_is_closed() {
        let closed = "io.cozy.instances io.cozy.account_types io.cozy.konnectors.maintenance io.cozy.remote.secrets \
            io.cozy.sessions io.cozy.permissions io.cozy.intents io.cozy.oauth.clients io.cozy.oauth.access_codes \
            io.cozy.files.archives io.cozy.sharings io.cozy.shared io.cozy.accounts.soft_deleted io.cozy.certified.carbon_copy \
            io.cozy.certified.electronic_safe io.cozy.files.sizes io.cozy.triggers.state io.cozy.sharings.answer \
            io.cozy.sharings.moved io.cozy.support io.cozy.office.url io.cozy.notes.url io.cozy.apps.open \
            io.cozy.auth.confirmations io.cozy.jobs.events io.cozy.sharings.initial_sync io.cozy.notes.events \
            io.cozy.notes.telepointers io.cozy.files.thumbnails io.cozy.apps.logs com.bitwarden.profiles \
            io.cozy.designs io.cozy.files.metadata io.cozy.jobs.logs io.cozy.tickets io.cozy.triggers.occasions";
        let read_only = "io.cozy.jobs io.cozy.triggers io.cozy.apps io.cozy.konnectors io.cozy.files \
            io.cozy.files.versions io.cozy.notifications io.cozy.remote.requests io.cozy.sessions.logins \
            io.cozy.notes.steps io.cozy.notes.images com.bitwarden.contacts";
        let open = "io.cozy.accounts io.cozy.bills io.cozy.contacts io.cozy.certifiedx io.cozy.jobsx io.cozy.settings";
        for (names, rights) in [(closed, (false, false)), (read_only, (true, false)), (open, (true, true))] {
            for name in names.split_whitespace() {
                let doctype: Doctype = name.parse().expect(name);
                assert_eq!((is_readable(&doctype), is_writable(&doctype)), rights, "{name}");
            }
        }
        let listed = closed.split_whitespace().filter(|name| !name.starts_with("io.cozy.certified.")).count();
        assert_eq!(
            (listed, read_only.split_whitespace().count()),
            (INACCESSIBLE.len(), READ_ONLY.len()),
            "none is left out"
        );
    }
}
