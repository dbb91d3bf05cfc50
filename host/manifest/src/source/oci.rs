//! Sources in registries of the Open Container Initiative (OCI distribution specification 1.1).

use std::fmt;

use url::Url;

use super::Source;

/// Reference to an artifact of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OciReference {
    /// The current target of this tag.
    Tag(String),
    /// The artifact with this SHA-256.
    Digest([u8; 32]),
}

/// The default tag of a source.
const DEFAULT_TAG: &str = "latest";

pub(super) fn parse(rest: &str) -> Result<Source, String> {
    let Some((registry, path)) = rest.split_once('/') else {
        return Err(
            "the repository is missing; write for example \"oci://registry.example/me/my-konnector:1.0.0\"".to_owned()
        );
    };
    let (repository, reference) = match path.split_once('@') {
        Some((repository, digest)) => (repository, OciReference::Digest(read_digest(digest)?)),
        None => match path.split_once(':') {
            Some((repository, tag)) => (repository, OciReference::Tag(read_tag(tag)?)),
            None => (path, OciReference::Tag(DEFAULT_TAG.to_owned())),
        },
    };
    if !repository.split('/').all(is_repository_part) {
        return Err(format!(
            "\"{repository}\" is not a valid name of a repository; its parts use a-z, 0-9 and, between them, \".\", \
             \"_\" and \"-\""
        ));
    }
    Ok(Source::Oci { registry: read_registry(registry)?, repository: repository.to_owned(), reference })
}

fn read_registry(written: &str) -> Result<String, String> {
    let url = Url::parse(&format!("https://{written}")).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() || url.path() != "/" || url.query().is_some() {
        return Err(format!("\"{written}\" is not a host with an optional port"));
    }
    let host = url.host_str().unwrap_or_default();
    Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn read_digest(written: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    let decoded = written.strip_prefix("sha256:").map(|digits| hex::decode_to_slice(digits, &mut hash));
    if matches!(decoded, Some(Ok(()))) {
        return Ok(hash);
    }
    Err("the part after @ is not a digest; write sha256: and 64 hexadecimal digits".to_owned())
}

fn read_tag(written: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts_well = written.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if starts_well && written.len() <= 128 && written.chars().all(allowed) {
        return Ok(written.to_owned());
    }
    Err(format!("\"{written}\" is not a valid tag; use letters, digits, \"_\", \".\" and \"-\""))
}

fn is_repository_part(part: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = |c: char| edge(c) || matches!(c, '.' | '_' | '-');
    part.starts_with(edge) && part.ends_with(edge) && part.chars().all(inside) && !part.contains("..")
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(hash) => write!(f, "@sha256:{}", hex::encode(hash)),
        }
    }
}
