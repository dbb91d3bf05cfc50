//! Sources from which a konnector is installed.

mod oci;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Error, Slug};
pub use oci::OciReference;

/// Source from which a konnector is installed (Cozy API: konnectors, sources).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `file:///path`: a directory or archive on the server.
    File(PathBuf),
    /// `http(s)://…tar.gz[#sha256]`: an archive.
    Http {
        /// Without the fragment.
        url: Url,
        /// Expected SHA-256 of the archive.
        sha256: Option<[u8; 32]>,
    },
    /// `git://`, `git+https://` or `git+ssh://…[#branch]`.
    Git {
        /// Transport to the repository.
        transport: GitTransport,
        /// With the scheme of the transport, without the fragment.
        url: Url,
        /// `None` means `main`, otherwise `master`.
        branch: Option<String>,
    },
    /// `registry://name[/channel][/version]`.
    Registry {
        /// The konnector's name in the registry.
        name: Slug,
        /// `stable`, `beta`, `dev`, …
        channel: String,
        /// A fixed version, which takes precedence over the channel.
        version: Option<String>,
    },
    /// `oci://host/repository[:tag|@sha256:digest]`.
    Oci {
        /// The registry's host, with its port if it is written.
        registry: String,
        /// The path of the repository.
        repository: String,
        /// Tag or digest of the artifact.
        reference: OciReference,
    },
}

/// Transport to a git repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitTransport {
    /// The unencrypted git protocol.
    Git,
    /// HTTPS.
    Https,
    /// SSH; also written `ssh+git`.
    Ssh,
}

impl Source {
    /// The default channel of a registry source.
    pub const DEFAULT_CHANNEL: &str = "stable";

    /// Returns the default source of a konnector, which is the stable channel of the registry.
    pub fn registry(name: Slug) -> Self {
        Self::Registry { name, channel: Self::DEFAULT_CHANNEL.to_owned(), version: None }
    }
}

impl GitTransport {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

const SCHEMES: &str = "file, http, https, git, git+https, git+ssh, ssh+git, registry, oci";

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Source { source_text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Source, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("it has no scheme; use one of {SCHEMES}, as in \"file:///srv/my-konnector\""));
    };
    match scheme {
        "file" => file(text),
        "http" | "https" => archive(text),
        "git" => git(GitTransport::Git, rest),
        "git+https" => git(GitTransport::Https, rest),
        "git+ssh" | "ssh+git" => git(GitTransport::Ssh, rest),
        "registry" => registry(rest),
        "oci" => oci::parse(rest),
        other => Err(format!("the scheme \"{other}\" is not supported; use one of {SCHEMES}")),
    }
}

fn file(text: &str) -> Result<Source, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.host_str().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "it is not file:// with an absolute path; write for example \"file:///srv/my-konnector\"".to_owned()
        );
    }
    url.to_file_path().map(Source::File).map_err(|()| "it is not a path on this system".to_owned())
}

fn archive(text: &str) -> Result<Source, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    let sha256 = match url.fragment().unwrap_or_default() {
        "" => None,
        written => {
            let mut hash = [0; 32];
            hex::decode_to_slice(written, &mut hash).map_err(|_| {
                "the part after # is not a SHA-256; write the SHA-256 of the archive as 64 hexadecimal digits"
                    .to_owned()
            })?;
            Some(hash)
        }
    };
    url.set_fragment(None);
    Ok(Source::Http { url, sha256 })
}

fn git(transport: GitTransport, rest: &str) -> Result<Source, String> {
    let mut url = Url::parse(&format!("{}://{rest}", transport.scheme())).map_err(|error| error.to_string())?;
    if url.host_str().unwrap_or_default().is_empty() || url.path().trim_matches('/').is_empty() {
        return Err(
            "the host or the repository is missing; write for example \"git+https://git.example/me/my-konnector.git\""
                .to_owned(),
        );
    }
    let branch = url.fragment().filter(|branch| !branch.is_empty()).map(str::to_owned);
    // A branch becomes an argument of the git command.
    if branch.as_ref().is_some_and(|branch| branch.starts_with('-')) {
        return Err("a branch cannot start with \"-\"".to_owned());
    }
    url.set_fragment(None);
    Ok(Source::Git { transport, url, branch })
}

/// Parses `name[/channel][/version]`; a part that starts with a digit is a version, and `latest` means no version.
fn registry(rest: &str) -> Result<Source, String> {
    let mut parts = rest.trim_end_matches('/').split('/');
    let name = parts.next().unwrap_or_default().parse::<Slug>().map_err(|error| error.to_string())?;
    let (mut channel, mut version) = (None, None);
    for part in parts {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        if part.is_empty() || !part.chars().all(allowed) {
            return Err(format!("\"{part}\" is neither a channel nor a version"));
        }
        let slot = if part.starts_with(|c: char| c.is_ascii_digit()) || part == "latest" {
            &mut version
        } else {
            &mut channel
        };
        if slot.replace(part).is_some() {
            return Err("it names two channels or two versions; write registry://name[/channel][/version]".to_owned());
        }
    }
    Ok(Source::Registry {
        name,
        channel: channel.unwrap_or(Source::DEFAULT_CHANNEL).to_owned(),
        version: version.filter(|version| *version != "latest").map(str::to_owned),
    })
}

/// Writes a string that parses to the same source.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => match Url::from_file_path(path) {
                Ok(url) => write!(f, "{url}"),
                Err(()) => write!(f, "file://{}", path.display()),
            },
            Self::Http { url, sha256: None } => write!(f, "{url}"),
            Self::Http { url, sha256: Some(hash) } => write!(f, "{url}#{}", hex::encode(hash)),
            Self::Git { transport, url, branch } => {
                let prefix = if *transport == GitTransport::Git { "" } else { "git+" };
                write!(f, "{prefix}{url}")?;
                branch.as_ref().map_or(Ok(()), |branch| write!(f, "#{branch}"))
            }
            Self::Registry { name, channel, version: None } => write!(f, "registry://{name}/{channel}"),
            Self::Registry { name, channel, version: Some(version) } => {
                write!(f, "registry://{name}/{channel}/{version}")
            }
            Self::Oci { registry, repository, reference } => write!(f, "oci://{registry}/{repository}{reference}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests;
