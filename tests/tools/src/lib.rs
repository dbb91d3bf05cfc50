//! Tools that some tests need and that a machine may lack: programs, packages, and permissions of the system.
//!
//! One rule holds for all of them. If `KONNECTOR_REQUIRE_TOOLS=1` is set, as `.ci/run` does, a missing tool fails the
//! test. Otherwise the test is skipped, and says so on standard error.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// The variable that turns a missing tool into a failure.
pub const REQUIRE_VARIABLE: &str = "KONNECTOR_REQUIRE_TOOLS";

/// Returns whether a missing tool is a failure: whether [`REQUIRE_VARIABLE`] is set, and neither empty nor `0`.
#[must_use]
pub fn are_required() -> bool {
    is_set(std::env::var(REQUIRE_VARIABLE).ok().as_deref())
}

fn is_set(value: Option<&str>) -> bool {
    !matches!(value, None | Some("" | "0"))
}

/// A tool that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    name: &'static str,
    install: &'static str,
}

impl Tool {
    /// The program `git`, with the servers that belong to it.
    pub const GIT: Self =
        Self { name: "git with git-daemon and git-http-backend", install: "on Debian: apt-get install git" };
    /// The address `::1`.
    pub const IPV6: Self = Self {
        name: "IPv6 on the loopback interface",
        install: "as root: sysctl net.ipv6.conf.lo.disable_ipv6=0, or enable IPv6 for the container",
    };
    /// The packages of `tests/clients`.
    pub const NODE_PACKAGES: Self =
        Self { name: "the npm packages of tests/clients", install: "`cargo xtask test` installs them with npm" };
    /// A CardDAV server.
    pub const RADICALE: Self = Self { name: "Radicale", install: "`cargo xtask test` installs it with python3" };
    /// A program that tests an HTTP API against its description.
    pub const SCHEMATHESIS: Self =
        Self { name: "Schemathesis", install: "`cargo xtask test` installs it with python3" };
    /// An in-memory disk of a fixed size.
    pub const TMPFS: Self = Self {
        name: "the permission to mount a tmpfs",
        install: "run as root with CAP_SYS_ADMIN, or allow user namespaces and install unshare (util-linux)",
    };

    /// Returns what was found. If nothing was found and tools are not required, reports on standard error that the test
    /// is skipped.
    ///
    /// # Panics
    ///
    /// If nothing was found and tools are required.
    #[must_use = "without the tool, the test ends"]
    pub fn require<T>(self, found: Option<T>) -> Option<T> {
        match (found, are_required()) {
            (Some(found), _) => Some(found),
            (None, true) => self.fail(),
            (None, false) => {
                eprintln!("skipped: {}", self.advice());
                None
            }
        }
    }

    /// Like [`Tool::require`], for a tool whose place `cargo xtask test` passes in an environment variable.
    ///
    /// # Panics
    ///
    /// If the variable is not set and tools are required.
    #[must_use = "without the tool, the test ends"]
    pub fn require_variable(self, variable: &str) -> Option<String> {
        self.require(std::env::var(variable).ok())
    }

    #[expect(clippy::panic, reason = "by a panic, a test says that it failed")]
    fn fail(self) -> ! {
        panic!("{}; {REQUIRE_VARIABLE} is set, so this is a failure", self.advice())
    }

    fn advice(self) -> String {
        format!("{} is missing ({})", self.name, self.install)
    }
}

/// Requires [`Tool::GIT`].
#[must_use = "without the tool, the test ends"]
pub fn require_git() -> Option<()> {
    Tool::GIT.require(has_git().then_some(()))
}

fn has_git() -> bool {
    let Ok(output) = Command::new("git").arg("--exec-path").stderr(Stdio::null()).output() else { return false };
    let folder = String::from_utf8_lossy(&output.stdout);
    let folder = Path::new(folder.trim());
    output.status.success() && ["git-daemon", "git-http-backend"].iter().all(|name| folder.join(name).is_file())
}

/// Requires [`Tool::IPV6`].
#[must_use = "without the tool, the test ends"]
pub fn require_ipv6() -> Option<()> {
    Tool::IPV6.require(TcpListener::bind(("::1", 0)).ok().map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: Tool = Tool { name: "the philosopher's stone", install: "apt-get install stone" };

    #[test]
    fn the_variable_is_set_by_any_value_but_zero() {
        assert_eq!([None, Some(""), Some("0"), Some("1"), Some("yes")].map(is_set), [false, false, false, true, true]);
    }

    #[test]
    fn a_tool_that_exists_is_returned() {
        assert_eq!(MISSING.require(Some(1)), Some(1));
    }

    #[test]
    fn a_missing_tool_is_a_failure_only_where_tools_are_required() {
        let outcome = std::panic::catch_unwind(|| MISSING.require(None::<()>));
        assert_eq!(outcome.is_err(), are_required());
    }

    #[test]
    #[should_panic(
        expected = "the philosopher's stone is missing (apt-get install stone); KONNECTOR_REQUIRE_TOOLS is set"
    )]
    fn the_failure_names_the_tool_and_how_to_install_it() {
        MISSING.fail();
    }
}
