//! The routes below `/files`, with their descriptions.

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use aide::transform::TransformOperation;
use konnector_platform::Platform;

use super::{
    archive, changes, download, find, link, list_children, references, show, show_by_path, update, upload, versions,
};
use crate::jsonapi::Document;
use crate::openapi::{BinaryContent, Describe as _, SchemaKind, query_fields};

pub fn routes() -> ApiRouter<Platform> {
    let by_path = get_with(show_by_path, |op| {
        page_parameters(path_parameter(op.summary("Shows a file or directory by its path")))
    })
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
                op.summary("Stores metadata for a later upload that passes its id; expires after a day")
                    .description("The attributes are the metadata.")
                    .success::<201, Document>("The metadata, with its id")
                    .error(413, "The metadata is too large")
            }),
        )
        .api_route(
            "/files/_find",
            post_with(find::find, |op| {
                query_fields(op.summary("Finds the files that match a selector")).query(
                    "page[cursor]",
                    SchemaKind::String,
                    CURSOR_DESCRIPTION,
                )
            }),
        )
        .api_route(
            "/files/_all_docs",
            post_with(find::by_ids, |op| {
                op.summary("Lists files by their ids").field("keys", SchemaKind::Strings, "Ids of the files")
            }),
        )
        .api_route("/files/{id}", file_routes())
        .api_route(
            "/files/{id}/size",
            get_with(find::size, |op| {
                op.summary("Returns the size in bytes of a file, or of all files in a directory")
            }),
        )
        .api_route(
            "/files/{id}/copy",
            post_with(update::copy, |op| {
                op.summary("Copies a file")
                    .query(
                        "Name",
                        SchemaKind::String,
                        "Name of the copy; default: the name of the file, with (copy) if it is taken",
                    )
                    .query("DirID", SchemaKind::String, "Directory of the copy; default: the directory of the file")
                    .success::<201, Document>("The copy")
                    .error(409, "A file or directory with this name exists already")
                    .error(413, "The quota is exceeded")
                    .error(422, "The name is not valid")
            }),
        )
        .api_route(
            "/files/{id}/relationships/contents",
            get_with(list_children, |op| page_parameters(op.summary("Lists the children of a directory"))),
        )
        .merge(archive::routes())
        .merge(changes::routes())
        .merge(link::routes())
        .merge(references::routes())
        .merge(trash_routes())
        .merge(versions::routes())
}

/// Returns the routes that require no token, because their path contains a secret.
pub fn link_routes() -> ApiRouter<Platform> {
    archive::link_routes().merge(link::link_routes())
}

fn trash_routes() -> ApiRouter<Platform> {
    let all = get_with(update::list_trash, |op| page_parameters(op.summary("Lists the trash")))
        .delete_with(update::empty_trash, |op| {
            op.summary("Empties the trash").success::<204, ()>("The trash is empty")
        });
    let one = post_with(update::restore, |op| {
        op.summary("Restores a file or directory from the trash")
            .header("If-Match", REV_DESCRIPTION)
            .error(409, "A file or directory with this name exists already")
            .error(412, CONFLICT_DESCRIPTION)
    })
    .delete_with(update::delete_permanently, |op| {
        op.summary("Permanently deletes a file or directory in the trash")
            .header("If-Match", REV_DESCRIPTION)
            .success::<204, ()>("The file or directory is deleted")
            .error(409, CONFLICT_DESCRIPTION)
            .error(412, CONFLICT_DESCRIPTION)
    });
    ApiRouter::new().api_route("/files/trash", all).api_route("/files/trash/{id}", one)
}

/// Returns the routes of the operations on one file or directory.
fn file_routes() -> ApiMethodRouter<Platform> {
    get_with(show, |op| page_parameters(op.summary("Shows a file, or a directory with a page of its children")))
        .head_with(find::exists, |op| {
            op.summary("Returns whether a file or directory exists")
                .query("Type", SchemaKind::String, "Expected type: file or directory")
                .success::<200, ()>("It exists")
        })
        .patch_with(update::patch, |op| patch_parameters(op.summary("Changes a file or directory")))
        .delete_with(update::move_to_trash, |op| {
            op.summary("Moves a file or directory to the trash")
                .header("If-Match", REV_DESCRIPTION)
                .error(412, CONFLICT_DESCRIPTION)
        })
}

