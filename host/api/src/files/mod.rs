//! `/files`: the user's files and directories (Cozy API: VFS).

pub mod access;
mod archive;
mod change;
mod changes;
mod download;
mod find;
mod link;
mod parameters;
pub mod references;
mod routes;
mod upload;
mod versions;

use axum::extract::{Path, State};
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::file::{File, Kind, ROOT_ID, TRASH_ID, TRASH_PATH};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::{Caller, Params};
use crate::jsonapi::{Document, Resource};

pub use routes::{links, routes, uploads};

/// Children that a directory embeds, and that a page has where the client names no number.
const CHILDREN: usize = 30;
/// Children on a page, at most: about a megabyte of JSON.
const MAX_CHILDREN: usize = 1_000;

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

/// Which part of a list of children a request is about.
#[derive(Debug, Clone, Copy)]
struct Page<'a> {
    limit: usize,
    /// The name behind which it begins.
    cursor: Option<&'a str>,
    /// How many children it leaves out from there.
    skip: usize,
}

impl<'a> Page<'a> {
    fn of(params: &'a Params) -> Result<Self, Failure> {
        Ok(Self {
            limit: params.number("page[limit]")?.unwrap_or(CHILDREN).clamp(1, MAX_CHILDREN),
            cursor: params.filled("page[cursor]"),
            skip: params.number("page[skip]")?.unwrap_or_default(),
        })
    }

    const fn is_whole_list_up_to(&self, more: bool) -> bool {
        self.cursor.is_none() && self.skip == 0 && !more
    }
}

/// A page of the children of a directory.
struct Children {
    resources: Vec<Resource>,
    /// How many there are in all.
    total: usize,
    next: Option<String>,
}

impl Children {
    /// The cursor of the next page is the name of this one's last child. The trash is not listed in the root, as at Cozy.
    async fn read(platform: &Platform, caller: &Caller, directory: &str, page: Page<'_>) -> Result<Self, Failure> {
        let (cursor, skip) = (page.cursor.map(str::to_owned), page.skip);
        let start = match skip {
            0 => cursor,
            _ => match Self::skip(platform, caller, directory, cursor, skip).await? {
                Some(start) => Some(start),
                None => {
                    let total = Self::count(platform, caller, directory).await?;
                    return Ok(Self { resources: Vec::new(), total, next: None });
                }
            },
        };
        let mut children = platform.children(&caller.instance, directory, start.as_deref(), page.limit + 2)?;
        children.retain(|child| child.id != TRASH_ID);
        let more = children.len() > page.limit;
        children.truncate(page.limit);
        let next = children.last().filter(|_| more).map(|last| {
            let cursor = utf8_percent_encode(&last.name, NON_ALPHANUMERIC);
            format!("/files/{directory}/relationships/contents?page[limit]={}&page[cursor]={cursor}", page.limit)
        });
        let resources =
            children.iter().map(|child| resource(platform, caller, child)).collect::<Result<Vec<_>, _>>()?;
        let total = match page.is_whole_list_up_to(more) {
            true => resources.len(),
            false => Self::count(platform, caller, directory).await?,
        };
        Ok(Self { resources, total, next })
    }

    /// The name behind which a page begins that leaves out `skip` children.
    async fn skip(
        platform: &Platform,
        caller: &Caller,
        directory: &str,
        cursor: Option<String>,
        skip: usize,
    ) -> Result<Option<String>, Failure> {
        // In the root, one more child is left out where the trash lies among those.
        let trash = TRASH_PATH.trim_start_matches('/').to_owned();
        let among = |start: &str| directory == ROOT_ID && cursor.as_ref() < Some(&trash) && *start >= *trash;
        let start = Self::nth(platform, caller, directory, cursor.clone(), skip).await?;
        match start {
            Some(start) if among(&start) => Self::nth(platform, caller, directory, cursor, skip + 1).await,
            start => Ok(start),
        }
    }

    async fn nth(
        platform: &Platform,
        caller: &Caller,
        directory: &str,
        cursor: Option<String>,
        n: usize,
    ) -> Result<Option<String>, Failure> {
        let (platform, instance, directory) = (platform.clone(), caller.instance.clone(), directory.to_owned());
        blocking(move || platform.nth_child(&instance, &directory, cursor.as_deref(), n)).await
    }

    async fn count(platform: &Platform, caller: &Caller, directory: &str) -> Result<usize, Failure> {
        let hidden = usize::from(directory == ROOT_ID);
        let (platform, instance, directory) = (platform.clone(), caller.instance.clone(), directory.to_owned());
        let count = blocking(move || platform.count_children(&instance, &directory)).await?;
        Ok(count.saturating_sub(hidden))
    }
}

/// Runs a scan of the index, whose length the directory decides, off the API's threads.
async fn blocking<T: Send + 'static>(
    scan: impl FnOnce() -> konnector_platform::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let scanned = tokio::task::spawn_blocking(scan).await;
    Ok(scanned.map_err(|error| Failure::server(format!("a directory cannot be read: {error}")))??)
}

async fn document(platform: &Platform, caller: &Caller, file: &File) -> Result<Document, Failure> {
    paged_document(platform, caller, file, Page { limit: CHILDREN, cursor: None, skip: 0 }).await
}

/// A file with its versions, or a directory with a page of its children.
async fn paged_document(
    platform: &Platform,
    caller: &Caller,
    file: &File,
    page: Page<'_>,
) -> Result<Document, Failure> {
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
    let Children { resources, total, next } = Children::read(platform, caller, &file.id, page).await?;
    let identifiers: Vec<Value> = resources.iter().map(Resource::identifier).collect();
    let mut links = json!({ "self": format!("/files/{}/relationships/contents", file.id) });
    if let (Some(next), Some(links)) = (&next, links.as_object_mut()) {
        links.insert("next".to_owned(), json!(next));
    }
    let contents = json!({ "links": links, "meta": { "count": total }, "data": identifiers });
    Ok(Document::one(own.relationship("contents", contents)).including(resources).next(next))
}

async fn show(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Document, Failure> {
    let file = access::by_id(&platform, &caller, Verb::Get, &id)?;
    paged_document(&platform, &caller, &file, Page::of(&params)?).await
}

async fn show_path(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, Failure> {
    let file = access::by_path(&platform, &caller, Verb::Get, &params)?;
    paged_document(&platform, &caller, &file, Page::of(&params)?).await
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
    let Children { resources, total, next } = Children::read(&platform, &caller, &id, Page::of(&params)?).await?;
    Ok(Document::list(resources).counted(total).next(next))
}
