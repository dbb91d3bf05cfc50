//! `_find`, which finds the documents that match a selector through an index.

use konnector_manifest::{Doctype, Verb};
use konnector_query::{Direction, Plan, Projection, Query, QueryBudget, QueryError, Selector, plan};
use konnector_store::{Document, MAX_PAGE_BYTES, approximate_size};
use serde_json::{Value, json};

use crate::cursor;
use crate::document::check_readable;
use crate::handles::Documents;
use crate::instance::Instance;
use crate::principal::Principal;
use crate::scan::{DocumentScan, ScanCursor, ScanOrder};
use crate::stored::{Object, without_reserved_fields};
use crate::{Error, Result};

/// Ratio of examined to found documents above which a warning is returned (CouchDB, `index_scan_warning_threshold`).
const SCAN_WARNING_RATIO: u64 = 10;

/// A page of results.
#[derive(Debug, Clone, PartialEq)]
pub struct FindPage {
    /// The documents, with `_id` and `_rev`, or the fields that the query selects.
    pub documents: Vec<Object>,
    /// Maximum number of documents on the page.
    pub limit: usize,
    /// Where the next page starts; empty if no document was found.
    pub bookmark: String,
    /// Number of examined documents.
    pub examined: u64,
    /// Whether the index leads to many documents that do not match.
    pub scan_warning: bool,
    /// Whether the page ends early because its documents are large.
    pub truncated: bool,
}

impl FindPage {
    /// Returns whether there may be another page (Cozy API: as soon as this one is full).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.truncated || (self.limit > 0 && self.documents.len() >= self.limit)
    }
}

/// A declared index, as a candidate for a query.
struct CandidateIndex {
    fields: Vec<String>,
    partial: Option<Object>,
}

impl Documents {
    /// Returns the documents that match a query. The results never contain secrets.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without a rule on the whole doctype; [`Error::Query`] if no index covers the query, or the
    /// bookmark belongs to another query.
    pub async fn find(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        query: Query,
    ) -> Result<FindPage> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        let candidates = self.candidate_indexes(instance, doctype, &query)?;
        let members: Vec<&[String]> = candidates.iter().map(|candidate| candidate.fields.as_slice()).collect();
        let plan = plan(&query.selector, query.sort.as_ref(), &members)?;
        let mut selector = query.selector.clone();
        let (way, direction) = match plan {
            Plan::ById(id) => return self.find_by_id(instance, doctype, &query, &id),
            Plan::FullScan(direction) => (ScanOrder::Ids, direction),
            Plan::Index { index, range, direction } => {
                let Some(candidate) = candidates.get(index) else {
                    return Err(QueryError::NoIndex { fields: Vec::new() }.into());
                };
                if let Some(partial) = &candidate.partial {
                    selector = selector.and(Selector::parse(partial)?);
                }
                let index = self.core.store().ensure_index(&instance.id, doctype, &candidate.fields).await?;
                (ScanOrder::Index(index, range), direction)
            }
        };
        self.collect_matches(instance, doctype, &query, &selector, (way, direction)).await
    }

    /// Returns the usable indexes: the one that the query names, or all that cover every document of the doctype.
    fn candidate_indexes(&self, instance: &Instance, doctype: &Doctype, query: &Query) -> Result<Vec<CandidateIndex>> {
        let mut candidates = Vec::new();
        for (design, _) in self.load_designs(instance, doctype)? {
            for (name, index) in design.indexes {
                let wanted = match &query.use_index {
                    Some((wanted, wanted_name)) => {
                        *wanted == design.id && wanted_name.as_ref().is_none_or(|wanted| *wanted == name)
                    }
                    None => index.partial_filter_selector.is_none(),
                };
                if wanted {
                    candidates.push(CandidateIndex { fields: index.fields, partial: index.partial_filter_selector });
                }
            }
        }
        Ok(candidates)
    }

    fn find_by_id(&self, instance: &Instance, doctype: &Doctype, query: &Query, id: &str) -> Result<FindPage> {
        let found = match self.core.store().get(&instance.doc(doctype, id)) {
            // No document can have an invalid id.
            Err(konnector_store::Error::Invalid { .. } | konnector_store::Error::TooLarge { .. }) => None,
            found => found?,
        };
        let examined = u64::from(found.is_some());
        let list = format!("scan/{doctype}/_id");
        let is_bookmark = |bookmark: &String| cursor::decode(&list, bookmark).as_deref() == Some(id);
        if query.bookmark.as_ref().is_some_and(|bookmark| !is_bookmark(bookmark)) {
            return Err(invalid_bookmark().into());
        }
        let documents: Vec<Object> = found
            .filter(|_| query.limit > 0 && query.skip == 0 && query.bookmark.is_none())
            .map(|document| {
                match_and_project(
                    document,
                    &query.selector,
                    &Projection::new(&query.fields),
                    &mut QueryBudget::default(),
                )
            })
            .transpose()?
            .flatten()
            .into_iter()
            .collect();
        let bookmark = if documents.is_empty() { String::new() } else { cursor::encode(&list, id) };
        Ok(FindPage { documents, limit: query.limit, bookmark, examined, scan_warning: false, truncated: false })
    }

    async fn collect_matches(
        &self,
        instance: &Instance,
        doctype: &Doctype,
        query: &Query,
        selector: &Selector,
        (way, direction): (ScanOrder, Direction),
    ) -> Result<FindPage> {
        let bookmark = query.bookmark.as_deref();
        let mut walk =
            DocumentScan::new(&self.core, (&instance.id, doctype), way, direction, bookmark).map_err(|error| {
                match error {
                    konnector_store::Error::Invalid { .. } => Error::from(invalid_bookmark()),
                    error => error.into(),
                }
            })?;
        let (mut documents, mut skipped, mut last, mut bytes) = (Vec::new(), 0, None::<ScanCursor>, 0);
        let (projection, mut cost) = (Projection::new(&query.fields), QueryBudget::default());
        // If documents are large, a page has fewer than requested; its bookmark continues after them.
        while documents.len() < query.limit && bytes < MAX_PAGE_BYTES {
            cost.check_clock()?;
            let Some((document, place)) = walk.next().await? else { break };
            let Some(document) = match_and_project(document, selector, &projection, &mut cost)? else { continue };
            last = Some(place);
            if skipped < query.skip {
                skipped += 1;
            } else {
                bytes += approximate_size(&document);
                documents.push(document);
            }
        }
        let cut = bytes >= MAX_PAGE_BYTES;
        let examined = walk.examined();
        let found = (documents.len() + skipped) as u64;
        let wasteful = found > 0 && examined / found > SCAN_WARNING_RATIO;
        let bookmark = last.map(|place| walk.cursor(&place)).unwrap_or_default();
        Ok(FindPage { documents, limit: query.limit, bookmark, examined, scan_warning: wasteful, truncated: cut })
    }
}

const fn invalid_bookmark() -> QueryError {
    QueryError::Field { name: "bookmark", expected: "the bookmark of the previous page" }
}

/// Returns the selected fields of a document if it matches.
fn match_and_project(
    document: Document,
    selector: &Selector,
    projection: &Projection,
    cost: &mut QueryBudget,
) -> Result<Option<Object>, QueryError> {
    let Document { id, rev, body } = document;
    let mut members = Object::new();
    members.insert("_id".to_owned(), json!(id));
    members.insert("_rev".to_owned(), json!(rev));
    members.extend(without_reserved_fields(body));
    let document = Value::Object(members);
    if !selector.matches(&document, cost)? {
        return Ok(None);
    }
    let Value::Object(members) = document else { return Ok(None) };
    Ok(Some(projection.apply(members)))
}
