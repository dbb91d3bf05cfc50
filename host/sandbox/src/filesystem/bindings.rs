//! Bindings that `bindgen!` generates from `wasi:filesystem`. Streams, errors and dates are those of `wasmtime-wasi`;
//! descriptors are ours.

#![allow(
    unsafe_code,
    unused_variables,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    reason = "generated from the WIT text, which is documented"
)]

wasmtime::component::bindgen!({
    path: "wit/filesystem",
    world: "wasi:filesystem/imports",
    imports: { default: async | trappable },
    trappable_error_type: { "wasi:filesystem/types.error-code" => crate::filesystem::error::FilesystemError },
    with: {
        "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:filesystem/types.descriptor": crate::filesystem::descriptor::Descriptor,
        "wasi:filesystem/types.directory-entry-stream": crate::filesystem::directory_entry_stream::DirectoryEntryStream,
    },
});
