//! Documents and their storage format.

use konnector_manifest::Doctype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Map;
use crate::blob::{BlobId, Blobs};
use crate::changes::DeleteMode;
use crate::error::{Conflict, Error, Result};
use crate::frame;
use crate::fsck::BlobLink;
use crate::id::DocRef;
use crate::key::{self, Keyspace};
use crate::kv::Kv;
use crate::rev::{BodyDigest, Rev};
use crate::view::{self, View};

/// Maximum size of a document, in bytes of JSON.
pub(crate) const MAX_DOCUMENT_BYTES: usize = konnector_manifest::json_budget::MAX_DOCUMENT_BYTES;
/// Documents up to this size are stored in the map, larger ones in a blob; the rest of an entry takes less than 512
/// bytes.
const MAX_INLINE_BYTES: usize = frame::MAX_ENTRY_BYTES - 512;
/// Maximum nesting depth of a document: JSON is read up to 128 levels, and the entry adds its own.
const MAX_DEPTH: usize = 120;

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Id, unique within its instance and type.
    pub id: String,
    /// Current revision.
    pub rev: Rev,
    /// Body, without `_id` and `_rev`.
    pub body: Map,
}

/// The stored state of a document's entry. The document is unchanged for as long as its stamp is equal.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentStamp(Vec<u8>);

impl std::fmt::Debug for DocumentStamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stamp").field(&self.0.len()).finish()
    }
}

/// A document's entry. It contains the type, because the type in the key may be truncated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DocumentRecord {
    pub(crate) rev: Rev,
    pub(crate) doctype: Doctype,
    #[serde(rename = "content")]
    pub(crate) body: StoredBody,
    /// The SHA-256 of a body in a blob, hexadecimal. A body within the entry is covered by the checksum of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

impl DocumentRecord {
    /// Returns the blob of the body, if the body is stored in one.
    pub(crate) fn blob_link(&self) -> Option<BlobLink> {
        self.body.blob().map(|blob| BlobLink { blob, size: None, sha256: self.sha256.clone() })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoredBody {
    #[serde(rename = "body")]
    Inline(Map),
    Blob(BlobId),
}

impl StoredBody {
    pub(crate) fn blob(&self) -> Option<BlobId> {
        match self {
            Self::Inline(_) => None,
            Self::Blob(id) => Some(*id),
        }
    }
}

/// Tombstone of a deleted document. If the document is created again, its revisions continue from here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) rev: Rev,
}

/// A body to be stored.
#[derive(Debug, Clone)]
pub(crate) struct PendingBody {
    digest: BodyDigest,
    size: usize,
    map: Map,
    /// The blob of a body that is too large for the map, and its SHA-256.
    blob: Option<(BlobId, String)>,
}

impl PendingBody {
    pub(crate) fn new(body: Map) -> Self {
        let json = to_json(&body);
        Self { digest: BodyDigest::of(&json), size: json.len(), map: body, blob: None }
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    fn stored(&self) -> StoredBody {
        self.blob.as_ref().map_or_else(|| StoredBody::Inline(self.map.clone()), |(blob, _)| StoredBody::Blob(*blob))
    }

    /// Moves a large body to a blob of its own and returns the blob; the caller removes it if no document ends up
    /// referring to it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] over 8 MiB, [`Error::Invalid`] for a body that could not be read back.
    pub(crate) async fn spill(&mut self, blobs: &dyn Blobs, document: &DocRef) -> Result<Option<BlobId>> {
        if self.blob.is_some() {
            return Ok(None);
        }
        if self.size > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge {
                what: format!("document {document}"),
                size: self.size,
                limit: MAX_DOCUMENT_BYTES,
            });
        }
        if self.map.values().any(|value| !is_shallow(value, MAX_DEPTH)) {
            let reason = format!("{document} is nested deeper than {MAX_DEPTH} levels; flatten it");
            return Err(Error::Invalid { field: "document", reason });
        }
        if self.size <= MAX_INLINE_BYTES {
            return Ok(None);
        }
        let mut writer = blobs.create().await?;
        writer.write(to_json(&self.map).into()).await?;
        let written = writer.finish().await?;
        self.blob = Some((written.id, hex::encode(written.sha256)));
        Ok(Some(written.id))
    }
}

