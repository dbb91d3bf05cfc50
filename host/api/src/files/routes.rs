//! The routes below `/files`, and what each does.

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use aide::transform::TransformOperation;
use konnector_platform::Platform;

use super::{
    archive, changes, download, find, link, list_children, references, show, show_by_path, update, upload, versions,
};
use crate::jsonapi::Document;
use crate::openapi::{BinaryContent, Describe as _, SchemaKind, query_fields};

/// The routes of this module.
pub fn routes() -> ApiRouter<Platform> {
    let by_path =
        get_with(show_by_path, |op| page_parameters(path_parameter(op.summary("A file or directory by its path"))))
            .patch_with(update::patch_by_path, |op| {
                patch_parameters(path_parameter(op.summary("Changes a file or directory")))
            });
    let download = get_with(download::by_path, |op| download_operation(path_parameter(op)));
    ApiRouter::new()
        .api_route("/files/metadata", by_path)
        .api_route("/files/download", download)
        .api_route("/files/download/{id}", get_with(download::by_id, download_operation))
        .api_route("/files/download/{id}/{version}", get_with(download::version, download_operation))
        .api_route(
            "/files/upload/metadata",
            post_with(upload::metadata, |op| {
                op.summary("Keeps metadata for an upload that names its id, for a day")
                    .description("The attributes are the metadata.")
                    .success::<201, Document>("The metadata, with its id")
                    .error(413, "It is too large")
            }),
        )
        .api_route(
            "/files/_find",
            post_with(find::find, |op| {
                query_fields(op.summary("The files that a selector describes")).query(
                    "page[cursor]",
                    SchemaKind::String,
                    CURSOR_DESCRIPTION,
                )
            }),
        )
        .api_route(
            "/files/_all_docs",
            post_with(find::by_ids, |op| {
                op.summary("Files by their ids").field("keys", SchemaKind::Strings, "The ids")
            }),
        )
        .api_route("/files/{id}", file_routes())
        .api_route(
            "/files/{id}/size",
            get_with(find::size, |op| op.summary("The bytes of a file, or of all in a directory")),
        )
        .api_route(
            "/files/{id}/copy",
            post_with(update::copy, |op| {
                op.summary("Copies a file")
                    .query(
                        "Name",
                        SchemaKind::String,
                        "The name of the copy; that of the file unless told, with (copy) where it is taken",
                    )
                    .query("DirID", SchemaKind::String, "The directory of the copy; that of the file unless told")
                    .success::<201, Document>("The copy")
                    .error(409, "There is something of this name")
                    .error(413, "There is no space left")
                    .error(422, "The name is none")
            }),
        )
        .api_route(
            "/files/{id}/relationships/contents",
            get_with(list_children, |op| page_parameters(op.summary("What is in a directory"))),
        )
        .merge(archive::routes())
        .merge(changes::routes())
        .merge(link::routes())
        .merge(references::routes())
        .merge(trash_routes())
        .merge(versions::routes())
}

/// The routes that take no token, because their path holds a secret.
pub fn link_routes() -> ApiRouter<Platform> {
    archive::link_routes().merge(link::link_routes())
}

/// The trash.
fn trash_routes() -> ApiRouter<Platform> {
    let all = get_with(update::list_trash, |op| page_parameters(op.summary("What is in the trash")))
        .delete_with(update::empty_trash, |op| {
            op.summary("Deletes what is in the trash").success::<204, ()>("It is empty")
        });
    let one = post_with(update::restore, |op| {
        op.summary("Takes a file or directory out of the trash")
            .header("If-Match", REV_DESCRIPTION)
            .error(409, "Its place is taken")
            .error(412, CONFLICT_DESCRIPTION)
    })
    .delete_with(update::delete_permanently, |op| {
        op.summary("Deletes what is in the trash")
            .header("If-Match", REV_DESCRIPTION)
            .success::<204, ()>("It is gone")
            .error(409, CONFLICT_DESCRIPTION)
            .error(412, CONFLICT_DESCRIPTION)
    });
    ApiRouter::new().api_route("/files/trash", all).api_route("/files/trash/{id}", one)
}

/// The operations on one file or directory.
fn file_routes() -> ApiMethodRouter<Platform> {
    get_with(show, |op| page_parameters(op.summary("A file, or a directory with a page of its children")))
        .head_with(find::exists, |op| {
            op.summary("Whether a file or directory is there")
                .query("Type", SchemaKind::String, "What it is to be, file or directory")
                .success::<200, ()>("It is")
        })
        .patch_with(update::patch, |op| patch_parameters(op.summary("Changes a file or directory")))
        .delete_with(update::move_to_trash, |op| {
            op.summary("Puts a file or directory into the trash")
                .header("If-Match", REV_DESCRIPTION)
                .error(412, CONFLICT_DESCRIPTION)
        })
}

