//! Finds and reads the user's existing documents, as far as the manifest's rules permit.

use std::marker::PhantomData;
use std::ops::{Bound as RangeBound, RangeBounds};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::konnector::host::documents::{Bound, Bounds, Document as WitDocument, Order, Query, Range};
use crate::{Error, Locator, Result, host};

/// Documents per request.
const PAGE_SIZE: u32 = 500;

/// A document of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    /// Id of the document.
    pub id: String,
    /// Current revision, as in CouchDB.
    pub rev: String,
    /// Body, deserialised into the konnector's type.
    pub body: T,
}

/// Returns one document.
///
/// # Errors
///
/// [`Error::Denied`] if the manifest has no rule for it, [`Error::Bug`] if it does not exist or does not deserialise.
pub fn get<T: DeserializeOwned>(doctype: &str, locator: &Locator) -> Result<Document<T>> {
    deserialize(host::documents::get(doctype, locator)?)
}

/// Queries documents of a doctype, sorted by some of their fields. The host maintains an index of these fields, so the
/// query is fast for any number of documents.
///
/// ```no_run
/// # use konnector_sdk::prelude::*;
/// # fn run() -> Result<()> {
/// # #[derive(serde::Deserialize)] struct Bill;
/// let newest = documents::find::<Bill>("io.cozy.bills")
///     .equals("vendor", "Bank101")
///     .in_range("date", "2026-01-01".."2027-01-01")
///     .descending()
///     .first()?;
/// for bill in documents::find::<Bill>("io.cozy.bills").equals("vendor", "Bank101").iter() {
///     let bill = bill?.body;
/// }
/// # Ok(()) }
/// ```
pub fn find<T: DeserializeOwned>(doctype: impl Into<String>) -> DocumentQuery<T> {
    DocumentQuery { doctype: doctype.into(), query: Ok(query_all()), form: PhantomData }
}

fn query_all() -> Query {
    Query {
        index_fields: Vec::new(),
        equals: Vec::new(),
        range: Range::Any,
        order: Order::Ascending,
        limit: PAGE_SIZE,
        cursor: None,
    }
}

/// A query that has not been sent yet. Errors in it are reported when it is sent.
#[derive(Debug, Clone)]
#[must_use = "a query does nothing until it is iterated"]
pub struct DocumentQuery<T> {
    doctype: String,
    query: Result<Query>,
    form: PhantomData<T>,
}

impl<T: DeserializeOwned> DocumentQuery<T> {
    /// Selects documents whose field has this value. A nested field is written `cozyMetadata.sourceAccount`.
    pub fn equals(self, member: &str, value: impl Serialize) -> Self {
        self.change(|query| {
            if query.index_fields.len() != query.equals.len() {
                return Err(Error::bug(format!("`equals(\"{member}\", …)` follows a range or an order; put it first")));
            }
            query.index_fields.push(member.to_owned());
            query.equals.push(to_json(&value)?);
            Ok(())
        })
    }

    /// Selects only documents in which a field lies in a range: `"2026-01-01".."2027-01-01"`, `100..`.
    pub fn in_range<V: Serialize>(self, member: &str, range: impl RangeBounds<V>) -> Self {
        self.range(member, || {
            let (lower, upper) = (bound(range.start_bound())?, bound(range.end_bound())?);
            Ok(Range::Between(Bounds { lower, upper }))
        })
    }

    /// Selects only documents in which a field is a string that begins with `prefix`.
    pub fn starts_with(self, member: &str, prefix: impl Into<String>) -> Self {
        self.range(member, || Ok(Range::Prefix(prefix.into())))
    }

    /// Sorts by one more field, which the documents must have.
    pub fn order_by(self, member: &str) -> Self {
        self.change(|query| {
            query.index_fields.push(member.to_owned());
            Ok(())
        })
    }

    /// Sorts in descending order.
    pub fn descending(self) -> Self {
        self.change(|query| {
            query.order = Order::Descending;
            Ok(())
        })
    }

    /// Iterates over the documents; fetches each page when it is needed.
    ///
    /// # Errors
    ///
    /// Each step returns [`Error::Denied`] if the manifest has no rule for it, [`Error::Bug`] if a document does not
    /// deserialise. The iterator ends after an error.
    pub fn iter(self) -> DocumentIter<T> {
        DocumentIter { find: self, page: Vec::new().into_iter(), is_done: false }
    }

    /// Returns all documents.
    ///
    /// # Errors
    ///
    /// As [`DocumentQuery::iter`].
    pub fn collect(self) -> Result<Vec<Document<T>>> {
        self.iter().collect()
    }

    /// Returns the first document.
    ///
    /// # Errors
    ///
    /// As [`DocumentQuery::iter`].
    pub fn first(self) -> Result<Option<Document<T>>> {
        let one = self.change(|query| {
            query.limit = 1;
            Ok(())
        });
        one.iter().next().transpose()
    }

