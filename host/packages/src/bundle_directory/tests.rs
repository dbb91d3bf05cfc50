use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::pack;

fn manifest(version: &str) -> Value {
    json!({ "name": "Shop", "type": "konnector", "version": version, "permissions": {} })
}

fn write_bundle(folder: &Path, manifest: &Value) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("konnector.wasm"), b"\0asm").expect("written");
    fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
}

#[test]
fn misplaced_entries_are_skipped_and_reported_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let archive = |version: &str| {
        let manifest = manifest(version).to_string().into_bytes();
        let files = [("manifest.konnector", manifest), ("konnector.wasm", b"\0asm".to_vec())];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        pack(&files).expect("packed")
    };
    let of = |version: &str, member: &str, value: Value| {
        let mut manifest = manifest(version);
        manifest[member] = value;
        manifest
    };
    write_bundle(&place("shop/1.0.0"), &manifest("1.0.0"));
    write_bundle(&place("shop/1.1.0"), &manifest("9.9.9"));
    write_bundle(&place("shop/latest"), &manifest("latest"));
    write_bundle(&place("shop/1.3.0"), &of("1.3.0", "slug", json!("bakery")));
    write_bundle(&place("shop/1.4.0"), &of("1.4.0", "fields", json!({ "login": { "type": 1 } })));
    write_bundle(&place("unversioned"), &manifest("2.0.0"));
    fs::create_dir(place("shop/1.5.0")).expect("a folder");
    for (name, content) in [
        ("shop/1.2.0.tar.gz", b"no archive".to_vec()),
        ("shop/1.6.0.tar.gz", archive("1.7.0")),
        ("shop/1.8.0.tgz", archive("1.8.0")),
        ("shop-1.9.0.tar.gz", archive("1.9.0")),
        ("shop/README.md", b"hello".to_vec()),
        ("shop/maintenance.json", b"on".to_vec()),
        ("README.md", b"hello".to_vec()),
    ] {
        fs::write(place(name), content).expect("written");
    }
    fs::create_dir(place("Not-A-Slug")).expect("a folder");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let shelf = BundleDirectory::new(folder.path().to_owned(), move |left_out| {
        tell.lock().expect("a list").push(format!(
            "{}: {}\n  → {}",
            left_out.path.display(),
            left_out.reason,
            left_out.advice
        ));
    })
    .expect("a shelf");
    let taken = || {
        let mut told = std::mem::take(&mut *told.lock().expect("a list"));
        told.sort();
        told.join("\n").replace(&folder.path().display().to_string(), "DIR")
    };
    let found = |shelf: &BundleDirectory| -> Vec<String> {
        let apps = shelf.apps().expect("read");
        apps.iter().flat_map(|app| &app.versions).map(|version| version.number.to_string()).collect()
    };
    assert_eq!(found(&shelf), ["1.0.0"]);
    insta::assert_snapshot!(taken(), @r#"
    DIR/Not-A-Slug: "Not-A-Slug" is not a valid slug; use only a-z, 0-9 and "-"
      → name the folder after the konnector's slug, for example bank101
    DIR/shop-1.9.0.tar.gz: an archive must be in its konnector's folder, with its version as the name
      → move it to DIR/shop/1.9.0.tar.gz
    DIR/shop/1.1.0: its manifest has version 9.9.9
      → rename it to DIR/shop/9.9.9
    DIR/shop/1.2.0.tar.gz: the source is not a readable tar archive: failed to read entire block
      → create it again with `konnector pack`, which also checks it
    DIR/shop/1.3.0: its manifest has slug bakery
      → set "slug": "shop" in the manifest, or rename the folder above to bakery
    DIR/shop/1.4.0: the manifest cannot be used: line 1, column 96: fields.login.type: expected a string, found a number
      → check it with: konnector check DIR/shop/1.4.0
    DIR/shop/1.5.0: there is no manifest.konnector in 'DIR/shop/1.5.0'; check the path of the source
      → check it with: konnector check DIR/shop/1.5.0
    DIR/shop/1.6.0.tar.gz: its manifest has version 1.7.0
      → rename it to DIR/shop/1.7.0.tar.gz
    DIR/shop/1.8.0.tgz: the name of an archive must end in .tar.gz
      → create it with `konnector pack`
    DIR/shop/latest: version 'latest' in its manifest is not valid semver: unexpected character 'l' while parsing major version number
      → set a version such as 1.0.0 in the manifest, and rename the entry to it
    DIR/shop/maintenance.json: its maintenance options are ignored: the file is not a JSON object
      → write a JSON object such as {"messages": {"en": {"short_message": "…"}}}, or just {}
    DIR/unversioned: a bundle must be in a subfolder of its konnector's folder, named after its version
      → move its contents to DIR/unversioned/2.0.0
    "#);
    // Each entry is reported once, including entries that appear later.
    fs::rename(place("shop/1.6.0.tar.gz"), place("shop/1.7.0.tar.gz")).expect("renamed");
    write_bundle(&place("shop/3.0.0"), &manifest("3.0.1"));
    assert_eq!(found(&shelf), ["1.0.0", "1.7.0"]);
    insta::assert_snapshot!(taken(), @r"
    DIR/shop/3.0.0: its manifest has version 3.0.1
      → rename it to DIR/shop/3.0.1
    ");
    // The name that its manifest implies is taken.
    write_bundle(&place("shop/4.0.0"), &manifest("1.0.0"));
    assert_eq!(found(&shelf), ["1.0.0", "1.7.0"]);
    insta::assert_snapshot!(taken(), @r"
    DIR/shop/4.0.0: its manifest has version 1.0.0
      → delete it, or correct the version in its manifest: DIR/shop/1.0.0 exists already
    ");
    assert!(BundleDirectory::new(Path::new("/no/such/folder").to_owned(), |_| {}).is_err());
}
