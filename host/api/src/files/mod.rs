//! `/files`: the user's files and directories (Cozy API: VFS).

pub mod access;
mod archive;
mod changes;
mod download;
mod find;
mod link;
mod parameters;
pub mod references;
mod routes;
mod update;
mod upload;
mod versions;

use std::sync::Arc;

use axum::extract::{Path, State};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::cursor;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, FileKind, ROOT_ID, TRASH_ID, TRASH_PATH};
use konnector_platform::instance::Instance;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{Caller, Params};
use crate::jsonapi::{Document, Resource};
use crate::offload::client_threads;

pub use routes::{link_routes, routes, upload_routes};

/// Number of children that a directory embeds, and of a page if the client does not set `page[limit]`.
const DEFAULT_CHILDREN_PAGE_SIZE: usize = 30;
/// Maximum number of children on a page; they make about a megabyte of JSON.
const MAX_CHILDREN_PAGE_SIZE: usize = 1_000;

/// Returns the JSON:API resource of a file or directory.
pub fn resource(platform: &Platform, caller: &Caller, file: &File) -> Result<Resource, ApiError> {
    let path = platform.files().path_of(&caller.instance, file)?;
    let references: Vec<Value> =
        file.referenced_by.iter().map(|reference| json!({ "type": reference.doctype, "id": reference.id })).collect();
    let resource = Resource::new(FILES.as_str(), file.id.as_str(), file)?
        .rev(&file.rev.as_ref().map(ToString::to_string).unwrap_or_default())
        .without_attribute("referenced_by")
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

/// The requested page of a list of children.
#[derive(Debug, Clone)]
struct PageRequest {
    limit: usize,
    /// The name after which the page begins.
    start: Option<String>,
    /// Number of children to skip from there.
    skip: usize,
}

impl PageRequest {
    /// Parses the page of a directory's children.
    fn parse(params: &Params, directory: &str) -> Result<Self, ApiError> {
        Ok(Self {
            limit: params.number("page[limit]")?.unwrap_or(DEFAULT_CHILDREN_PAGE_SIZE).clamp(1, MAX_CHILDREN_PAGE_SIZE),
            start: params.cursor("page[cursor]", &children_list(directory))?,
            skip: params.number("page[skip]")?.unwrap_or_default(),
        })
    }
}

/// Returns the name of a list of children for its cursors.
fn children_list(directory: &str) -> String {
    format!("files/{directory}")
}

/// A page of the children of a directory.
struct ChildrenPage {
    resources: Vec<Resource>,
    /// Number of children of the directory.
    total: usize,
    next: Option<String>,
}

impl ChildrenPage {
    /// Reads a page. The cursor of the next page is that of the last child. As in Cozy, the root does not list the
    /// trash. The duration depends on the size of the directory, so the threads that serve connections do not read it.
    async fn read(platform: &Platform, caller: &Caller, directory: &str, page: PageRequest) -> Result<Self, ApiError> {
        let (reader, instance, id) = (platform.clone(), Arc::clone(&caller.instance), directory.to_owned());
        let PageRequest { limit, start, skip } = page;
        let listed =
            client_threads().run(move || FilePage::read(&reader, &instance, &id, start.as_deref(), skip, limit));
        let FilePage { children, total, has_more } = listed.await?;
        let next = children.last().filter(|_| has_more).map(|last| {
            let cursor = cursor::encode(&children_list(directory), &last.name);
            format!("/files/{directory}/relationships/contents?page[limit]={limit}&page[cursor]={cursor}")
        });
        let resources = children.iter().map(|child| resource(platform, caller, child)).collect::<Result<_, _>>()?;
        Ok(Self { resources, total, next })
    }
}

/// A page of children before its conversion to JSON:API.
struct FilePage {
    children: Vec<File>,
    total: usize,
    /// Whether further children follow.
    has_more: bool,
}

impl FilePage {
    fn read(
        platform: &Platform,
        instance: &Instance,
        directory: &str,
        cursor: Option<&str>,
        skip: usize,
        limit: usize,
    ) -> konnector_platform::Result<Self> {
        let count = || {
            let hidden = usize::from(directory == ROOT_ID);
            Ok::<_, konnector_platform::Error>(
                platform.files().count_children(instance, directory)?.saturating_sub(hidden),
            )
        };
        let start = match skip {
            0 => cursor.map(str::to_owned),
            _ => match Self::skip(platform, instance, directory, cursor, skip)? {
                Some(start) => Some(start),
                None => return Ok(Self { children: Vec::new(), total: count()?, has_more: false }),
            },
        };
        let mut children = platform.files().children(instance, directory, start.as_deref(), limit + 2)?;
        children.retain(|child| child.id != TRASH_ID);
        let has_more = children.len() > limit;
        children.truncate(limit);
        let is_whole = cursor.is_none() && skip == 0 && !has_more;
        let total = if is_whole { children.len() } else { count()? };
        Ok(Self { children, total, has_more })
    }

    /// Returns the name after which a page begins that skips `skip` children; `None` after the last child.
    fn skip(
        platform: &Platform,
        instance: &Instance,
        directory: &str,
        cursor: Option<&str>,
        skip: usize,
    ) -> konnector_platform::Result<Option<String>> {
        // In the root, one more child is skipped if the trash is among them.
        let trash = TRASH_PATH.trim_start_matches('/');
        let skips_trash = |start: &str| directory == ROOT_ID && cursor < Some(trash) && start >= trash;
        match platform.files().nth_child(instance, directory, cursor, skip)? {
            Some(start) if skips_trash(&start) => platform.files().nth_child(instance, directory, cursor, skip + 1),
            start => Ok(start),
        }
    }
}

async fn to_document(platform: &Platform, caller: &Caller, file: &File) -> Result<Document, ApiError> {
    to_paged_document(platform, caller, file, PageRequest { limit: DEFAULT_CHILDREN_PAGE_SIZE, start: None, skip: 0 })
        .await
}

/// Returns a file with its versions, or a directory with a page of its children.
async fn to_paged_document(
    platform: &Platform,
    caller: &Caller,
    file: &File,
    page: PageRequest,
) -> Result<Document, ApiError> {
    let resource = resource(platform, caller, file)?;
    if file.kind == FileKind::File {
        let versions = platform.files().versions(&caller.instance, &file.id)?;
        let old_versions = versions.iter().map(versions::resource).collect::<Result<Vec<_>, _>>()?;
        if old_versions.is_empty() {
            return Ok(Document::one(resource));
        }
        let identifiers: Vec<Value> = old_versions.iter().map(Resource::identifier).collect();
        return Ok(Document::one(resource.relationship("old_versions", json!({ "data": identifiers })))
            .with_included(old_versions));
    }
    let ChildrenPage { resources, total, next } = ChildrenPage::read(platform, caller, &file.id, page).await?;
    let identifiers: Vec<Value> = resources.iter().map(Resource::identifier).collect();
    let mut links = json!({ "self": format!("/files/{}/relationships/contents", file.id) });
    if let (Some(next), Some(links)) = (&next, links.as_object_mut()) {
        links.insert("next".to_owned(), json!(next));
    }
    let contents = json!({ "links": links, "meta": { "count": total }, "data": identifiers });
    Ok(Document::one(resource.relationship("contents", contents)).with_included(resources).next(next))
}

async fn show(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, ApiError> {
    let file = access::find_by_id(&platform, &caller, Verb::Get, &id)?;
    access::check_content(&platform, &caller, &file).await?;
    to_paged_document(&platform, &caller, &file, PageRequest::parse(&params, &file.id)?).await
}

async fn show_by_path(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, ApiError> {
    let file = access::find_by_path_parameter(&platform, &caller, Verb::Get, &params)?;
    access::check_content(&platform, &caller, &file).await?;
    to_paged_document(&platform, &caller, &file, PageRequest::parse(&params, &file.id)?).await
}

async fn list_children(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, ApiError> {
    let directory = access::find_by_id(&platform, &caller, Verb::Get, &id)?;
    if directory.kind == FileKind::File {
        return Err(ApiError::bad_request(format!("'{}' is a file, not a directory", directory.name)));
    }
    let ChildrenPage { resources, total, next } =
        ChildrenPage::read(&platform, &caller, &id, PageRequest::parse(&params, &id)?).await?;
    Ok(Document::list(resources).with_count(total).next(next))
}