    fn range(self, member: &str, range: impl FnOnce() -> Result<Range>) -> Self {
        self.change(|query| {
            if query.index_fields.len() != query.equals.len() {
                return Err(Error::bug(format!(
                    "the range of `{member}` follows another range; a query can have only one"
                )));
            }
            query.index_fields.push(member.to_owned());
            query.range = range()?;
            Ok(())
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Query) -> Result<()>) -> Self {
        if let Ok(query) = &mut self.query
            && let Err(error) = change(query)
        {
            self.query = Err(error);
        }
        self
    }
}

/// Iterator over the documents of a query.
#[derive(Debug)]
pub struct DocumentIter<T> {
    find: DocumentQuery<T>,
    page: std::vec::IntoIter<WitDocument>,
    is_done: bool,
}

impl<T> DocumentIter<T> {
    /// Fetches the next page.
    fn fetch_next_page(&mut self) -> Result<()> {
        let query = self.find.query.as_mut().map_err(|error| error.clone())?;
        let page = host::documents::find(&self.find.doctype, query)?;
        self.page = page.documents.into_iter();
        self.is_done = page.next_cursor.is_none();
        query.cursor = page.next_cursor;
        Ok(())
    }
}

impl<T: DeserializeOwned> Iterator for DocumentIter<T> {
    type Item = Result<Document<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.page.next() {
                Some(document) => deserialize(document),
                None if self.is_done => return None,
                None => match self.fetch_next_page() {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            if found.is_err() {
                (self.page, self.is_done) = (Vec::new().into_iter(), true);
            }
            return Some(found);
        }
    }
}

fn bound<V: Serialize>(bound: RangeBound<&V>) -> Result<Bound> {
    Ok(match bound {
        RangeBound::Unbounded => Bound::Unbounded,
        RangeBound::Included(value) => Bound::Included(to_json(value)?),
        RangeBound::Excluded(value) => Bound::Excluded(to_json(value)?),
    })
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::bug(format!("cannot serialise a query value: {error}")))
}

fn deserialize<T: DeserializeOwned>(document: WitDocument) -> Result<Document<T>> {
    let body = serde_json::from_str(&document.body)
        .map_err(|error| Error::bug(format!("the document {} has an unexpected form: {error}", document.id)))?;
    Ok(Document { id: document.id, rev: document.rev, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save::{Item, save_documents};
    use crate::testing::MockHost;
    use serde_json::{Value, json};

    const CONTACTS: &str = "io.cozy.contacts";

    fn saved() -> MockHost {
        let host = MockHost::new();
        let items = (0..1100).map(|number| {
            let body = json!({ "number": number, "even": number % 2 == 0, "name": format!("n{number:04}") });
            Item::new(format!("{number:04}"), body).unwrap()
        });
        assert_eq!(save_documents(CONTACTS, items).unwrap().created, 1100);
        host
    }

    fn numbers(find: DocumentQuery<Value>) -> Vec<i64> {
        find.iter().map(|document| document.unwrap().body["number"].as_i64().unwrap()).collect()
    }

    #[test]
    fn finds_documents_over_several_pages() {
        let _host = saved();
        let even = numbers(find(CONTACTS).equals("even", true).order_by("number"));
        assert_eq!(even.len(), 550);
        assert_eq!((even[0], even[549]), (0, 1098));
        assert_eq!(numbers(find(CONTACTS)).len(), 1100);
    }

    #[test]
    fn finds_ranges_beginnings_and_the_last_one() {
        let _host = saved();
        assert_eq!(numbers(find(CONTACTS).equals("even", false).in_range("number", 5..9)), [5, 7]);
        assert_eq!(numbers(find(CONTACTS).in_range("number", 1098..)), [1098, 1099]);
        assert_eq!(numbers(find(CONTACTS).starts_with("name", "n100").descending())[..2], [1009, 1008]);
        let last = find::<Value>(CONTACTS).order_by("number").descending().first().unwrap().unwrap();
        assert_eq!(last.body["number"], 1099);
        assert_eq!(find::<Value>(CONTACTS).equals("even", "no").first(), Ok(None));
    }

    #[test]
    fn a_query_in_the_wrong_order_is_an_error() {
        let _host = MockHost::new();
        let misplaced = find::<Value>(CONTACTS).order_by("a").equals("b", 1).collect().unwrap_err();
        insta::assert_snapshot!(misplaced, @r#"`equals("b", …)` follows a range or an order; put it first"#);
        let twice = find::<Value>(CONTACTS).in_range("a", 1..).in_range("b", 1..).collect().unwrap_err();
        insta::assert_snapshot!(twice, @"the range of `b` follows another range; a query can have only one");
    }

    #[test]
    fn reads_one_document() {
        let _host = saved();
        let one: Document<Value> = get(CONTACTS, &Locator::Key("0002".to_owned())).unwrap();
        assert_eq!(one.body["number"], 2);
        let error = get::<Vec<u8>>(CONTACTS, &Locator::Id("0002".to_owned())).unwrap_err();
        insta::assert_snapshot!(error, @"the document 0002 has an unexpected form: invalid type: map, expected a sequence at line 1 column 0");
        assert!(get::<Value>(CONTACTS, &Locator::Id("none".to_owned())).is_err());
        assert!(find::<Vec<u8>>(CONTACTS).iter().count() == 1, "nothing comes after an error");
    }
}