const CURSOR_DESCRIPTION: &str = "Cursor from the previous page";
pub const REV_DESCRIPTION: &str = "Expected current revision";
pub const DL_DESCRIPTION: &str = "Whether a browser should save the file instead of showing it";
const CONFLICT_DESCRIPTION: &str = "Concurrent modification";

fn path_parameter(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("Path", SchemaKind::String, "Absolute path").error(422, "The path is missing")
}

fn page_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.query("page[limit]", SchemaKind::Number, "Maximum number of files on a page")
        .query("page[cursor]", SchemaKind::String, CURSOR_DESCRIPTION)
        .query("page[skip]", SchemaKind::Number, "Number of files to skip before the page")
}

fn patch_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("If-Match", REV_DESCRIPTION)
        .field("name", SchemaKind::String, "New name")
        .field("dir_id", SchemaKind::String, "Id of the directory to move it to")
        .field("tags", SchemaKind::Strings, "New tags, which replace the old ones")
        .field("executable", SchemaKind::Boolean, "Whether the file is executable")
        .field("metadata", SchemaKind::Object, "New metadata, which replaces the old metadata")
        .field("cozyMetadata", SchemaKind::Object, "Metadata of Cozy; only favorite can be changed")
        .field("created_at", SchemaKind::String, "Creation time")
        .field("updated_at", SchemaKind::String, "Modification time")
        .field("move_to_trash", SchemaKind::Boolean, "Whether to move it to the trash")
        .field("permanent_delete", SchemaKind::Boolean, "Whether to delete it permanently")
        .success::<200, Document>("The changed file or directory")
        .success::<204, ()>("The file or directory is deleted")
        .error(409, "A file or directory with this name exists already")
        .error(412, CONFLICT_DESCRIPTION)
}

fn download_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    content_operation(op.summary("Downloads the content of a file").query("Dl", SchemaKind::Boolean, DL_DESCRIPTION))
}

/// Describes the headers and responses of a download.
pub fn content_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.header("Range", "Requested range, for example bytes=0-99")
        .header("If-Range", "ETag of the content to which the range refers")
        .header("If-None-Match", "ETags of the contents that the client has cached")
        .success::<200, BinaryContent>("The content")
        .success::<206, BinaryContent>("The requested range")
        .success::<304, ()>("The cached content is current")
        .error(416, "The range is not satisfiable")
}

/// Returns the routes that receive the content of files. They have no timeout as long as the client keeps sending.
pub fn upload_routes() -> ApiRouter<Platform> {
    let create = || {
        post_with(upload::create, |op| {
            upload_parameters(op.summary("Creates a file or a directory"))
                .query("Type", SchemaKind::String, "file or directory")
                .query("Name", SchemaKind::String, "Name of the file or directory")
                .query("Path", SchemaKind::String, "Path of the directory to create, instead of its name")
                .query("Recursive", SchemaKind::Boolean, "Whether to create missing parent directories")
                .query("Tags", SchemaKind::String, "Tags, separated by commas")
                .success::<201, Document>("The created file or directory")
                .error(409, "A file or directory with this name exists already")
        })
    };
    ApiRouter::new().api_route("/files", create()).api_route("/files/", create()).api_route(
        "/files/{id}",
        create().put_with(upload::overwrite, |op| {
            upload_parameters(op.summary("Replaces the content of a file")).header("If-Match", REV_DESCRIPTION)
        }),
    )
}

/// Describes the body, parameters and errors of both routes that upload the content of a file.
fn upload_parameters(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.binary_body("The content of the file")
        .query("Size", SchemaKind::Number, "Size in bytes, if there is no Content-Length")
        .query("Executable", SchemaKind::Boolean, "Whether the file is executable")
        .query("Encrypted", SchemaKind::Boolean, "Whether the client encrypted the content")
        .query("MetadataID", SchemaKind::String, "Id of metadata that was stored by POST /files/upload/metadata")
        .query("Metadata", SchemaKind::String, "Metadata as JSON, an older alternative to MetadataID")
        .query("SourceAccount", SchemaKind::String, "Id of the konnector's account from which the file comes")
        .query("SourceAccountIdentifier", SchemaKind::String, "Identifier of that account at its service")
        .query("CreatedAt", SchemaKind::String, "Creation time")
        .query("UpdatedAt", SchemaKind::String, "Modification time")
        .header("Content-MD5", "MD5 of the content in base64")
        .error(408, "The client stopped sending")
        .error(412, "Size or MD5 mismatch, or concurrent modification")
        .error(422, "A parameter or header is not valid")
}
