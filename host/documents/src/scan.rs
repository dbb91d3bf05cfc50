//! Scans over the documents of a doctype, by id or along an index.

use std::collections::VecDeque;

use konnector_manifest::Doctype;
use konnector_query::{Direction, IndexRange};
use konnector_store::{Document, Index, IndexCursor, IndexHit, InstanceId};

use crate::{Core, Result, cursor};

/// Number of documents read between two yields.
const SCAN_BATCH_SIZE: usize = 100;

/// Order of a scan.
pub enum ScanOrder {
    /// By id.
    Ids,
    /// By a range of an index.
    Index(Index, IndexRange),
}

/// Position of a document in a scan; a later scan continues after it. [`DocumentScan::cursor`] makes it a string.
#[derive(Debug, Clone)]
pub enum ScanCursor {
    Id(String),
    Entry(IndexCursor),
}

/// Returns the name of a scan for its cursors: the doctype and the order.
fn list_name(doctype: &Doctype, order: &ScanOrder) -> String {
    match order {
        ScanOrder::Ids => format!("scan/{doctype}"),
        ScanOrder::Index(index, _) => format!("scan/{doctype}/{}", index.fields().join("/")),
    }
}

/// Iterates over documents in bounded batches with yields between them. Not a snapshot: concurrent writes may or may
/// not be seen, but each returned document matches the scan when it is read.
pub struct DocumentScan<'a> {
    core: &'a Core,
    instance: &'a InstanceId,
    doctype: &'a Doctype,
    order: ScanOrder,
    direction: Direction,
    after: Option<ScanCursor>,
    batch: VecDeque<ScanRow>,
    /// Number of documents and index entries read.
    examined: u64,
}

enum ScanRow {
    Document(Document),
    Entry(IndexHit),
}

impl<'a> DocumentScan<'a> {
    /// Starts after the document of a cursor, which [`DocumentScan::cursor`] returned.
    ///
    /// # Errors
    ///
    /// [`konnector_store::Error::Invalid`] for a cursor of another doctype or order, or a made-up one.
    pub fn new(
        core: &'a Core,
        (instance, doctype): (&'a InstanceId, &'a Doctype),
        way: ScanOrder,
        direction: Direction,
        cursor: Option<&str>,
    ) -> Result<Self, konnector_store::Error> {
        let invalid = || konnector_store::Error::Invalid {
            field: "cursor",
            reason: "it is not a cursor of an earlier page of this query".to_owned(),
        };
        let position = cursor.map(|text| cursor::decode(&list_name(doctype, &way), text).ok_or_else(invalid));
        let behind = match (&way, position.transpose()?) {
            (_, None) => None,
            (ScanOrder::Ids, Some(id)) => Some(ScanCursor::Id(id)),
            (ScanOrder::Index(..), Some(position)) => Some(ScanCursor::Entry(position.parse()?)),
        };
        Ok(Self { core, instance, doctype, order: way, direction, after: behind, batch: VecDeque::new(), examined: 0 })
    }

    /// Returns the next document with its position; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(Document, ScanCursor)>, konnector_store::Error> {
        loop {
            let Some(met) = self.batch.pop_front() else {
                if self.examined > 0 {
                    tokio::task::yield_now().await;
                }
                self.batch = self.read_batch()?;
                if self.batch.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            self.examined += 1;
            let (document, place) = match met {
                ScanRow::Document(document) => {
                    let place = ScanCursor::Id(document.id.clone());
                    (Some(document), place)
                }
                ScanRow::Entry(IndexHit { id, cursor: position }) => {
                    (self.document_of_entry(&id)?, ScanCursor::Entry(position))
                }
            };
            self.after = Some(place.clone());
            if let Some(document) = document {
                return Ok(Some((document, place)));
            }
        }
    }

    /// Returns the cursor of a position in this scan.
    #[must_use]
    pub fn cursor(&self, position: &ScanCursor) -> String {
        let list = list_name(self.doctype, &self.order);
        match position {
            ScanCursor::Id(id) => cursor::encode(&list, id),
            ScanCursor::Entry(position) => cursor::encode(&list, &position.to_string()),
        }
    }

    /// Returns the number of documents and index entries read so far.
    pub const fn examined(&self) -> u64 {
        self.examined
    }

    fn read_batch(&self) -> Result<VecDeque<ScanRow>, konnector_store::Error> {
        let store = &self.core.store();
        Ok(match (&self.order, &self.after) {
            (ScanOrder::Ids, behind) => {
                let behind = match behind {
                    Some(ScanCursor::Id(id)) => Some(id.as_str()),
                    Some(ScanCursor::Entry(_)) | None => None,
                };
                let documents = match self.direction {
                    Direction::Forward => store.page(self.instance, self.doctype, behind, SCAN_BATCH_SIZE)?,
                    Direction::Backward => store.page_backward(self.instance, self.doctype, behind, SCAN_BATCH_SIZE)?,
                };
                documents.documents.into_iter().map(ScanRow::Document).collect()
            }
            (ScanOrder::Index(index, range), behind) => {
                let behind = match behind {
                    Some(ScanCursor::Entry(position)) => Some(position),
                    Some(ScanCursor::Id(_)) | None => None,
                };
                store
                    .scan_index(index, range, self.direction, behind, SCAN_BATCH_SIZE)?
                    .into_iter()
                    .map(ScanRow::Entry)
                    .collect()
            }
        })
    }

    /// Returns the document of an index entry, unless it was changed or deleted since the index was read.
    fn document_of_entry(&self, id: &str) -> Result<Option<Document>, konnector_store::Error> {
        let at = konnector_store::DocRef::new(self.instance, self.doctype, id);
        let found = self.core.store().get(&at)?;
        Ok(found.filter(|document| match &self.order {
            ScanOrder::Ids => true,
            ScanOrder::Index(index, range) => range.contains(index.fields(), &document.id, &document.body),
        }))
    }
}
