//! `konnector files …`: what was saved.

use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{Connection, Session, flat, flat_list, segment};
use crate::draft::Draft;
use crate::error::{Error, Result, file, io};
use crate::output::{Output, Rows, bytes, cell, date, done, print_json};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a folder.
    Ls {
        /// Its path.
        #[arg(default_value = "/")]
        path: String,
        /// With all folders below it.
        #[arg(short, long)]
        recursive: bool,
    },
    /// Fetch a file.
    #[command(
        after_help = "Examples:\n  konnector files get /Administrative/Bank101/ada/FA-2026-0020.pdf\n  konnector files get /notes.txt -o -"
    )]
    Get {
        /// Its path.
        path: String,
        /// Where to write it; - is standard output [default: its own name in this folder].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Show all that is known of a file or folder.
    Info {
        /// Its path.
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

async fn info(session: &Session, path: &str) -> Result<Value> {
    Ok(flat(&session.get("files/metadata", &[("Path", path)]).await?))
}

async fn list(session: &Session, output: Output, path: &str, recursive: bool) -> Result<()> {
    let top = info(session, path).await?;
    let mut found = Vec::new();
    if is_folder(&top) {
        let mut folders = vec![(path.trim_end_matches('/').to_owned(), cell(top.get("id")))];
        while let Some((folder, id)) = folders.pop() {
            let mut below = Vec::new();
            for mut entry in children(session, &id).await? {
                let path = format!("{folder}/{}", cell(entry.get("name")));
                if recursive && is_folder(&entry) {
                    below.push((path.clone(), cell(entry.get("id"))));
                }
                if let Some(members) = entry.as_object_mut() {
                    members.insert("path".to_owned(), json!(path));
                }
                found.push(entry);
            }
            folders.extend(below);
        }
        found.sort_by_key(|entry| cell(entry.get("path")));
    } else {
        found.push(top);
    }
    let mut rows = Rows::new(["path", "size", "type", "changed"]).right(1);
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

/// What lies directly in a folder, page by page.
async fn children(session: &Session, id: &str) -> Result<Vec<Value>> {
    let mut children = Vec::new();
    let mut next = Some(format!("files/{}/relationships/contents?page[limit]=100", segment(id)));
    while let Some(path) = next {
        let page = session.get(&path, &[]).await?;
        children.extend(flat_list(&page));
        next = page.get("links").and_then(|links| links.get("next")).and_then(Value::as_str).map(str::to_owned);
    }
    Ok(children)
}

async fn get(session: &Session, output: Output, path: &str, target: Option<PathBuf>, force: bool) -> Result<()> {
    let own_name = || path.rsplit('/').next().filter(|name| !name.is_empty()).map(PathBuf::from);
    let target = target.or_else(own_name).ok_or_else(|| {
        Error::usage(format!("'{path}' names no file"), "give the path of a file; `konnector files ls -r` lists them")
    })?;
    if !force && target.exists() {
        return Err(exists(&target));
    }
    let mut answer = session.download("files/download", &[("Path", path)]).await?;
    let to_output = target == Path::new("-");
    if to_output && stdout().is_terminal() {
        return Err(Error::usage(
            "a file would be written to the terminal",
            "pipe it into a program, or name a file with -o",
        ));
    }
    // A broken download leaves no half file under the name.
    let mut beside = (!to_output).then(|| Draft::private(&target)).transpose()?;
    let mut size = 0;
    loop {
        let part =
            answer.chunk().await.map_err(|error| Error::failed(format!("the download broke: {error}"), "try again"))?;
        let Some(part) = part else { break };
        size += part.len() as u64;
        match &mut beside {
            Some(draft) => draft.as_file().write_all(&part).map_err(file("write", &target))?,
            None => stdout().write_all(&part).map_err(io("writing to standard output"))?,
        }
    }
    if let Some(beside) = beside {
        if force {
            beside.replace(&target)?;
        } else {
            beside.keep(&target).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => exists(&target),
                _ => file("write", &target)(error),
            })?;
        }
        output.show(&json!({ "path": path, "file": target, "size": size }), || {
            done(&format!("{} ({})", target.display(), bytes(size)));
        });
    }
    Ok(())
}

fn exists(target: &Path) -> Error {
    Error::failed(
        format!("{} is there already", target.display()),
        "name another file with -o, or replace it with --force",
    )
}
