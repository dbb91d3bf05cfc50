//! The routes as clients meet them: a real platform over a store in memory, and requests straight into the router.

mod access;
mod admin;
mod data;
mod files;
mod jobs;
mod konnectors;
mod server;
mod support;
mod triggers;
