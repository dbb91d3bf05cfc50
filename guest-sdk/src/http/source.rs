use std::fmt;

use url::Url;

use super::Request;
use crate::bindings::konnector::host::files::{SavedFile, Target};
use crate::http::Client;
use crate::{Error, Result, host};

/// Source of a file's content, which is fetched only if the user does not have the file yet.
pub struct FileSource(SourceKind);

enum SourceKind {
    /// The host fetches it; the bytes do not pass through the konnector.
    Request(Request),
    Bytes(Vec<u8>),
    Generated(Box<dyn Fn() -> Result<Vec<u8>>>),
}

impl FileSource {
    /// Creates a source from content in memory.
    pub fn from_bytes(content: impl Into<Vec<u8>>) -> Self {
        Self(SourceKind::Bytes(content.into()))
    }

    /// Creates a source whose content the konnector produces when it is needed.
    pub fn from_fn(make: impl Fn() -> Result<Vec<u8>> + 'static) -> Self {
        Self(SourceKind::Generated(Box::new(make)))
    }

    pub(crate) fn store(&self, client: &Client, target: &Target) -> Result<SavedFile> {
        match &self.0 {
            SourceKind::Request(request) => client.download(request, target),
            SourceKind::Bytes(content) => store(target, content),
            SourceKind::Generated(make) => store(target, &make()?),
        }
    }

    /// Returns the last segment of the URL, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        let SourceKind::Request(request) = &self.0 else { return None };
        request.url().path_segments()?.next_back().filter(|name| !name.is_empty())
    }
}

/// Stores content of the konnector, unless it is a truncated PDF. The host checks downloads itself.
fn store(target: &Target, content: &[u8]) -> Result<SavedFile> {
    /// Readers search for the end of a PDF in this many last bytes (ISO 32000-1, annex H, note 18).
    const PDF_TRAILER_SIZE: usize = 1 << 10;
    let end = content.get(content.len().saturating_sub(PDF_TRAILER_SIZE)..).unwrap_or(content);
    if content.starts_with(b"%PDF-") && !end.windows(5).any(|window| window == b"%%EOF") {
        return Err(Error::vendor_down("the PDF is truncated; its last 1 KiB contains no %%EOF"));
    }
    host::store(target, content)
}

/// A GET request for that URL.
impl From<Url> for FileSource {
    fn from(url: Url) -> Self {
        Request::new("GET", url).into()
    }
}

impl From<Request> for FileSource {
    fn from(request: Request) -> Self {
        Self(SourceKind::Request(request))
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SourceKind::Request(request) => write!(formatter, "FileSource({})", request.url()),
            SourceKind::Bytes(content) => write!(formatter, "FileSource({} bytes)", content.len()),
            SourceKind::Generated(_) => formatter.write_str("FileSource(generated)"),
        }
    }
}
