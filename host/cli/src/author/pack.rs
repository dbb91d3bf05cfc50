//! `konnector pack`: packs an archive to publish. The same files give the same bytes, so that checksums are comparable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use konnector_manifest::Manifest;
use konnector_sandbox::Sandbox;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::bundle::Bundle;
use crate::draft;
use crate::error::{Error, Result, io};
use crate::output::{Output, bytes, done, note};

/// Files that are packed if they exist, for readers of the archive.
const OPTIONAL_FILES: [&str; 3] = ["README.md", "LICENSE", "CHANGELOG.md"];

/// Arguments of `konnector pack`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the konnector.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to write the archive [default: SLUG-VERSION.tar.gz].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Packs a folder.
pub fn run(output: Output, arguments: &Arguments) -> Result<()> {
    let bundle = Bundle::read(&arguments.folder)?;
    Sandbox::inspect(&bundle.component()?)?;
    bundle.warn_if_stale();
    let archive = konnector_platform::konnector::pack(&files(&bundle)?).map_err(io("packing"))?;
    let name = || PathBuf::from(format!("{}-{}.tar.gz", bundle.name(), bundle.manifest.version));
    let target = arguments.output.clone().unwrap_or_else(name);
    draft::write(&target, &archive)?;
    let sha256 = hex::encode(Sha256::digest(&archive));
    let file_name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = format!("https://YOUR-HOST/{file_name}#{sha256}");
    output.show(&json!({ "file": target, "size": archive.len(), "sha256": sha256, "source": source }), || {
        done(&format!("{} ({})", target.display(), bytes(archive.len() as u64)));
        say!("sha256 {sha256}");
        note(&format!("upload it, then: konnector konnectors install {} {source}", bundle.name()));
    });
    Ok(())
}

/// Reads the files of the archive, by name.
fn files(bundle: &Bundle) -> Result<BTreeMap<String, Vec<u8>>> {
    let manifest = &bundle.manifest;
    let mut files = BTreeMap::from([
        (Manifest::FILE_NAME.to_owned(), bundle.manifest_bytes.clone()),
        (manifest.component.clone(), bundle.component()?),
    ]);
    for name in manifest.icon.iter().chain(&manifest.on_delete_account) {
        let content = bundle.file(name)?.ok_or_else(|| {
            Error::failed(
                format!("{} does not exist", bundle.folder.join(name).display()),
                "the manifest names it; add the file, or remove it from the manifest",
            )
        })?;
        files.insert(name.clone(), content);
    }
    for name in OPTIONAL_FILES {
        if let Some(content) = bundle.file(name)? {
            files.insert(name.to_owned(), content);
        }
    }
    Ok(files)
}
