//! A walk through the documents of a type: by id, or along an index.

use std::collections::VecDeque;
use std::fmt;

use konnector_manifest::Doctype;
use konnector_query::{Direction, IndexRange};
use konnector_store::{Document, Index, IndexCursor, IndexHit, InstanceId};

use crate::{Platform, Result};

/// Documents read between two pauses.
const STEP: usize = 100;

/// Along which order.
pub(crate) enum Way {
    /// Of the ids.
    Ids,
    /// Of a part of an index.
    Index(Index, IndexRange),
}

/// The place of a document on the way; a later walk goes on from behind it. Opaque as text.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Id(String),
    Entry(IndexCursor),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Entry(position) => position.fmt(f),
        }
    }
}

/// Goes from document to document, in bounded steps with pauses between them. No snapshot: what is written meanwhile may be met or not, but
/// each document that is answered belongs to the way as it is then.
pub(crate) struct Walk<'a> {
    platform: &'a Platform,
    instance: &'a InstanceId,
    doctype: &'a Doctype,
    way: Way,
    direction: Direction,
    behind: Option<Place>,
    step: VecDeque<Met>,
    /// Documents and entries met.
    examined: u64,
}

enum Met {
    Document(Document),
    Entry(IndexHit),
}

impl<'a> Walk<'a> {
    /// Starts behind the document that a cursor, the text of a [`Place`], names.
    ///
    /// # Errors
    ///
    /// [`konnector_store::Error::Invalid`] for a cursor that was not made for this way.
    pub(crate) fn new(
        platform: &'a Platform,
        (instance, doctype): (&'a InstanceId, &'a Doctype),
        way: Way,
        direction: Direction,
        cursor: Option<&str>,
    ) -> Result<Self, konnector_store::Error> {
        let behind = match (&way, cursor) {
            (_, None) => None,
            (Way::Ids, Some(id)) => Some(Place::Id(id.to_owned())),
            (Way::Index(..), Some(position)) => Some(Place::Entry(position.parse()?)),
        };
        Ok(Self { platform, instance, doctype, way, direction, behind, step: VecDeque::new(), examined: 0 })
    }

    /// The next document, with its place; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(Document, Place)>, konnector_store::Error> {
        loop {
            let Some(met) = self.step.pop_front() else {
                if self.examined > 0 {
                    tokio::task::yield_now().await;
                }
                self.step = self.read()?;
                if self.step.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            self.examined += 1;
            let (document, place) = match met {
                Met::Document(document) => {
                    let place = Place::Id(document.id.clone());
                    (Some(document), place)
                }
                Met::Entry(IndexHit { id, cursor: position }) => (self.entry(&id)?, Place::Entry(position)),
            };
            self.behind = Some(place.clone());
            if let Some(document) = document {
                return Ok(Some((document, place)));
            }
        }
    }

    /// How many documents and entries were met so far.
    pub(crate) const fn examined(&self) -> u64 {
        self.examined
    }

    fn read(&self) -> Result<VecDeque<Met>, konnector_store::Error> {
        let store = &self.platform.store;
        Ok(match (&self.way, &self.behind) {
            (Way::Ids, behind) => {
                let behind = match behind {
                    Some(Place::Id(id)) => Some(id.as_str()),
                    Some(Place::Entry(_)) | None => None,
                };
                let documents = match self.direction {
                    Direction::Forward => store.page(self.instance, self.doctype, behind, STEP)?,
                    Direction::Backward => store.page_backward(self.instance, self.doctype, behind, STEP)?,
                };
                documents.documents.into_iter().map(Met::Document).collect()
            }
            (Way::Index(index, range), behind) => {
                let behind = match behind {
                    Some(Place::Entry(position)) => Some(position),
                    Some(Place::Id(_)) | None => None,
                };
                store.scan_index(index, range, self.direction, behind, STEP)?.into_iter().map(Met::Entry).collect()
            }
        })
    }

    /// The document of an entry, unless it was changed or deleted since the index was read.
    fn entry(&self, id: &str) -> Result<Option<Document>, konnector_store::Error> {
        let at = konnector_store::DocRef::new(self.instance, self.doctype, id);
        let found = self.platform.store.get(&at)?;
        Ok(found.filter(|document| match &self.way {
            Way::Ids => true,
            Way::Index(index, range) => range.contains(index.fields(), &document.id, &document.body),
        }))
    }
}
