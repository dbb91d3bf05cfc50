//! Builds the target from a Debian mirror: the standard library is compiled from `rust-src` of the compiler's exact
//! version, and `wasi-libc` contains the C library and the start files. Needs no root: packages are downloaded and
//! unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{TARGET, Toolchain};
use crate::command::Command;
use crate::term;

/// The suites that receive a new compiler first.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];
/// Debian's key, under its old and its new name.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];
/// apt's configuration of mirrors.
const SOURCES: [&str; 2] = ["/etc/apt/sources.list", "/etc/apt/sources.list.d"];

/// Returns whether this machine has the required tools.
pub fn available() -> bool {
    Command::new("apt-get").arg("--version").succeeds() && Command::new("dpkg").arg("--version").succeeds()
}

/// Builds the target and adds it to the toolchain atomically.
pub fn install(toolchain: &Toolchain) -> Result<()> {
    if !available() {
        bail!(
            "cannot build {TARGET} from Debian's packages, because apt-get or dpkg is missing; unset \
             KONNECTOR_WASM_TARGET, or run `rustup target add {TARGET}`"
        );
    }
    term::heading(&format!("Building {TARGET} from Debian's packages (about a minute, once)"));
    let work = tempfile::tempdir().context("cannot create a temporary folder")?;
    let version = compiler_version(toolchain)?;
    let index = PackageIndex::fetch(work.path())?;
    let tree = work.path().join("tree");
    let libc = index.newest("wasi-libc", |_| true)?;
    index.unpack(&libc, &tree)?;
    let mut source = toolchain.sysroot.join("lib/rustlib/src/rust/library");
    // A link is a leftover of an earlier attempt, not the component `rust-src`.
    let has_source = source.join("std/Cargo.toml").is_file() && !source.is_symlink();
    if !has_source {
        let package = index.newest("rust-src", |candidate| candidate.starts_with(&format!("{version}+")))?;
        index.unpack(&package, &tree)?;
        source = tree.join(format!("usr/src/rustc-{version}/library"));
    }
    let link = (!has_source).then(|| SourceLink::create(toolchain, &source)).transpose()?;
    let libraries = term::timed("standard library compiled", || compile(toolchain, work.path()))?;
    drop(link);
    install_libraries(toolchain, &libraries, &tree.join("usr/lib").join(TARGET))?;
    if !toolchain.has_target() {
        bail!("{TARGET} was built but contains no standard library; please report this with the output above");
    }
    term::note(&format!("{TARGET} is in {}", toolchain.target_folder().display()));
    Ok(())
}

fn compiler_version(toolchain: &Toolchain) -> Result<String> {
    let text = Command::new(toolchain.program("rustc")).arg("--version").output()?;
    text.split_whitespace()
        .nth(1)
        .map(str::to_owned)
        .with_context(|| format!("unexpected output of rustc --version: '{}'", text.trim()))
}

/// A package with its version.
struct Package {
    name: &'static str,
    version: String,
}

/// Our own package index, so that the machine's sources remain unchanged.
struct PackageIndex {
    folder: PathBuf,
}

impl PackageIndex {
    fn fetch(folder: &Path) -> Result<Self> {
        let mirror = mirror().context("no Debian package source is configured in /etc/apt; add one, or use rustup")?;
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).is_file());
        let keyring = keyring.context("Debian's key is missing; install the package debian-archive-keyring")?;
        for name in ["etc", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let entries: String =
            SUITES.iter().map(|suite| format!("deb [signed-by={keyring}] {mirror} {suite} main\n")).collect();
        fs::write(folder.join("etc/sources.list"), entries)?;
        let index = Self { folder: folder.to_owned() };
        term::timed("package index fetched", || index.apt("apt-get").args(["update", "-qq"]).output())?;
        Ok(index)
    }

    fn apt(&self, program: &str) -> Command {
        let option = |name: &str, path: &str| format!("{name}={}", self.folder.join(path).display());
        Command::new(program)
            .args(["-o", &option("Dir::Etc::sourcelist", "etc/sources.list"), "-o", "Dir::Etc::sourceparts=/dev/null"])
            .args(["-o", &option("Dir::State::lists", "lists"), "-o", &option("Dir::Cache", "cache")])
            .args(["-o", "APT::Sandbox::User=root"])
            .directory(&self.folder)
    }

    fn newest(&self, name: &'static str, accepts: impl Fn(&str) -> bool) -> Result<Package> {
        let listing = self.apt("apt-cache").args(["madison", name]).output()?;
        let mut newest: Option<&str> = None;
        for version in versions(&listing).filter(|version| accepts(version)) {
            let newer = newest
                .is_none_or(|best| Command::new("dpkg").args(["--compare-versions", version, "gt", best]).succeeds());
            if newer {
                newest = Some(version);
            }
        }
        let version = newest.with_context(|| {
            format!(
                "Debian has no suitable version of the package {name} (found: {})",
                versions(&listing).collect::<Vec<_>>().join(", ")
            )
        })?;
        Ok(Package { name, version: version.to_owned() })
    }

    fn unpack(&self, package: &Package, tree: &Path) -> Result<()> {
        let Package { name, version } = package;
        term::timed(&format!("{name} {version} unpacked"), || {
            self.apt("apt-get").args(["download", "-qq", &format!("{name}={version}")]).output()?;
            let prefix = format!("{name}_");
            let archive = fs::read_dir(&self.folder)?
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                .with_context(|| format!("apt-get downloaded no file {prefix}*"))?;
            Command::new("dpkg").arg("-x").arg(archive.path()).arg(tree).run()
        })
    }
}

