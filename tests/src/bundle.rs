//! Bundles for tests: an example's manifest, modified by the test, with its component.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::guest;

/// The folder of an example of the repository.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// Writes a bundle of an example to a folder; returns its source. `change` modifies the manifest.
pub fn write(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let text = std::fs::read_to_string(example(name).join("manifest.konnector")).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut manifest);
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
    std::fs::write(folder.join("konnector.wasm"), guest(name)).expect("written");
    if let Some(icon) = manifest["icon"].as_str() {
        std::fs::copy(example(name).join(icon), folder.join(icon)).expect("an icon");
    }
    format!("file://{}", folder.display())
}

/// The bank101 example, with the vendor at `url`.
pub fn bank101(folder: &Path, url: &str, change: impl FnOnce(&mut Value)) -> String {
    write_for_vendor(folder, "bank101", url, change)
}

/// An example that reads the demo bank, with the vendor at `url`.
pub fn write_for_vendor(folder: &Path, name: &str, url: &str, change: impl FnOnce(&mut Value)) -> String {
    write(folder, name, |manifest| {
        *manifest = serde_json::from_str(&manifest.to_string().replace("http://127.0.0.1:9091", url)).expect("JSON");
        change(manifest);
    })
}

/// A test guest with its own manifest; returns its source.
pub fn write_guest(folder: &Path, name: &str, manifest: &Value) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
    std::fs::write(folder.join("konnector.wasm"), guest(name)).expect("written");
    format!("file://{}", folder.display())
}
