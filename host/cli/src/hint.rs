//! Commands that messages suggest. They select the same server and instance as the command that prints them, so that they
//! work as printed.

use std::ffi::OsStr;
use std::sync::OnceLock;

use crate::client::Connection;

/// Flags that suggested commands need.
static FLAGS: OnceLock<Flags> = OnceLock::new();

/// Commands about the whole server, for which `--domain` has no meaning.
const SERVER_COMMANDS: [&str; 3] = ["instances ", "konnectors maintenance ", "fsck"];

/// Flags with a space after each; empty if none are needed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    server: String,
    instance: String,
}

/// Remembers the flags of this command; called once, before the command runs.
pub fn init(connection: &Connection) {
    let flags = flags(connection, |variable, value| std::env::var_os(variable).is_some_and(|found| found == value));
    // A second call would pass the same flags.
    drop(FLAGS.set(flags));
}

/// Returns a command of this program that the user can paste: `triggers ls` becomes
/// `konnector --domain bob.example triggers ls` if `--domain` was given.
pub fn command(words: &str) -> String {
    FLAGS.get().map_or_else(|| format!("konnector {words}"), |flags| flags.command(words))
}

impl Flags {
    fn command(&self, words: &str) -> String {
        let is_about_server = SERVER_COMMANDS.iter().any(|command| words.starts_with(command));
        let instance = if is_about_server { "" } else { &self.instance };
        format!("konnector {}{instance}{words}", self.server)
    }
}

/// Returns the flags of a connection that do not come from the environment, which suggested commands share.
fn flags(connection: &Connection, is_in_environment: impl Fn(&str, &OsStr) -> bool) -> Flags {
    let flag = |flag: &str, variable: &str, value: Option<&OsStr>| {
        let value = value.filter(|value| !is_in_environment(variable, value));
        value.map(|value| format!("{flag} {} ", quote(&value.to_string_lossy()))).unwrap_or_default()
    };
    let data_dir = connection.data_dir.as_ref().map(|path| path.as_os_str());
    let admin_url = connection.admin_url.as_ref().map(OsStr::new);
    let domain = connection.domain.as_ref().map(OsStr::new);
    let data_dir = flag("--data-dir", "KONNECTOR_DATA_DIR", data_dir);
    let admin_url = flag("--admin-url", "KONNECTOR_ADMIN_URL", admin_url);
    Flags { server: format!("{data_dir}{admin_url}"), instance: flag("--domain", "KONNECTOR_DOMAIN", domain) }
}

/// Quotes an argument for a POSIX shell if necessary.
fn quote(argument: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@%+,=".contains(character);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_command_selects_the_same_server_and_instance() {
        let connection = Connection {
            data_dir: Some("/srv/my data".into()),
            admin_url: None,
            domain: Some("bob.example:8080".to_owned()),
            json: false,
        };
        let given = flags(&connection, |_, _| false);
        assert_eq!(
            given.command("jobs logs -f 1"),
            "konnector --data-dir '/srv/my data' --domain bob.example:8080 jobs logs -f 1"
        );
        assert_eq!(given.command("instances ls"), "konnector --data-dir '/srv/my data' instances ls");
        // Suggested commands read the same environment.
        let in_environment = flags(&connection, |variable, _| variable == "KONNECTOR_DATA_DIR");
        assert_eq!(in_environment.command("jobs ls"), "konnector --domain bob.example:8080 jobs ls");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn without_flags_a_suggested_command_has_none() {
        assert_eq!(command("triggers ls"), "konnector triggers ls");
    }
}
