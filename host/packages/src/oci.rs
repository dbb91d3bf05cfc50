//! Bundles in registries of the Open Container Initiative (OCI distribution specification 1.1): an artifact whose
//! single layer is a tar archive, or whose layers are the files of the bundle, named as `oras push` names them.
//! If a registry requires a token, an anonymous one is requested.

use std::collections::HashMap;

use bytes::Bytes;
use konnector_egress::Response;
use konnector_manifest::OciReference;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::archive::{MAX_BUNDLE_SIZE, MAX_FILE_SIZE, check_size};
use super::bundle::{Bundle, MANIFEST_FILE};
use super::download::{DOWNLOAD_TIMEOUT, MAX_ARCHIVE_SIZE, header, into_bytes};
use super::fetch::FetchedBundle;
use crate::Konnectors;
use crate::{Error, Result};

/// Media types of an artifact's manifest: the standard one, and the one that older tools use.
const MANIFEST_MEDIA_TYPES: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// Annotation with the name of a file.
const TITLE_ANNOTATION: &str = "org.opencontainers.image.title";
/// Maximum number of layers; a bundle has three files.
const MAX_LAYERS: usize = 16;
/// Maximum size of an artifact's manifest in bytes, because a registry need not accept larger ones (distribution
/// specification, pushing manifests).
const MAX_MANIFEST_SIZE: u64 = 4 << 20;
/// Maximum size in bytes of a token response, because a token must fit into a header; and of all responses before a
/// layer.
const MAX_TOKEN_SIZE: u64 = 16 << 10;

#[derive(Debug, Deserialize)]
struct OciManifest {
    layers: Vec<Layer>,
}

