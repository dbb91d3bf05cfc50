//! Tests the gate against real servers on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where its fixture fails"
)]

mod addresses;
mod bombs;
mod budgets;
mod cookies;
mod fixture;
mod http2;
mod identity;
mod memory;
mod pooling;
mod proxies;
mod redirects;
mod responses;
mod rules;
mod secrets;
mod server;
mod streaming;
mod timeouts;
mod tls;
