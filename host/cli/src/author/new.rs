//! `konnector new`: creates a konnector that compiles and runs without changes.

use std::fs;
use std::path::{Path, PathBuf};

use konnector_manifest::Slug;
use serde_json::json;

use crate::error::{Error, Result, file};
use crate::output::{Output, done, note};

const TEMPLATES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../../templates/Cargo.toml.in")),
    ("manifest.konnector", include_str!("../../templates/manifest.konnector.in")),
    ("src/lib.rs", include_str!("../../templates/lib.rs.in")),
    ("README.md", include_str!("../../templates/README.md.in")),
    (".gitignore", "/target\n/konnector.wasm\n*.tar.gz\n"),
];

/// Arguments of `konnector new`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the konnector and its folder: lower-case letters, digits and -.
    name: Slug,
    /// Parent folder of the new folder.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    directory: PathBuf,
    /// Use the SDK in this folder instead of the published one.
    #[arg(long, value_name = "FOLDER")]
    sdk_path: Option<PathBuf>,
}

/// Creates the folder with its files.
pub fn run(output: Output, arguments: &Arguments) -> Result<()> {
    let folder = arguments.directory.join(arguments.name.as_ref());
    if folder.exists() {
        return Err(Error::failed(format!("{} already exists", folder.display()), "choose another name, or remove it"));
    }
    let sdk = dependency(arguments.sdk_path.as_deref())?;
    write(&folder, &arguments.name, &sdk).inspect_err(|_| {
        // The folder is new. A partial one would block the next attempt.
        drop(fs::remove_dir_all(&folder));
    })?;
    output.show(&json!({ "folder": folder }), || {
        done(&format!("created {}", folder.display()));
        if arguments.sdk_path.is_none() {
            note("konnector-sdk is not published yet: give the folder guest-sdk of konnector's sources with --sdk-path, or set that path in Cargo.toml");
        }
        note(&format!("next: cd {} && konnector build && konnector check && konnector run", folder.display()));
    });
    Ok(())
}

fn write(folder: &Path, name: &Slug, sdk: &str) -> Result<()> {
    for (file_name, template) in TEMPLATES {
        let path = folder.join(file_name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file("create", parent))?;
        }
        fs::write(&path, fill_template(template, name, sdk)).map_err(file("write", &path))?;
    }
    Ok(())
}

/// Returns the value of the SDK dependency in `Cargo.toml`.
fn dependency(path: Option<&Path>) -> Result<String> {
    let Some(path) = path else { return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION"))) };
    let path = path.canonicalize().map_err(file("open", path))?;
    if !path.join("Cargo.toml").is_file() {
        return Err(Error::usage(format!("{} contains no crate", path.display()), "give the folder of konnector-sdk"));
    }
    Ok(format!("{{ path = {} }}", toml::Value::String(path.to_string_lossy().into_owned())))
}

fn fill_template(template: &str, name: &Slug, sdk: &str) -> String {
    let title: String = name
        .as_ref()
        .split('-')
        .filter_map(|word| {
            let mut letters = word.chars();
            Some(format!("{}{}", letters.next()?.to_uppercase(), letters.as_str()))
        })
        .collect::<Vec<_>>()
        .join(" ");
    template.replace("{{name}}", name.as_ref()).replace("{{title}}", &title).replace("{{sdk}}", sdk)
}

#[cfg(test)]
mod tests {
    use konnector_manifest::Manifest;

    use super::*;

    #[test]
    fn the_templates_are_sound_for_every_name() {
        let name: Slug = "my-shop2".parse().unwrap();
        let all: Vec<_> =
            TEMPLATES.iter().map(|(file, template)| (*file, fill_template(template, &name, "\"0.1\""))).collect();
        for (file, text) in &all {
            assert!(!text.contains("{{"), "{file} has a gap");
        }
        let text =
            |file_name: &str| all.iter().find(|(file, _)| *file == file_name).map(|(_, text)| text.as_str()).unwrap();
        let manifest = Manifest::parse(text("manifest.konnector").as_bytes()).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.slug.as_ref()), ("My Shop2", Some(&name)));
        assert!(manifest.warnings().is_empty(), "{:?}", manifest.warnings());
        let cargo: toml::Table = text("Cargo.toml").parse().unwrap();
        assert_eq!(cargo["dependencies"]["konnector-sdk"].as_str(), Some("0.1"));
    }

    #[test]
    fn an_existing_folder_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("shop")).unwrap();
        let arguments =
            Arguments { name: "shop".parse().unwrap(), directory: directory.path().to_owned(), sdk_path: None };
        let error = run(Output { json: false }, &arguments).unwrap_err().to_string();
        assert!(error.ends_with("shop already exists"), "{error}");
    }
}
