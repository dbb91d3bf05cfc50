//! `konnector pack`: an archive to publish. The same files give the same bytes, so that its checksum can be compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flate2::{Compression, GzBuilder};
use konnector_manifest::Manifest;
use konnector_sandbox::Sandbox;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::bundle::Bundle;
use crate::error::{Result, file, io};
use crate::output::{Output, bytes, done, note};

/// Packed where they are there, for people who look into the archive.
const COURTESY: [&str; 3] = ["README.md", "LICENSE", "CHANGELOG.md"];

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
    let archive = archive(&files(&bundle)?).map_err(io("packing"))?;
    let name = || PathBuf::from(format!("{}-{}.tar.gz", bundle.name(), bundle.manifest.version));
    let target = arguments.output.clone().unwrap_or_else(name);
    std::fs::write(&target, &archive).map_err(file("write", &target))?;
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

/// What belongs into the archive, by name.
fn files(bundle: &Bundle) -> Result<BTreeMap<String, Vec<u8>>> {
    let manifest = &bundle.manifest;
    let mut files = BTreeMap::from([
        (Manifest::FILE_NAME.to_owned(), bundle.text.clone()),
        (manifest.component.clone(), bundle.component()?),
    ]);
    for name in manifest.icon.iter().chain(&manifest.on_delete_account) {
        let path = bundle.folder.join(name);
        files.insert(name.clone(), std::fs::read(&path).map_err(file("read", &path))?);
    }
    for name in COURTESY {
        if let Ok(content) = std::fs::read(bundle.folder.join(name)) {
            files.insert(name.to_owned(), content);
        }
    }
    Ok(files)
}

/// Sorted by name, without dates and owners.
fn archive(files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let mut builder = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    builder.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = BTreeMap::from([("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"1".to_vec())]);
        let bytes = archive(&files).unwrap();
        assert_eq!(bytes, archive(&files).unwrap());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let unpacked: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap(), text)
            })
            .collect();
        assert_eq!(unpacked, [("a".to_owned(), 0, "1".to_owned()), ("b".to_owned(), 0, "2".to_owned())]);
    }
}
