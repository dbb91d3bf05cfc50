//! The gate against real servers on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where its fixture fails"
)]

mod addresses;
mod answers;
mod budgets;
mod cookies;
mod fixture;
mod forward;
mod pooling;
mod redirects;
mod rules;
mod secrets;
mod server;
mod timeouts;
mod tls;
