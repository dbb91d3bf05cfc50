//! Documents and files that a run saved.

use std::path::{Component, Path, PathBuf};

use konnector_manifest::Doctype;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, FileKind, ROOT_ID, TRASH_ID};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;

use super::environment::RunEnvironment;
use crate::draft::Draft;
use crate::error::{Error, Result, file};
use crate::output::{Rows, bytes, cell};

/// Internal doctypes of the platform, and files, which are listed separately.
const INTERNAL_DOCTYPES: [&str; 12] = [
    "io.cozy.accounts",
    "io.cozy.instances",
    "io.cozy.jobs",
    "io.cozy.jobs.events",
    "io.cozy.jobs.logs",
    "io.cozy.konnectors",
    "io.cozy.permissions",
    "io.cozy.settings",
    "io.cozy.triggers",
    "io.cozy.triggers.state",
    "io.cozy.files",
    "io.cozy.doctypes",
];

/// Documents and files that a run saved.
pub struct RunResults {
    /// Documents by doctype.
    pub documents: Map<String, Value>,
    /// Descriptions of the files, sorted by path.
    pub files: Vec<Value>,
    contents: Vec<(String, File)>,
}

impl RunResults {
    /// Collects all documents and files of the instance.
    pub async fn collect(environment: &RunEnvironment) -> Result<Self> {
        let mut documents = Map::new();
        for doctype in environment.platform.documents().doctypes(&environment.instance)? {
            if !INTERNAL_DOCTYPES.contains(&doctype.to_string().as_str()) && doctype != *FILES {
                documents.insert(doctype.to_string(), Value::Array(all_documents(environment, &doctype)?));
            }
        }
        let mut contents = Vec::new();
        let mut folders = vec![(String::new(), ROOT_ID.to_owned())];
        while let Some((folder, id)) = folders.pop() {
            for child in children(environment, &id)? {
                let path = format!("{folder}/{}", child.name);
                match child.kind {
                    FileKind::Directory if child.id == TRASH_ID => {}
                    FileKind::Directory => folders.push((path, child.id)),
                    FileKind::File => contents.push((path, child)),
                }
            }
        }
        contents.sort_by(|one, other| one.0.cmp(&other.0));
        let files = contents.iter().map(|(path, file)| {
            let sha256 = file.content.as_ref().map(|content| content.sha256.as_str());
            json!({ "path": path, "size": file.len(), "mime": file.mime, "sha256": sha256, "metadata": file.metadata })
        });
        Ok(Self { documents, files: files.collect(), contents })
    }

    /// Prints the documents and files as tables.
    pub fn print(&self) {
        for (doctype, documents) in &self.documents {
            let documents = documents.as_array().map(Vec::as_slice).unwrap_or_default();
            say!("\n{} {doctype}", documents.len());
            crate::data::rows(documents).print();
        }
        if self.files.is_empty() {
            return;
        }
        say!("\n{} files", self.files.len());
        let mut rows = Rows::new(["path", "size", "type"]).align_right(1);
        for file in &self.files {
            rows.row([
                cell(file.get("path")),
                bytes(file.get("size").and_then(Value::as_u64).unwrap_or(0)),
                cell(file.get("mime")),
            ]);
        }
        rows.print();
    }

    /// Writes the files below a folder, at their paths.
    pub async fn write_files(&self, environment: &RunEnvironment, folder: &Path) -> Result<()> {
        for (path, content) in &self.contents {
            let target = folder.join(safe_relative_path(path)?);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(file("create", parent))?;
            }
            let mut reader = environment.platform.files().open_content(content).await?;
            let draft = Draft::new_shared(&target)?;
            let mut writer = draft.as_async_file()?;
            tokio::io::copy(&mut reader, &mut writer).await.map_err(file("write", &target))?;
            writer.flush().await.map_err(file("write", &target))?;
            draft.persist(&target)?;
        }
        Ok(())
    }
}

/// Rejects a path that leaves the folder, because the names come from a vendor.
fn safe_relative_path(path: &str) -> Result<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(path.to_owned());
    }
    Err(Error::failed(format!("file {} would be written outside the folder", path.display()), ""))
}

fn all_documents(environment: &RunEnvironment, doctype: &Doctype) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = environment.platform.documents().list(
            &environment.instance,
            &environment.principal,
            doctype,
            after.as_deref(),
            1_000,
        )?;
        documents.extend(page.documents.into_iter().map(|document| {
            let mut members = Map::from_iter([("_id".to_owned(), json!(document.id))]);
            members.extend(document.body);
            Value::Object(members)
        }));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(documents),
        }
    }
}

/// Lists the children of a directory, sorted by name.
fn children(environment: &RunEnvironment, id: &str) -> Result<Vec<File>> {
    const PAGE: usize = 500;
    let mut children: Vec<File> = Vec::new();
    loop {
        let after = children.last().map(|child| child.name.clone());
        let page = environment.platform.files().children(&environment.instance, id, after.as_deref(), PAGE)?;
        let full = page.len() == PAGE;
        children.extend(page);
        if !full {
            return Ok(children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        assert_eq!(safe_relative_path("/a/b.pdf").unwrap(), Path::new("a/b.pdf"));
        for path in ["/../etc/passwd", "/a/../../b"] {
            assert!(safe_relative_path(path).is_err(), "{path}");
        }
    }
}