fn to_json(body: &Map) -> Vec<u8> {
    // A map of JSON values can always be serialized.
    serde_json::to_vec(body).unwrap_or_default()
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_shallow(item, below)),
        Value::Object(fields) => fields.values().all(|field| is_shallow(field, below)),
        _ => true,
    }
}

/// Returns the key of a document; `None` if its id is longer than the maximum, so it cannot exist.
pub(crate) fn lookup_key(space: Keyspace, document: &DocRef) -> Result<Option<Vec<u8>>> {
    match key::of_document(space, document) {
        Ok(key) => Ok(Some(key)),
        Err(Error::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the stamp of a document.
pub(crate) fn stamp(kv: &dyn Kv, document: &DocRef) -> Result<Option<DocumentStamp>> {
    let Some(key) = lookup_key(Keyspace::Document, document)? else { return Ok(None) };
    Ok(kv.get(&key)?.map(DocumentStamp))
}

/// Reads a document.
pub(crate) fn read(kv: &dyn Kv, blobs: &dyn Blobs, document: &DocRef) -> Result<Option<Document>> {
    resolve(kv, blobs, document, read_record(kv, document)?)
}

/// Builds a document from its entry.
pub(crate) fn resolve(
    kv: &dyn Kv,
    blobs: &dyn Blobs,
    document: &DocRef,
    mut record: Option<DocumentRecord>,
) -> Result<Option<Document>> {
    while let Some(found) = record {
        match body(blobs, &found) {
            Ok(body) => return Ok(Some(Document { id: document.id.clone(), rev: found.rev, body })),
            Err(Error::BlobNotFound { blob }) => {
                // A commit may have replaced the document and removed its old blob between the two reads.
                record = read_record(kv, document)?;
                if record.as_ref().is_some_and(|now| now.body == found.body) {
                    let reason = format!("its body, blob {blob}, is missing");
                    return Err(Error::Corrupt { what: format!("document {document}"), reason });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read_record(kv: &dyn Kv, document: &DocRef) -> Result<Option<DocumentRecord>> {
    let Some(key) = lookup_key(Keyspace::Document, document)? else { return Ok(None) };
    view::read(kv, &key)
}

/// Returns the body of the document under a key, as seen by a commit.
///
/// # Errors
///
/// [`Error::BlobNotFound`] if the document is being replaced.
pub(crate) fn body_of(view: &mut View<'_>, blobs: &dyn Blobs, key: &[u8]) -> Result<Option<Map>> {
    view.get::<DocumentRecord>(key)?.map(|record| body(blobs, &record)).transpose()
}

/// Returns the body of a document.
///
/// # Errors
///
/// [`Error::BlobNotFound`] if the document is being replaced; [`Error::Corrupt`] if the body differs from the
/// written one.
pub(crate) fn body(blobs: &dyn Blobs, record: &DocumentRecord) -> Result<Map> {
    match &record.body {
        StoredBody::Inline(body) => Ok(body.clone()),
        StoredBody::Blob(blob) => parse_body(*blob, record.sha256.as_deref(), &blobs.read(blob)?),
    }
}

/// Reads a body from a blob.
///
/// # Errors
///
/// [`Error::Corrupt`] if the body differs from the written one.
pub(crate) fn parse_body(blob: BlobId, sha256: Option<&str>, bytes: &[u8]) -> Result<Map> {
    let corrupt = |reason: String| Error::Corrupt { what: format!("blob {blob}"), reason };
    if let Some(recorded) = sha256 {
        let found = hex::encode(Sha256::digest(bytes));
        if found != recorded {
            return Err(corrupt(format!("its SHA-256 is {found} instead of {recorded}")));
        }
    }
    serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))
}

/// Writes a new document, on top of its tombstone if one exists; returns its revision.
pub(crate) fn create(
    view: &mut View<'_>,
    document: &DocRef,
    body: &PendingBody,
    assigned: Option<&Rev>,
) -> Result<Rev> {
    let key = key::of_document(Keyspace::Document, document)?;
    if view.get::<DocumentRecord>(&key)?.is_some() {
        return Err(Conflict::Exists { document: document.clone() }.into());
    }
    let tombstone_key = key::of_document(Keyspace::Tombstone, document)?;
    let tombstone = view.get::<Tombstone>(&tombstone_key)?;
    if tombstone.is_some() {
        view.remove(tombstone_key);
    }
    let rev = next_rev(document, tombstone.map(|tombstone| tombstone.rev).as_ref(), body.digest, assigned)?;
    write_record(view, key, document, &rev, body)?;
    Ok(rev)
}

/// Replaces a document; returns its new revision and its old entry.
pub(crate) fn replace(
    view: &mut View<'_>,
    document: &DocRef,
    expected: &Rev,
    body: &PendingBody,
    assigned: Option<&Rev>,
) -> Result<(Rev, DocumentRecord)> {
    let (key, old) = require_rev(view, document, expected)?;
    let rev = next_rev(document, Some(expected), body.digest, assigned)?;
    write_record(view, key, document, &rev, body)?;
    Ok((rev, old))
}

/// Removes a document; returns the revision of the deletion and the old entry.
pub(crate) fn delete(
    view: &mut View<'_>,
    document: &DocRef,
    expected: &Rev,
    mode: DeleteMode,
    assigned: Option<&Rev>,
) -> Result<(Rev, DocumentRecord)> {
    let (key, old) = require_rev(view, document, expected)?;
    let rev = next_rev(document, Some(expected), BodyDigest::DELETED, assigned)?;
    view.remove(key);
    if mode == DeleteMode::Tombstone {
        view.put(key::of_document(Keyspace::Tombstone, document)?, &Tombstone { rev: rev.clone() })?;
    }
    Ok((rev, old))
}

/// Requires the document to exist.
pub(crate) fn require(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    match view.get::<DocumentRecord>(&key::of_document(Keyspace::Document, document)?)? {
        Some(_) => Ok(()),
        None => Err(Error::NotFound { document: document.clone() }),
    }
}

fn require_rev(view: &mut View<'_>, document: &DocRef, expected: &Rev) -> Result<(Vec<u8>, DocumentRecord)> {
    let key = key::of_document(Keyspace::Document, document)?;
    match view.get::<DocumentRecord>(&key)? {
        Some(record) if record.rev == *expected => Ok((key, record)),
        other => Err(Conflict::Revision {
            document: document.clone(),
            expected: expected.clone(),
            current: other.map(|record| record.rev),
        }
        .into()),
    }
}

/// Returns the revision after `previous`, or the one that another store assigned.
fn next_rev(document: &DocRef, previous: Option<&Rev>, body: BodyDigest, assigned: Option<&Rev>) -> Result<Rev> {
    match assigned {
        None => Ok(Rev::after(previous, body)),
        Some(assigned) if assigned.generation() > previous.map_or(0, Rev::generation) => Ok(assigned.clone()),
        Some(assigned) => Err(Conflict::Revision {
            document: document.clone(),
            expected: assigned.clone(),
            current: previous.cloned(),
        }
        .into()),
    }
}

fn write_record(view: &mut View<'_>, key: Vec<u8>, document: &DocRef, rev: &Rev, body: &PendingBody) -> Result<()> {
    let (doctype, sha256) = (document.doctype.clone(), body.blob.as_ref().map(|(_, sha256)| sha256.clone()));
    view.put(key, &DocumentRecord { rev: rev.clone(), doctype, body: body.stored(), sha256 })
}