/// Parses the versions in the output of `apt-cache madison`: `name | version | where`.
fn versions(madison: &str) -> impl Iterator<Item = &str> {
    madison.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim)
}

/// Returns the first Debian mirror in apt's configuration.
fn mirror() -> Option<String> {
    let mut files = Vec::new();
    for path in SOURCES.map(Path::new) {
        match fs::read_dir(path) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) => files.push(path.to_owned()),
        }
    }
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
}

/// Parses both formats, `deb … URI suite component` and `URIs: URI`; ignores comments.
fn mirror_in(sources: &str) -> Option<String> {
    let words = sources.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    words
        .map(|word| word.trim_end_matches('/'))
        .find(|word| (word.starts_with("http://") || word.starts_with("https://")) && word.ends_with("/debian"))
        .map(str::to_owned)
}

/// `-Zbuild-std` looks for the source in the toolchain; the link exists only during the compilation.
struct SourceLink(PathBuf);

impl SourceLink {
    fn create(toolchain: &Toolchain, source: &Path) -> Result<Self> {
        let folder = toolchain.sysroot.join("lib/rustlib/src/rust");
        fs::create_dir_all(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
        let link = folder.join("library");
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(source, &link).with_context(|| format!("cannot write {}", link.display()))?;
        Ok(Self(link))
    }
}

impl Drop for SourceLink {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            term::warning(&format!("cannot remove the link {}: {error}", self.0.display()));
        }
    }
}

/// Compiles the standard library; returns the folder of the compiled crates.
fn compile(toolchain: &Toolchain, work: &Path) -> Result<PathBuf> {
    let package = work.join("crate");
    fs::create_dir_all(package.join("src"))?;
    fs::write(package.join("src/lib.rs"), "")?;
    fs::write(
        package.join("Cargo.toml"),
        format!("[package]\nname = \"sysroot-{TARGET}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n"),
    )?;
    let output = work.join("out");
    Command::new(toolchain.program("cargo"))
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort,proc_macro,test"])
        .directory(&package)
        // `-Z` on a stable compiler; the standard library is compiled this way for every release.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", toolchain.program("rustc"))
        .env("CARGO_TARGET_DIR", &output)
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .without_env("CARGO_BUILD_TARGET")
        .run()?;
    Ok(output.join(TARGET).join("release/deps"))
}

/// Fills a folder next to the target's final folder, then renames it, so that no partial target is ever visible.
fn install_libraries(toolchain: &Toolchain, libraries: &Path, libc: &Path) -> Result<()> {
    let folder = toolchain.target_folder();
    let staging = folder.with_extension("unfinished");
    let lib = staging.join("lib");
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    fs::create_dir_all(lib.join("self-contained")).with_context(|| format!("cannot write to {}", staging.display()))?;
    for name in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
        fs::copy(libc.join(name), lib.join("self-contained").join(name))
            .with_context(|| format!("the package wasi-libc has no {name}"))?;
    }
    for entry in fs::read_dir(libraries)?.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".rlib") && !text.starts_with("libsysroot_") {
            fs::copy(entry.path(), lib.join(&name))?;
        }
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&staging, &folder).with_context(|| format!("cannot write {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms_of_a_source() {
        let modern = "Types: deb\n# http://old.example/archive/debian/2025\nURIs: http://mirror.example/debian/\nSuites: trixie\n";
        let classic = "deb [signed-by=/k.gpg] https://mirror.example/debian trixie main\n";
        assert_eq!(mirror_in(modern).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in(classic).as_deref(), Some("https://mirror.example/debian"));
    }

    #[test]
    fn other_distributions_and_comments_are_no_mirror() {
        for text in [
            "# deb http://mirror.example/debian trixie main",
            "URIs: http://mirror.example/debian-security\n",
            "deb http://mirror.example/ubuntu noble main\n",
        ] {
            assert_eq!(mirror_in(text), None, "{text}");
        }
    }

    #[test]
    fn versions_are_read_from_the_listing() {
        let listing =
            " rust-src | 1.95.0+dfsg1-1 | http://m/debian sid/main amd64 Packages\n rust-src | 1.94.1+dfsg1-2 | …\n";
        assert_eq!(versions(listing).collect::<Vec<_>>(), ["1.95.0+dfsg1-1", "1.94.1+dfsg1-2"]);
    }
}
