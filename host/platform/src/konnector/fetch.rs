//! Gets a bundle from where a source says.

use std::sync::Arc;

use konnector_manifest::{HttpRules, Source};
use konnector_sandbox::http::{Body, Expect, HttpBudget, HttpError, Request, SecretTable, SessionOptions};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::bundle::Bundle;
use crate::{Error, Platform, Result};

/// Bytes of an archive.
const LARGEST_ARCHIVE: u64 = 64 << 20;

impl Platform {
    /// The bundle of a source.
    pub(super) async fn fetch(&self, source: &Source) -> Result<Bundle> {
        match source {
            Source::File(folder) => {
                let folder = folder.clone();
                blocking(move || Bundle::from_folder(&folder)).await
            }
            Source::Http { url, sha256 } => {
                let bytes = self.download(url).await?;
                if let Some(expected) = sha256 {
                    let found = Sha256::digest(&bytes);
                    if found.as_slice() != expected {
                        return Err(Error::Unreachable(format!(
                            "the archive behind {url} has the SHA-256 {}, but the source names {}; it was changed or tampered with",
                            hex::encode(found),
                            hex::encode(expected)
                        )));
                    }
                }
                blocking(move || Bundle::from_archive(&bytes)).await
            }
            other => Err(Error::Parameter {
                name: "Source",
                message: format!(
                    "sources such as {other} cannot be installed yet; use file:// or https://….tar.gz#<sha256>"
                ),
            }),
        }
    }

    /// Through the same gate as a konnector's requests: redirects may only stay on the host, private addresses only where the operator
    /// allows them.
    async fn download(&self, url: &Url) -> Result<Vec<u8>> {
        let session = self.gate.session(SessionOptions {
            rules: HttpRules::origin(url),
            cookies: None,
            budget: HttpBudget {
                requests: 12,
                bytes_up: 1 << 16,
                bytes_down: LARGEST_ARCHIVE,
                body_limit: LARGEST_ARCHIVE,
            },
            secrets: Arc::new(SecretTable::default()),
        });
        let request = Request {
            method: "GET".to_owned(),
            url: url.to_string(),
            headers: Vec::new(),
            body: None,
            expect: Expect::Bytes,
            follow_redirects: true,
            timeout: None,
        };
        let unreachable = |error: HttpError| Error::Unreachable(format!("the source {url} cannot be reached: {error}"));
        let response = session.send(request).await.map_err(unreachable)?;
        if response.status != 200 {
            return Err(Error::Unreachable(format!("the source {url} answers with the status {}", response.status)));
        }
        Ok(match response.body {
            Body::Bytes(bytes) => bytes.to_vec(),
            Body::Text(text) => text.into_bytes(),
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unreachable(format!("reading the bundle failed: {error}"))),
    }
}
