//! `konnector build`: compiles a konnector and copies the component to the path in its manifest.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use konnector_sandbox::Sandbox;
use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::draft;
use crate::error::{Error, Result, file, io};
use crate::output::{Output, bytes, done};

/// Compilation target of konnectors.
const TARGET: &str = "wasm32-wasip2";

/// Arguments of `konnector build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the konnector, with its Cargo.toml.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Compiles the konnector, checks it and copies the component.
pub fn run(output: Output, Arguments { folder }: &Arguments) -> Result<()> {
    let bundle = Bundle::read(folder)?;
    if !folder.join("Cargo.toml").is_file() {
        return Err(Error::failed(
            format!("{} contains no Cargo.toml", folder.display()),
            format!("build the component with the tools of its language, and save it as {}", bundle.manifest.component),
        ));
    }
    let artifact = compile(folder)?;
    let component = std::fs::read(&artifact).map_err(file("read", &artifact))?;
    let info = Sandbox::inspect(&component)?;
    let target = folder.join(&bundle.manifest.component);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(file("create", parent))?;
    }
    draft::write(&target, &component)?;
    output.show(&json!({ "component": target, "size": info.size, "imports": info.imports }), || {
        done(&format!("{} ({}), {}", target.display(), bytes(info.size as u64), info.kind));
    });
    Ok(())
}

/// Compiles the crate with cargo; returns the path of the component.
fn compile(folder: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let child = Command::new(cargo)
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::failed(format!("cannot start cargo: {error}"), "install Rust with rustup"))?;
    let output = child.wait_with_output().map_err(io("compiling"))?;
    if !output.status.success() {
        return Err(Error::failed(
            "the konnector failed to compile",
            format!(
                "see cargo's messages above; if the target is missing: rustup target add {TARGET}; if konnector-sdk is not found, set its path in Cargo.toml to the folder guest-sdk of konnector's sources: konnector-sdk = {{ path = \"…/guest-sdk\" }}"
            ),
        ));
    }
    artifact(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| Error::failed("cargo built no component", "set in Cargo.toml: [lib] crate-type = [\"cdylib\"]"))
}

/// Returns the last WebAssembly file in cargo's messages, because dependencies come before their dependents.
fn artifact(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let files = messages.filter_map(|message| message.get("filenames")?.as_array().cloned()).flatten();
    files
        .filter_map(|name| Some(PathBuf::from(name.as_str()?)))
        .rfind(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_the_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libserde.rlib\"]}\nnoise\n\
                        {\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/wasm32-wasip2/release/shop.wasm\"]}\n{\"reason\":\"build-finished\"}";
        assert_eq!(artifact(messages), Some(PathBuf::from("/t/wasm32-wasip2/release/shop.wasm")));
        assert_eq!(artifact("{}"), None);
    }
}