impl OciManifest {
    /// Parses the manifest of an artifact, which must match the digest.
    fn parse(manifest: &[u8], digest: Option<&str>) -> Result<Self, String> {
        if let Some(digest) = digest {
            check_digest(manifest, digest)?;
        }
        let artifact: Self =
            serde_json::from_slice(manifest).map_err(|error| format!("its manifest is invalid: {error}"))?;
        match artifact.layers.len() {
            0..=MAX_LAYERS => Ok(artifact),
            many => Err(format!("it has {many} layers; a bundle consists of one archive or a few files")),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct OciToken {
    #[serde(alias = "access_token")]
    token: String,
}

/// A repository, and the token for it.
struct OciRepository {
    base: Url,
    token: Option<String>,
}

impl Konnectors {
    /// Fetches the bundle of an artifact.
    pub(super) async fn fetch_artifact(
        &self,
        registry: &str,
        repository: &str,
        reference: &OciReference,
    ) -> Result<FetchedBundle> {
        let unreachable = |reason: String| {
            Error::Unreachable(format!(
                "the artifact oci://{registry}/{repository}{reference} cannot be fetched: {reason}"
            ))
        };
        let base = repository_url(registry, repository).map_err(unreachable)?;
        let mut repository = OciRepository { base, token: None };
        let (name, digest) = match reference {
            OciReference::Tag(tag) => (tag.clone(), None),
            OciReference::Digest(hash) => (format!("sha256:{}", hex::encode(hash)), Some(hex::encode(hash))),
        };
        let found = self
            .get_oci(&mut repository, &format!("manifests/{name}"), MAX_MANIFEST_SIZE)
            .await
            .map_err(unreachable)?;
        let described = self.run_install_task(move || Ok(OciManifest::parse(&found, digest.as_deref()))).await?;
        let mut files = HashMap::new();
        let mut left = MAX_BUNDLE_SIZE;
        for layer in described.map_err(unreachable)?.layers {
            let digest = layer.digest.strip_prefix("sha256:").ok_or_else(|| {
                unreachable(format!("a layer has the digest {}; only SHA-256 digests are supported", layer.digest))
            })?;
            let title = layer
                .annotations
                .get(TITLE_ANNOTATION)
                .filter(|title| !is_archive(&layer.media_type) && !is_archive(title));
            let limit = if title.is_some() { MAX_FILE_SIZE.min(left) } else { MAX_ARCHIVE_SIZE };
            if layer.size > limit {
                return Err(Error::TooLarge(format!(
                    "a layer is {} bytes long; the limit is {limit} bytes",
                    layer.size
                )));
            }
            let path = format!("blobs/{}", layer.digest);
            let content =
                self.get_oci(&mut repository, &path, layer.size + MAX_TOKEN_SIZE).await.map_err(unreachable)?;
            let digest = digest.to_owned();
            let checked = move || Ok(check_digest(&content, &digest).map(|()| content));
            let content = self.run_install_task(checked).await?.map_err(unreachable)?;
            let Some(title) = title else {
                return self.run_install_task(move || Bundle::from_archive(&content)).await.map(FetchedBundle::from);
            };
            check_size(title, content.len() as u64, limit)?;
            left -= content.len() as u64;
            files.insert(title.trim_start_matches("./").to_owned(), content.to_vec());
        }
        let manifest = files
            .remove(MANIFEST_FILE)
            .ok_or_else(|| unreachable(format!("it has neither a layer {MANIFEST_FILE} nor an archive")))?;
        self.run_install_task(move || Bundle::from_files(&manifest, |name| Ok(files.remove(name))))
            .await
            .map(FetchedBundle::from)
    }

    /// Reads a path of a repository, with a token if the registry requires one.
    async fn get_oci(&self, repository: &mut OciRepository, path: &str, max_size: u64) -> Result<Bytes, String> {
        let url = repository.base.join(path).map_err(|error| error.to_string())?;
        for last in [false, true] {
            let bearer = repository.token.as_ref().map(|token| format!("Bearer {token}"));
            let headers: Vec<(&str, &str)> = [("accept", MANIFEST_MEDIA_TYPES)]
                .into_iter()
                .chain(bearer.as_deref().map(|bearer| ("authorization", bearer)))
                .collect();
            let response =
                self.fetch_url(&url, &headers, max_size, DOWNLOAD_TIMEOUT).await.map_err(|error| error.to_string())?;
            match response.status {
                200 => return Ok(into_bytes(response.body)),
                401 if !last => repository.token = Some(self.request_oci_token(&response).await?),
                401 | 403 => return Err("the registry requires a login, or does not have this artifact".to_owned()),
                404 => return Err("the registry does not have this artifact".to_owned()),
                status => return Err(format!("the registry responded with status {status}")),
            }
        }
        Err("the registry rejected the token that it issued".to_owned())
    }

    /// Requests an anonymous token from the address in a 401 response (distribution specification, token
    /// authentication).
    async fn request_oci_token(&self, unauthorized: &Response) -> Result<String, String> {
        let challenge = header(unauthorized, "www-authenticate").unwrap_or_default();
        let url = token_url(challenge).ok_or("the registry requires an unsupported kind of login")?;
        let response =
            self.fetch_url(&url, &[], MAX_TOKEN_SIZE, DOWNLOAD_TIMEOUT).await.map_err(|error| error.to_string())?;
        let token: OciToken = serde_json::from_slice(&into_bytes(response.body))
            .map_err(|_| "the registry does not issue anonymous tokens".to_owned())?;
        Ok(token.token)
    }
}

/// Returns the URL of a repository. A local registry is contacted without TLS, as all tools do.
fn repository_url(registry: &str, repository: &str) -> Result<Url, String> {
    let url = Url::parse(&format!("https://{registry}/v2/{repository}/")).map_err(|error| error.to_string())?;
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match local {
        true => Url::parse(&format!("http://{registry}/v2/{repository}/")).map_err(|error| error.to_string()),
        false => Ok(url),
    }
}

/// Returns the address in a challenge such as `Bearer realm="https://…",service="…",scope="…"`.
fn token_url(challenge: &str) -> Option<Url> {
    let parts = challenge.strip_prefix("Bearer ")?;
    let pairs: Vec<(&str, &str)> = parts
        .split("\",")
        .filter_map(|part| part.split_once("=\""))
        .map(|(name, value)| (name.trim(), value.trim_end_matches('"')))
        .collect();
    let mut url = Url::parse(pairs.iter().find(|(name, _)| *name == "realm")?.1).ok()?;
    url.query_pairs_mut().extend_pairs(pairs.iter().filter(|(name, _)| matches!(*name, "service" | "scope")));
    Some(url)
}

fn is_archive(name: &str) -> bool {
    ["tar", "tar+gzip", ".tar.gz", ".tgz"].iter().any(|ending| name.ends_with(ending))
}

fn check_digest(content: &[u8], digest: &str) -> Result<(), String> {
    let found = hex::encode(Sha256::digest(content));
    if found == digest { Ok(()) } else { Err(format!("the received content has the SHA-256 {found}, not {digest}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_the_token_is() {
        let url = token_url(
            r#"Bearer realm="https://auth.example/token",service="reg.example",scope="repository:me/bank:pull,push""#,
        );
        assert_eq!(
            url.expect("an address").as_str(),
            "https://auth.example/token?service=reg.example&scope=repository%3Ame%2Fbank%3Apull%2Cpush"
        );
        for other in ["", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"nowhere\""] {
            assert_eq!(token_url(other), None, "{other}");
        }
    }

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for (registry, scheme) in
            [("localhost:5000", "http"), ("127.0.0.1", "http"), ("ghcr.io", "https"), ("localhost.example", "https")]
        {
            assert_eq!(repository_url(registry, "me/bank").expect("an address").scheme(), scheme, "{registry}");
        }
    }
}
