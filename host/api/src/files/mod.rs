//! `/files`: the user's files and directories (Cozy API: VFS).

pub mod access;
mod archive;
mod change;
mod changes;
mod download;
mod find;
mod link;
mod parameters;
mod references;
mod routes;
mod upload;
mod versions;

use axum::extract::{Path, State};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, Kind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::{Caller, Params};
use crate::jsonapi::{Document, Resource};

pub use routes::{routes, uploads};

/// Children that a directory embeds, and that a page has where the client names no number.
const CHILDREN: usize = 30;
/// Children on a page, at most.
const MOST_CHILDREN: usize = 1_000;

/// A file or directory as JSON:API shows it.
pub fn resource(platform: &Platform, caller: &Caller, file: &File) -> Result<Resource, Failure> {
    let path = platform.path_of(&caller.instance, file)?;
    let references: Vec<Value> =
        file.referenced_by.iter().map(|reference| json!({ "type": reference.doctype, "id": reference.id })).collect();
    let resource = Resource::new(FILES.as_str(), file.id.as_str(), file)?
        .rev(&file.rev.as_ref().map(ToString::to_string).unwrap_or_default())
        .without("referenced_by")
        .attribute("path", json!(path))
        .link("self", format!("/files/{}", file.id))
        .relationship("referenced_by", json!({ "data": references }));
    if file.dir_id.is_empty() {
        return Ok(resource);
    }
    let parent = json!({
        "links": { "related": format!("/files/{}", file.dir_id) },
        "data": { "type": FILES.as_str(), "id": file.dir_id },
    });
    Ok(resource.relationship("parent", parent))
}

/// A page of the children of a directory.
struct Children {
    resources: Vec<Resource>,
    next: Option<String>,
}

impl Children {
    /// The children after the one called `after`. The cursor of the next page is the name of this one's last child.
    fn read(
        platform: &Platform,
        caller: &Caller,
        directory: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Self, Failure> {
        let mut children = platform.children(&caller.instance, directory, after, limit + 1)?;
        let more = children.len() > limit;
        children.truncate(limit);
        let next = children.last().filter(|_| more).map(|last| {
            let cursor = utf8_percent_encode(&last.name, NON_ALPHANUMERIC);
            format!("/files/{directory}/relationships/contents?page[limit]={limit}&page[cursor]={cursor}")
        });
        let resources = children.iter().map(|child| resource(platform, caller, child)).collect::<Result<_, _>>()?;
        Ok(Self { resources, next })
    }
}

fn document(platform: &Platform, caller: &Caller, file: &File) -> Result<Document, Failure> {
    let own = resource(platform, caller, file)?;
    if file.kind == Kind::File {
        let versions = platform.versions(&caller.instance, &file.id)?;
        let former = versions.iter().map(versions::resource).collect::<Result<Vec<_>, _>>()?;
        if former.is_empty() {
            return Ok(Document::one(own));
        }
        let identifiers: Vec<Value> = former.iter().map(Resource::identifier).collect();
        return Ok(Document::one(own.relationship("old_versions", json!({ "data": identifiers }))).including(former));
    }
    let Children { resources, next } = Children::read(platform, caller, &file.id, None, CHILDREN)?;
    let identifiers: Vec<Value> = resources.iter().map(Resource::identifier).collect();
    let mut links = json!({ "self": format!("/files/{}/relationships/contents", file.id) });
    if let (Some(next), Some(links)) = (next, links.as_object_mut()) {
        links.insert("next".to_owned(), Value::String(next));
    }
    let contents = json!({ "links": links, "meta": { "count": identifiers.len() }, "data": identifiers });
    Ok(Document::one(own.relationship("contents", contents)).including(resources))
}

async fn show(State(platform): State<Platform>, caller: Caller, Path(id): Path<String>) -> Result<Document, Failure> {
    let file = access::by_id(&platform, &caller, Verb::Get, &id)?;
    document(&platform, &caller, &file)
}

async fn show_path(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
    let file = access::by_path(&platform, &caller, Verb::Get, &params)?;
    document(&platform, &caller, &file)
}

async fn contents(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, Failure> {
    let directory = access::by_id(&platform, &caller, Verb::Get, &id)?;
    if directory.kind == Kind::File {
        return Err(Failure::bad_request(format!("'{}' is a file and contains nothing", directory.name)));
    }
    let limit = params.number("page[limit]")?.unwrap_or(CHILDREN).clamp(1, MOST_CHILDREN);
    let Children { resources, next } = Children::read(&platform, &caller, &id, params.filled("page[cursor]"), limit)?;
    Ok(Document::list(resources).next(next))
}
