//! The routes below `/files`, and what each does.

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use aide::transform::TransformOperation;
use konnector_platform::Platform;

use super::{archive, change, changes, contents, download, find, link, references, show, show_path, upload, versions};
use crate::jsonapi::Document;
use crate::openapi::{Content, Describe as _, Kind, queried};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let by_path = get_with(show_path, |op| paged(named(op.summary("A file or directory by its path"))))
        .patch_with(change::patch_path, |op| changed(named(op.summary("Changes a file or directory"))));
    let download = get_with(download::by_path, |op| downloaded(named(op)));
    ApiRouter::new()
        .api_route("/files/metadata", by_path)
        .api_route("/files/download", download)
        .api_route("/files/download/{id}", get_with(download::by_id, downloaded))
        .api_route("/files/download/{id}/{version}", get_with(download::version, downloaded))
        .api_route(
            "/files/upload/metadata",
            post_with(upload::metadata, |op| {
                op.summary("Keeps metadata for an upload that names its id, for a day")
                    .description("The attributes are the metadata.")
                    .answers::<201, Document>("The metadata, with its id")
                    .fails(413, "It is too large")
            }),
        )
        .api_route(
            "/files/_find",
            post_with(find::find, |op| {
                queried(op.summary("The files that a selector describes")).query("page[cursor]", Kind::Text, CURSOR)
            }),
        )
        .api_route(
            "/files/_all_docs",
            post_with(find::by_ids, |op| op.summary("Files by their ids").member("keys", Kind::Texts, "The ids")),
        )
        .api_route("/files/{id}", one())
        .api_route(
            "/files/{id}/size",
            get_with(find::size, |op| op.summary("The bytes of a file, or of all in a directory")),
        )
        .api_route(
            "/files/{id}/copy",
            post_with(change::copy, |op| {
                op.summary("Copies a file")
                    .query(
                        "Name",
                        Kind::Text,
                        "The name of the copy; that of the file unless told, with (copy) where it is taken",
                    )
                    .query("DirID", Kind::Text, "The directory of the copy; that of the file unless told")
                    .answers::<201, Document>("The copy")
                    .fails(409, "There is something of this name")
                    .fails(413, "There is no space left")
                    .fails(422, "The name is none")
            }),
        )
        .api_route(
            "/files/{id}/relationships/contents",
            get_with(contents, |op| paged(op.summary("What is in a directory"))),
        )
        .merge(archive::routes())
        .merge(changes::routes())
        .merge(link::routes())
        .merge(references::routes())
        .merge(trash())
        .merge(versions::routes())
}

/// The routes that take no token, because their path holds a secret.
pub fn links() -> ApiRouter<Platform> {
    archive::links().merge(link::links())
}

/// The trash.
fn trash() -> ApiRouter<Platform> {
    let all = get_with(change::trashed, |op| paged(op.summary("What is in the trash")))
        .delete_with(change::empty, |op| op.summary("Deletes what is in the trash").answers::<204, ()>("It is empty"));
    let one = post_with(change::restore, |op| {
        op.summary("Takes a file or directory out of the trash")
            .header("If-Match", REV)
            .fails(409, "Its place is taken")
            .fails(412, STALE)
    })
    .delete_with(change::destroy, |op| {
        op.summary("Deletes what is in the trash")
            .header("If-Match", REV)
            .answers::<204, ()>("It is gone")
            .fails(409, STALE)
            .fails(412, STALE)
    });
    ApiRouter::new().api_route("/files/trash", all).api_route("/files/trash/{id}", one)
}

/// The operations on one file or directory.
fn one() -> ApiMethodRouter<Platform> {
    get_with(show, |op| paged(op.summary("A file, or a directory with a page of its children")))
        .head_with(find::exists, |op| {
            op.summary("Whether a file or directory is there")
                .query("Type", Kind::Text, "What it is to be, file or directory")
                .answers::<200, ()>("It is")
        })
        .patch_with(change::patch, |op| changed(op.summary("Changes a file or directory")))
        .delete_with(change::trash, |op| {
            op.summary("Puts a file or directory into the trash").header("If-Match", REV).fails(412, STALE)
        })
}

