//! Tests of the routes: a real platform with a store in memory, and requests directly to the router.

#![expect(clippy::disallowed_methods, reason = "tests of the server make routes of their own")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, helpers of tests too"
)]

mod access;
mod accounts;
mod admin;
mod archives;
mod auth;
mod bodies;
mod bulk;
mod changes;
mod damaged_blobs;
mod data;
mod deletion;
mod file_changes;
mod files;
mod find;
mod git;
mod jobs;
mod konnector_access;
mod konnectors;
mod maintenance;
mod malformed;
mod manifests;
mod oci;
mod openapi;
mod overload;
mod permissions;
mod provider;
mod rates;
mod realtime;
mod references;
mod registries;
mod registry;
mod runs;
mod server;
mod settings;
mod support;
mod triggers;
mod uploads;
mod versions;
mod webhooks;
