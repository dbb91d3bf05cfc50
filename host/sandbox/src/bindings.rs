//! Bindings that `bindgen!` generates from `wit/0.1.0`. Only `host` and `outcome` use these types, because the public
//! API has its own.

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
    path: "../../wit/0.1.0",
    // The larger of the two worlds, which also fits a component that does not import `reveal`.
    world: "konnector-with-reveal",
    imports: {
        "konnector:host/account.describe": trappable,
        "konnector:host/account.fields": trappable,
        "konnector:host/secrets.names": trappable,
        "konnector:host/secrets.placeholder": trappable,
        "konnector:host/reveal.reveal": trappable,
        "konnector:host/files.[method]open-file.size": trappable,
        "konnector:host/http.cookies": trappable,
        "konnector:host/http.set-cookie": trappable,
        "konnector:host/http.clear-cookies": trappable,
        "konnector:host/progress.report": trappable,
        "konnector:host/progress.remaining-ms": trappable,
        "konnector:host/progress.login-succeeded": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "konnector:host/files.upload": crate::host::files::OpenUpload,
        "konnector:host/files.open-file": crate::host::files::OpenFileHandle,
    },
});
