//! Checks that saved files equal the vendor's, byte for byte.

use anyhow::{Context as _, Result, bail};
use owo_colors::{OwoColorize as _, Stream};
use sha2::{Digest as _, Sha256};

use super::server::DemoServer;
use super::vendor::VendorSite;
use crate::term;

/// Compares one saved PDF with its original, fetched from the site as the customer would.
pub fn verify_downloads(server: &DemoServer, site: &VendorSite) -> Result<()> {
    let files = server.files()?;
    let file = files.iter().find(|file| file.path.ends_with(".pdf")).context("the konnector saved no PDF")?;
    let folder = tempfile::tempdir()?;
    let saved = digest(&server.download(&file.path, &folder.path().join("saved.pdf"))?);
    let session = site.sign_in()?;
    for reference in site.references()? {
        if digest(&site.pdf(&session, &reference)?) == saved {
            eprintln!(
                "\n{} byte-identical: {} ({} bytes) is the vendor's bill {reference}",
                "✓".if_supports_color(Stream::Stderr, |mark| mark.green()),
                file.path,
                file.size
            );
            term::note(&format!("sha256 {saved}"));
            return Ok(());
        }
    }
    bail!("{} (sha256 {saved}) does not match any PDF of the vendor", file.path)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