const CURSOR: &str = "Where the page before ended";
pub const REV: &str = "The revision that the client knows";
pub const SAVE: &str = "Whether a browser shall save it instead of showing it";
const STALE: &str = "Somebody else wrote in between";

fn named(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("Path", Kind::Text, "An absolute path").fails(422, "No path is given")
}

fn paged(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("page[limit]", Kind::Number, "Files on a page").query("page[cursor]", Kind::Text, CURSOR).query(
        "page[skip]",
        Kind::Number,
        "Files to leave out before the page",
    )
}

fn changed(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("If-Match", REV)
        .member("name", Kind::Text, "Another name")
        .member("dir_id", Kind::Text, "The directory to move it to")
        .member("tags", Kind::Texts, "Its tags")
        .member("executable", Kind::Flag, "Whether it is a program")
        .member("metadata", Kind::Object, "Its metadata, which replaces the old")
        .member("cozyMetadata", Kind::Object, "Of this, favorite alone may be changed")
        .member("created_at", Kind::Text, "When it was made")
        .member("updated_at", Kind::Text, "When it was changed")
        .member("move_to_trash", Kind::Flag, "Puts it into the trash")
        .member("permanent_delete", Kind::Flag, "Deletes it for good")
        .answers::<200, Document>("It, as it is now")
        .answers::<204, ()>("It is deleted")
        .fails(409, "There is something of this name")
        .fails(412, STALE)
}

fn downloaded(op: TransformOperation<'_>) -> TransformOperation<'_> {
    sent(op.summary("The content of a file").query("Dl", Kind::Flag, SAVE))
}

/// How a content is answered.
pub fn sent(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("Range", "The part that is wanted, for example bytes=0-99")
        .header("If-Range", "The ETag of which it is to be a part")
        .header("If-None-Match", "The ETags that the client has")
        .answers::<200, Content>("The content")
        .answers::<206, Content>("The part that is wanted")
        .answers::<304, ()>("The client has it")
        .fails(416, "There is no such part")
}

/// The routes that take contents. How long that takes is the client's to say, as long as something comes.
pub fn uploads() -> ApiRouter<Platform> {
    let create = || {
        post_with(upload::create, |op| {
            received(op.summary("Makes a file or a directory"))
                .query("Type", Kind::Text, "file or directory")
                .query("Name", Kind::Text, "Its name")
                .query("Path", Kind::Text, "The path of a directory, instead of its name")
                .query("Recursive", Kind::Flag, "Whether the directories above it are made, too")
                .query("Tags", Kind::Text, "Its tags, with commas between them")
                .answers::<201, Document>("What was made")
                .fails(409, "There is something of this name")
        })
    };
    ApiRouter::new().api_route("/files", create()).api_route("/files/", create()).api_route(
        "/files/{id}",
        create().put_with(upload::overwrite, |op| {
            received(op.summary("Replaces the content of a file")).header("If-Match", REV)
        }),
    )
}

/// What is common to both ways of giving a file its content.
fn received(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.takes_content("The content")
        .query("Size", Kind::Number, "Its bytes, where there is no Content-Length")
        .query("Executable", Kind::Flag, "Whether it is a program")
        .query("Encrypted", Kind::Flag, "Whether its maker encrypted it")
        .query("MetadataID", Kind::Text, "Metadata that was left before")
        .query("Metadata", Kind::Text, "Metadata as JSON, an older way")
        .query("SourceAccount", Kind::Text, "The account of a konnector that it is from")
        .query("SourceAccountIdentifier", Kind::Text, "Who has that account")
        .query("CreatedAt", Kind::Text, "When it was made")
        .query("UpdatedAt", Kind::Text, "When it was changed")
        .header("Content-MD5", "Its MD5 in base64")
        .fails(408, "Nothing came for a while")
        .fails(412, "The content is not as announced, or somebody else wrote in between")
        .fails(422, "A parameter or header is wrong")
}
