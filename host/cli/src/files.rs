//! `konnector files …`: lists and downloads files.

use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Response;
use reqwest::header::{ETAG, HeaderMap};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{ApiClient, Connection, encode_segment, flatten, flatten_list};
use crate::draft::Draft;
use crate::error::{Error, Result, file, io};
use crate::output::{Output, Rows, bytes, cell, date, done, print_json, warning};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a folder.
    Ls {
        /// Path of the folder.
        #[arg(default_value = "/")]
        path: String,
        /// Include all subfolders.
        #[arg(short, long)]
        recursive: bool,
    },
    /// Download a file.
    #[command(
        after_help = "Examples:\n  konnector files get /Administrative/Bank101/ada/FA-2026-0020.pdf\n  konnector files get /notes.txt -o -"
    )]
    Get {
        /// Path of the file.
        path: String,
        /// File to write; - is standard output [default: the file's own name, in the current folder].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace an existing file.
        #[arg(long)]
        force: bool,
    },
    /// Show the metadata of a file or folder.
    Info {
        /// Path of the file or folder.
        path: String,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let session = connection.session().await?;
    match command {
        Command::Ls { path, recursive } => list(&session, output, &path, recursive).await,
        Command::Get { path, output: target, force } => get(&session, output, &path, target, force).await,
        Command::Info { path } => {
            print_json(&info(&session, &path).await?);
            Ok(())
        }
    }
}

async fn info(session: &ApiClient, path: &str) -> Result<Value> {
    Ok(flatten(&session.get("files/metadata", &[("Path", path)]).await?))
}

async fn list(session: &ApiClient, output: Output, path: &str, recursive: bool) -> Result<()> {
    let top = info(session, path).await?;
    let mut found = Vec::new();
    if is_folder(&top) {
        let mut folders = vec![(path.trim_end_matches('/').to_owned(), cell(top.get("id")))];
        while let Some((folder, id)) = folders.pop() {
            let mut subfolders = Vec::new();
            for mut entry in children(session, &id).await? {
                let path = format!("{folder}/{}", cell(entry.get("name")));
                if recursive && is_folder(&entry) {
                    subfolders.push((path.clone(), cell(entry.get("id"))));
                }
                if let Some(members) = entry.as_object_mut() {
                    members.insert("path".to_owned(), json!(path));
                }
                found.push(entry);
            }
            folders.extend(subfolders);
        }
        found.sort_by_key(|entry| cell(entry.get("path")));
    } else {
        found.push(top);
    }
    let mut rows = Rows::new(["path", "size", "type", "changed"]).align_right(1);
    for entry in &found {
        let (size, kind) = if is_folder(entry) {
            (String::new(), "folder".to_owned())
        } else {
            (bytes(cell(entry.get("size")).parse().unwrap_or(0)), cell(entry.get("mime")))
        };
        rows.row([cell(entry.get("path")), size, kind, date(entry.get("updated_at"))]);
    }
    output.table(&json!(found), &format!("{path} is empty"), rows);
    Ok(())
}

fn is_folder(entry: &Value) -> bool {
    entry.get("type").and_then(Value::as_str) == Some("directory")
}

/// Lists the children of a folder, page by page.
async fn children(session: &ApiClient, id: &str) -> Result<Vec<Value>> {
    let mut children = Vec::new();
    let mut next = Some(format!("files/{}/relationships/contents?page[limit]=100", encode_segment(id)));
    while let Some(path) = next {
        let page = session.get(&path, &[]).await?;
        children.extend(flatten_list(&page));
        next = page.get("links").and_then(|links| links.get("next")).and_then(Value::as_str).map(str::to_owned);
    }
    Ok(children)
}

