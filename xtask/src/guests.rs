//! The programs that run inside the sandbox: example konnectors, as installable bundles, and the guests of the tests.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::compile;
use crate::term;
use crate::wasm_target::{self, TARGET};
use crate::workspace::Workspace;

/// The example konnectors, by the name of their package and folder.
const EXAMPLES: [&str; 3] = ["bank101", "carddav", "plain101"];
/// Cargo profile of guests: small and without unwinding, as an author would publish them.
const PROFILE: &str = "guest";

/// Which guests to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestSelection {
    /// The example konnectors and the guests of the tests.
    All,
    /// One example konnector.
    Example(&'static str),
}

/// Builds guests and puts each example's bundle into `bundles/<name>`; returns that folder.
pub fn build(workspace: &Workspace, selection: GuestSelection) -> Result<PathBuf> {
    wasm_target::ensure(workspace)?;
    let examples: &[&str] = match &selection {
        GuestSelection::All => &EXAMPLES,
        GuestSelection::Example(name) => std::slice::from_ref(name),
    };
    term::note(&format!("compiling for {TARGET}: {}", examples.join(", ")));
    term::timed("konnectors compiled", || compile_examples(workspace, examples))?;
    for name in examples {
        assemble(workspace, name).with_context(|| format!("cannot assemble the bundle of {name}"))?;
    }
    if selection == GuestSelection::All {
        term::note(&format!("compiling for {TARGET}: the guests of the tests"));
        term::timed("guests of the tests compiled", || {
            let build = workspace.cargo().args(["build", "--profile", PROFILE, "--target", TARGET]);
            compile::run(build.args(["-p", "test-guests", "-p", "test-commands", "--examples"]))
        })?;
    }
    Ok(workspace.bundles())
}

fn compile_examples(workspace: &Workspace, examples: &[&str]) -> Result<()> {
    let packages = examples.iter().flat_map(|name| ["-p", name]);
    compile::run(workspace.cargo().args(["build", "--profile", PROFILE, "--target", TARGET]).args(packages))
}

/// Copies manifest, component and icon to the folder that an installation reads.
fn assemble(workspace: &Workspace, name: &str) -> Result<()> {
    let source = workspace.root().join("examples").join(name);
    let bundle = workspace.bundles().join(name);
    let text = fs::read(source.join("manifest.konnector")).context("cannot read manifest.konnector")?;
    let manifest: Value = serde_json::from_slice(&text).context("manifest.konnector is not valid JSON")?;
    let field = |key: &str| manifest.get(key).and_then(Value::as_str);
    if bundle.exists() {
        fs::remove_dir_all(&bundle)?;
    }
    fs::create_dir_all(&bundle)?;
    fs::write(bundle.join("manifest.konnector"), &text)?;
    let component = workspace.target().join(TARGET).join(PROFILE).join(format!("{}.wasm", name.replace('-', "_")));
    copy_into_bundle(&component, &bundle, field("component").unwrap_or("konnector.wasm"))?;
    if let Some(icon) = field("icon") {
        copy_into_bundle(&source.join(icon), &bundle, icon)?;
    }
    Ok(())
}

fn copy_into_bundle(from: &Path, bundle: &Path, name: &str) -> Result<()> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("the manifest names '{name}', which is outside the bundle");
    }
    let to = bundle.join(name);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display())).map(drop)
}
