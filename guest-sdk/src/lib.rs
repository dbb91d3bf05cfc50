//! What a konnector's author writes against.

#![allow(clippy::absolute_paths, reason = "stub")]

/// The contract with the host, generated from `wit/`.
#[expect(missing_docs, reason = "generated from the WIT text, which is documented")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "konnector",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "konnector_sdk::bindings",
        generate_all,
    });
}
