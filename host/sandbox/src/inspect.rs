//! Inspection of a component without compiling it.

use wasmparser::{ComponentExternName, Encoding, Parser, Payload};

use crate::error::Error;

/// Maximum size of a component in bytes.
pub const MAX_COMPONENT_SIZE: usize = 32 << 20;
/// Versions of `konnector:host` that this host runs.
const SUPPORTED_VERSIONS: &str = "0.1.x";

/// Linked interfaces of WASI 0.2. A component can import only these and [`HOST_INTERFACES`].
const WASI_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Interfaces of `konnector:host`.
const HOST_INTERFACES: &[&str] = &[
    "konnector:host/account",
    "konnector:host/documents",
    "konnector:host/files",
    "konnector:host/http",
    "konnector:host/log",
    "konnector:host/progress",
    REVEAL_INTERFACE,
    // The types that `run` uses are a separate instance.
    "konnector:host/run",
    "konnector:host/secrets",
    "konnector:host/types",
];
const RUN_INTERFACE: &str = "konnector:host/run";
const COMMAND_INTERFACE: &str = "wasi:cli/run";
const REVEAL_INTERFACE: &str = "konnector:host/reveal";

/// Kind of a konnector component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentKind {
    /// A component of the world `konnector`.
    Typed {
        /// Version of `konnector:host` that the component was built for.
        version: String,
    },
    /// A command of WASI 0.2 (`wasi:cli/run`) in any language, with the environment and the standard output protocol of
    /// Cozy's konnectors.
    Command,
}

impl std::fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Typed { version } => write!(f, "contract {version}"),
            Self::Command => f.write_str("command component"),
        }
    }
}

/// Kind, imports and size of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentInfo {
    /// How the component is run.
    pub kind: ComponentKind,
    /// Full names of the imported interfaces.
    pub imports: Vec<String>,
    /// Whether the component imports `reveal`, which lets it read the account's passwords.
    pub reads_secrets: bool,
    /// Size of the component in bytes.
    pub size: usize,
}

/// Reads names and versions of a component's imports and exports.
///
/// # Errors
///
/// If this host cannot run the component; returns the variants of [`Error`] from `TooLarge` to `ForbiddenImport`.
pub(crate) fn inspect(bytes: &[u8]) -> Result<ComponentInfo, Error> {
    if bytes.len() > MAX_COMPONENT_SIZE {
        return Err(Error::TooLarge { size: bytes.len(), limit: MAX_COMPONENT_SIZE });
    }
    let TopLevelNames { imports, exports } = TopLevelNames::parse(bytes)?;
    let kind = component_kind(exports)?;
    imports.iter().try_for_each(|name| check_import(name))?;
    let reads_secrets = imports.iter().any(|name| interface_name(name) == REVEAL_INTERFACE);
    Ok(ComponentInfo { kind, imports, reads_secrets, size: bytes.len() })
}

/// Derives the kind of a component from its exports; prefers the typed one if both apply.
fn component_kind(exports: Vec<String>) -> Result<ComponentKind, Error> {
    let version_of = |interface: &str| {
        exports
            .iter()
            .find_map(|name| name.split_once('@').filter(|(name, _)| *name == interface))
            .map(|(_, version)| version.to_owned())
    };
    match (version_of(RUN_INTERFACE), version_of(COMMAND_INTERFACE)) {
        (Some(version), _) if is_supported(&version) => Ok(ComponentKind::Typed { version }),
        (Some(found), _) => Err(Error::UnsupportedVersion { found, supported: SUPPORTED_VERSIONS }),
        (None, Some(version)) if version.starts_with("0.2.") => Ok(ComponentKind::Command),
        (None, Some(found)) => Err(Error::UnsupportedWasiVersion { found }),
        (None, None) => Err(Error::MissingRunExport { exports }),
    }
}

/// Names of imports and exports at the outermost level of a component.
#[derive(Debug, Default)]
struct TopLevelNames {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl TopLevelNames {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if !bytes.starts_with(b"\0asm") {
            return Err(Error::NotWasm { beginning: describe_first_bytes(bytes) });
        }
        let malformed = |error: wasmparser::BinaryReaderError| Error::Malformed(error.to_string());
        let mut surface = Self::default();
        // Nested modules and components have imports and exports of their own.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Error::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        surface.imports.push(full_name(&import.map_err(malformed)?.name));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        surface.exports.push(full_name(&export.map_err(malformed)?.name));
                    }
                }
                _ => {}
            }
        }
        Ok(surface)
    }
}

/// Returns a name with its whole version, of which the binary format may keep the last numbers apart.
fn full_name(name: &ComponentExternName<'_>) -> String {
    match name.version_suffix {
        // With `implements`, the suffix belongs to the interface that is named there.
        Some(suffix) if name.implements.is_none() && name.name.contains('@') => format!("{}{suffix}", name.name),
        _ => name.name.to_owned(),
    }
}

fn check_import(name: &str) -> Result<(), Error> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if HOST_INTERFACES.contains(&interface) && is_supported(version) {
        return Ok(());
    }
    if WASI_INTERFACES.contains(&interface) && version.starts_with("0.2.") {
        return Ok(());
    }
    let advice = match interface.split_once('/').map_or(interface, |(package, _)| package) {
        "wasi:sockets" => {
            "konnectors cannot open sockets; use the SDK's HTTP client (`konnector:host/http`) or one based on \
             `wasi:http`, and remove crates that open connections themselves"
        }
        "wasi:http" => "a konnector can send requests (`wasi:http/outgoing-handler`), but cannot receive any",
        "konnector:host" => "this version of the contract does not define it; build with a matching SDK",
        package if package.starts_with("wasi:") => {
            "WASI 0.2 is available only for the command line, clocks, files, outgoing HTTP requests, random numbers \
             and streams; build for `wasm32-wasip2`"
        }
        _ => "a konnector may import only `konnector:host` and WASI 0.2; compose other components into it (`wac plug`)",
    };
    Err(Error::ForbiddenImport { interface: name.to_owned(), advice })
}

fn interface_name(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn is_supported(version: &str) -> bool {
    version
        .strip_prefix("0.1.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn describe_first_bytes(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing (it is empty)".to_owned(),
        some => format!("\"{}\"", some.get(..16).unwrap_or(some).escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_two_parts_is_checked_as_a_whole() {
        let name = |name, implements, version_suffix| {
            full_name(&ComponentExternName { name, implements, version_suffix, external_id: None })
        };
        assert_eq!(name("wasi:io/poll@0.2", None, Some(".6")), "wasi:io/poll@0.2.6");
        assert_eq!(name("wasi:io/poll@0.2.6", None, None), "wasi:io/poll@0.2.6");
        assert_eq!(name("poll", None, Some(".6")), "poll", "not the name of an interface");
        assert_eq!(name("poll@0.2", Some("wasi:io/poll@0.2"), Some(".6")), "poll@0.2");
    }
}
