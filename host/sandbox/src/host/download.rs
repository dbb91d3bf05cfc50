//! `http.download`: an answer's body becomes a file without passing through the guest.

use bytes::{Bytes, BytesMut};

use super::Context;
use super::files::{append, target};
use super::promise::{BEGINNING, End, Promise};
use crate::bindings::konnector::host::files as wit;
use crate::capability::{Error, Stored};
use konnector_egress::{HttpError, Request};

/// Why there is no file.
pub(super) enum NotStored {
    Http(HttpError),
    Status(u16),
    Unexpected(String),
    File(Error),
}

impl From<HttpError> for NotStored {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<Error> for NotStored {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

/// Downloads. The upload is begun first: what the manifest or a limit forbids is refused before the vendor is asked. Dropping the future
/// at any point leaves no file.
pub(super) async fn download(context: &Context, request: Request, to: wit::Target) -> Result<Stored, NotStored> {
    let target = target(to)?;
    let promise = Promise::of(&target);
    let mut upload = context.begin_upload(target).await?;
    let mut stream = context.capabilities.http.open(request).await?;
    if !(200..300).contains(&stream.status()) {
        return Err(NotStored::Status(stream.status()));
    }
    let mut beginning = BytesMut::new();
    let mut chunk = stream.chunk().await?;
    while let Some(part) = chunk.take() {
        beginning.extend_from_slice(&part);
        if beginning.len() >= BEGINNING {
            break;
        }
        chunk = stream.chunk().await?;
    }
    promise.check(&beginning).map_err(NotStored::Unexpected)?;
    let limit = context.capabilities.limits.file_bytes;
    let mut next = Some(beginning.freeze()).filter(|beginning: &Bytes| !beginning.is_empty());
    let mut end = End::default();
    while let Some(part) = next {
        end.push(&part);
        append(upload.as_mut(), part, &context.meter, limit).await?;
        next = stream.chunk().await?;
    }
    if !promise.is_whole(&end) {
        // As where the connection breaks off: another try may bring the rest.
        let text = "the PDF is cut off: there is no %%EOF in its last 1 KiB".to_owned();
        return Err(NotStored::Http(HttpError::Protocol(text)));
    }
    Ok(upload.commit().await?)
}