async fn get(session: &ApiClient, output: Output, path: &str, target: Option<PathBuf>, force: bool) -> Result<()> {
    let own_name = || path.rsplit('/').next().filter(|name| !name.is_empty()).map(PathBuf::from);
    let target = target.or_else(own_name).ok_or_else(|| {
        Error::usage(
            format!("'{path}' is not the path of a file"),
            format!("give the path of a file; `{}` lists them", crate::hint::command("files ls -r")),
        )
    })?;
    if !force && target.exists() {
        return Err(already_exists_error(&target));
    }
    let response = session.download("files/download", &[("Path", path)]).await?;
    let to_stdout = target == Path::new("-");
    if to_stdout && stdout().is_terminal() {
        return Err(Error::usage(
            "standard output is a terminal, so the file is not written to it",
            "pipe it into a program, or choose a file with -o",
        ));
    }
    if to_stdout {
        receive(response, |part| stdout().write_all(part).map_err(io("writing to standard output"))).await?;
        return Ok(());
    }
    let size = save(response, &target, force).await?;
    output.show(&json!({ "path": path, "file": target, "size": size }), || {
        done(&format!("{} ({})", target.display(), bytes(size)));
    });
    Ok(())
}

/// Saves a download to a file; returns its size. An interrupted or damaged download leaves no file under the name.
async fn save(response: Response, target: &Path, force: bool) -> Result<u64> {
    let mut draft = Draft::new_private(target)?;
    let size = receive(response, |part| draft.as_file().write_all(part).map_err(file("write", target))).await?;
    if force {
        draft.persist(target)?;
    } else {
        draft.persist_noclobber(target).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => already_exists_error(target),
            _ => file("write", target)(error),
        })?;
    }
    Ok(size)
}

/// Passes on a download chunk by chunk and compares its checksum with that of the server; returns its size.
async fn receive(mut response: Response, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let expected = checksum(response.headers());
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        let part = response
            .chunk()
            .await
            .map_err(|error| Error::failed(format!("the download was interrupted: {error}"), "try again"))?;
        let Some(part) = part else { break };
        size += part.len() as u64;
        hash.update(&part);
        write(&part)?;
    }
    let actual = hex::encode(hash.finalize());
    match expected {
        Some(expected) if expected != actual => Err(Error::failed(
            format!("the download is damaged: its SHA-256 is {actual}, the server's is {expected}"),
            "try again; if it fails again, check the server's files with `konnector fsck --deep`",
        )),
        Some(_) => Ok(size),
        None => {
            warning("the download was not verified, because the server sent no checksum");
            Ok(size)
        }
    }
}

/// Returns the SHA-256 of a download, which is its `ETag`. A proxy that compresses makes the tag weak but does not
/// change it.
fn checksum(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    let is_checksum = tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_checksum.then(|| tag.to_ascii_lowercase())
}

fn already_exists_error(target: &Path) -> Error {
    Error::failed(
        format!("{} already exists", target.display()),
        "choose another file with -o, or replace it with --force",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn download(etag: &str, content: &'static str) -> Response {
        let response = http::Response::builder().header("etag", etag).body(content);
        Response::from(response.expect("a response"))
    }

    /// Returns an `ETag` in the server's format.
    fn tag(content: &str) -> String {
        format!("\"{}\"", hex::encode(Sha256::digest(content)))
    }

    #[tokio::test]
    async fn a_damaged_download_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("bill.pdf");
        let damaged = async |force| save(download(&tag("a bill"), "a bull"), &target, force).await;
        let error = damaged(false).await.expect_err("damaged").to_string();
        assert!(error.starts_with("the download is damaged: its SHA-256 is "), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 0);

        let whole = save(download(&tag("a bill"), "a bill"), &target, false).await;
        assert_eq!(whole.expect("whole"), 6);
        damaged(true).await.expect_err("damaged");
        assert_eq!(fs::read(&target).expect("the file"), b"a bill", "what was there stays");
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1);
    }

    #[test]
    fn a_tag_that_is_no_checksum_is_not_compared() {
        let checksum_of = |tag: &str| checksum(&HeaderMap::from_iter([(ETAG, tag.parse().expect("a header"))]));
        let known = "0A".repeat(32);
        assert_eq!(checksum_of(&format!("\"{known}\"")), Some(known.to_ascii_lowercase()));
        assert_eq!(checksum_of(&format!("W/\"{known}\"")), Some(known.to_ascii_lowercase()));
        assert_eq!(checksum_of("\"5-abc\""), None);
        assert_eq!(checksum(&HeaderMap::new()), None);
    }
}
