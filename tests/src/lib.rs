//! Shared parts of the end-to-end tests: the guest programs, handwritten components, and in-memory capabilities.

// Test support: a panic is the way to stop a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "see above")]

pub mod bundle;
pub mod client;
pub mod fakes;
pub mod fuzz;
pub mod recorder;
pub mod server;
pub mod wat_components;

use std::path::{Path, PathBuf};

/// The bytes of a guest program: an example of `tests/guests`, or a konnector of `examples/`.
///
/// # Panics
/// If it was not built.
pub fn guest(name: &str) -> Vec<u8> {
    let folder = guests_folder();
    let paths = [folder.join("examples").join(format!("{name}.wasm")), folder.join(format!("{name}.wasm"))];
    paths.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_else(|| {
        panic!("there is no guest program `{name}` in {}: run `cargo xtask guests` to build them", folder.display())
    })
}

/// `KONNECTOR_GUESTS`, otherwise the folder next to the one that contains this test.
fn guests_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("KONNECTOR_GUESTS") {
        return folder.into();
    }
    let test = std::env::current_exe().expect("the path of this test");
    // A test is <target>/debug/deps/sandbox-0123456789abcdef, the bench <target>/release/bench.
    let folders = test.ancestors().map(|folder| folder.join("wasm32-wasip2/guest"));
    folders
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| Path::new("target/wasm32-wasip2/guest").to_owned())
}

/// Resident memory of this process in bytes; zero if the system does not report it.
#[must_use]
pub fn resident_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4_096
}
