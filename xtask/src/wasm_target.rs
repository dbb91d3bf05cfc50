//! The compiler's target for konnectors, and the ways to install it.

mod packages;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::command::Command;
use crate::term;
use crate::workspace::Workspace;

/// The target of konnectors.
pub const TARGET: &str = "wasm32-wasip2";
/// `packages` builds the target from a Debian mirror; for machines that can only reach package registries.
const SOURCE_VARIABLE: &str = "KONNECTOR_WASM_TARGET";

/// The compiler in use.
#[derive(Debug)]
struct Toolchain {
    sysroot: PathBuf,
}

impl Toolchain {
    fn find(workspace: &Workspace) -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = Command::new(rustc)
            .args(["--print", "sysroot"])
            .directory(workspace.root())
            .output()
            .context("there is no Rust compiler; install one with rustup")?;
        Ok(Self { sysroot: PathBuf::from(sysroot.trim()) })
    }

    fn target_folder(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(TARGET)
    }

    /// Returns the path of a program of this toolchain, not of the one that `PATH` or a folder's
    /// `rust-toolchain.toml` would select.
    fn program(&self, name: &str) -> PathBuf {
        self.sysroot.join("bin").join(name)
    }

    /// Returns whether the target's standard library is installed.
    fn has_target(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(self.target_folder().join("lib")) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    }
}

/// Source of the target.
#[derive(Debug, PartialEq, Eq)]
enum TargetSource {
    Present,
    Packages,
    Rustup,
}

impl TargetSource {
    fn choose(present: bool, choice: Option<&str>) -> Result<Self> {
        match choice {
            _ if present => Ok(Self::Present),
            None | Some("" | "rustup") => Ok(Self::Rustup),
            Some("packages") => Ok(Self::Packages),
            Some(other) => bail!("{SOURCE_VARIABLE} is '{other}'; use 'rustup', 'packages', or leave it unset"),
        }
    }
}

/// Installs the target; does nothing if it is installed.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::find(workspace)?;
    let choice = std::env::var(SOURCE_VARIABLE).ok();
    match TargetSource::choose(toolchain.has_target(), choice.as_deref())? {
        TargetSource::Present => {
            term::note(&format!("{TARGET} is already installed"));
            Ok(())
        }
        TargetSource::Packages => packages::install(&toolchain),
        TargetSource::Rustup => rustup(workspace).or_else(|error| {
            if !packages::available() {
                return Err(error.context(format!(
                    "cannot add {TARGET} to the Rust toolchain; run `rustup target add {TARGET}` where the network allows it"
                )));
            }
            term::warning(&format!("{error:#}; building {TARGET} from Debian's packages instead"));
            packages::install(&toolchain)
        }),
    }
}

fn rustup(workspace: &Workspace) -> Result<()> {
    term::timed(&format!("{TARGET} added by rustup"), || {
        Command::new("rustup").args(["target", "add", TARGET]).directory(workspace.root()).run()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_present_target_is_left_alone() {
        for choice in [None, Some("packages"), Some("nonsense")] {
            assert_eq!(TargetSource::choose(true, choice).unwrap(), TargetSource::Present);
        }
    }

    #[test]
    fn rustup_is_the_usual_way_and_packages_are_chosen_by_name() {
        assert_eq!(TargetSource::choose(false, None).unwrap(), TargetSource::Rustup);
        assert_eq!(TargetSource::choose(false, Some("packages")).unwrap(), TargetSource::Packages);
        insta::assert_snapshot!(
            TargetSource::choose(false, Some("apt")).unwrap_err(),
            @"KONNECTOR_WASM_TARGET is 'apt'; use 'rustup', 'packages', or leave it unset"
        );
    }

    #[test]
    fn a_target_without_standard_library_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Toolchain { sysroot: folder.path().to_owned() };
        let lib = toolchain.target_folder().join("lib");
        assert!(!toolchain.has_target(), "no folder");
        std::fs::create_dir_all(lib.join("self-contained")).unwrap();
        std::fs::write(lib.join("libcore-1.rlib"), "").unwrap();
        assert!(!toolchain.has_target(), "half copied");
        std::fs::write(lib.join("libstd-0a.rlib"), "").unwrap();
        assert!(toolchain.has_target());
    }
}
