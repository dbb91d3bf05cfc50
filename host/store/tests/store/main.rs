//! Tests of the behaviour that every backend of the store must have, and of behaviour specific to the disk backend.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod backup;
mod blobs;
mod child;
mod crash;
mod documents;
#[cfg(feature = "failpoints")]
mod failpoints;
mod feed;
mod format;
mod model;
mod queue;
mod schedule;
mod secondary_index;
mod support;
mod throughput;
mod unique_index;