const CURSOR_DESCRIPTION: &str = "Where the page before ended";
pub const REV_DESCRIPTION: &str = "The revision that the client knows";
pub const DL_DESCRIPTION: &str = "Whether a browser shall save it instead of showing it";
const CONFLICT_DESCRIPTION: &str = "Somebody else wrote in between";

fn path_parameter(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("Path", SchemaKind::String, "An absolute path").error(422, "No path is given")
}

fn page_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("page[limit]", SchemaKind::Number, "Files on a page")
        .query("page[cursor]", SchemaKind::String, CURSOR_DESCRIPTION)
        .query("page[skip]", SchemaKind::Number, "Files to leave out before the page")
}

fn patch_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("If-Match", REV_DESCRIPTION)
        .field("name", SchemaKind::String, "Another name")
        .field("dir_id", SchemaKind::String, "The directory to move it to")
        .field("tags", SchemaKind::Strings, "Its tags")
        .field("executable", SchemaKind::Boolean, "Whether it is a program")
        .field("metadata", SchemaKind::Object, "Its metadata, which replaces the old")
        .field("cozyMetadata", SchemaKind::Object, "Of this, favorite alone may be changed")
        .field("created_at", SchemaKind::String, "When it was made")
        .field("updated_at", SchemaKind::String, "When it was changed")
        .field("move_to_trash", SchemaKind::Boolean, "Puts it into the trash")
        .field("permanent_delete", SchemaKind::Boolean, "Deletes it for good")
        .success::<200, Document>("It, as it is now")
        .success::<204, ()>("It is deleted")
        .error(409, "There is something of this name")
        .error(412, CONFLICT_DESCRIPTION)
}

fn download_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    content_operation(op.summary("The content of a file").query("Dl", SchemaKind::Boolean, DL_DESCRIPTION))
}

/// Describes the response with a content.
pub fn content_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("Range", "The part that is wanted, for example bytes=0-99")
        .header("If-Range", "The ETag of which it is to be a part")
        .header("If-None-Match", "The ETags that the client has")
        .success::<200, BinaryContent>("The content")
        .success::<206, BinaryContent>("The part that is wanted")
        .success::<304, ()>("The client has it")
        .error(416, "There is no such part")
}

/// The routes that receive contents. The client determines their duration, as long as it keeps sending.
pub fn upload_routes() -> ApiRouter<Platform> {
    let create = || {
        post_with(upload::create, |op| {
            upload_parameters(op.summary("Makes a file or a directory"))
                .query("Type", SchemaKind::String, "file or directory")
                .query("Name", SchemaKind::String, "Its name")
                .query("Path", SchemaKind::String, "The path of a directory, instead of its name")
                .query("Recursive", SchemaKind::Boolean, "Whether the directories above it are made, too")
                .query("Tags", SchemaKind::String, "Its tags, with commas between them")
                .success::<201, Document>("What was made")
                .error(409, "There is something of this name")
        })
    };
    ApiRouter::new().api_route("/files", create()).api_route("/files/", create()).api_route(
        "/files/{id}",
        create().put_with(upload::overwrite, |op| {
            upload_parameters(op.summary("Replaces the content of a file")).header("If-Match", REV_DESCRIPTION)
        }),
    )
}

/// Common description of the two ways to upload a content.
fn upload_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.binary_body("The content")
        .query("Size", SchemaKind::Number, "Its bytes, where there is no Content-Length")
        .query("Executable", SchemaKind::Boolean, "Whether it is a program")
        .query("Encrypted", SchemaKind::Boolean, "Whether its maker encrypted it")
        .query("MetadataID", SchemaKind::String, "Metadata that was left before")
        .query("Metadata", SchemaKind::String, "Metadata as JSON, an older way")
        .query("SourceAccount", SchemaKind::String, "The account of a konnector that it is from")
        .query("SourceAccountIdentifier", SchemaKind::String, "Who has that account")
        .query("CreatedAt", SchemaKind::String, "When it was made")
        .query("UpdatedAt", SchemaKind::String, "When it was changed")
        .header("Content-MD5", "Its MD5 in base64")
        .error(408, "Nothing came for a while")
        .error(412, "The content is not as announced, or somebody else wrote in between")
        .error(422, "A parameter or header is wrong")
}
