//! Reading what the user has already, as far as the manifest's rules reach.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::konnector::host::documents::Document as WitDocument;
use crate::{Error, Result, host};

/// Documents asked for at a time.
const PAGE: u32 = 500;
/// The contract's limit for one read.
const CHUNK_BYTES: u32 = 1024 * 1024;

/// A document of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    /// Its id.
    pub id: String,
    /// Its members.
    pub body: T,
}

/// The document with this id.
///
/// # Errors
/// [`Error::Denied`] when the manifest has no rule for it, [`Error::Bug`] when it does not exist or is of another form.
pub fn get_document<T: DeserializeOwned>(doctype: &str, id: &str) -> Result<Document<T>> {
    typed(host::documents::get(doctype, id)?)
}

/// All documents of a type whose members equal those of `selector`: `find_documents("io.cozy.bills", &json!({ "vendor": "Bank101" }))`.
///
/// # Errors
/// [`Error::Denied`] when the manifest has no rule for it, [`Error::Bug`] when a document is of another form.
pub fn find_documents<T: DeserializeOwned>(doctype: &str, selector: &impl Serialize) -> Result<Vec<Document<T>>> {
    let selector = serde_json::to_string(selector).map_err(|error| Error::bug(format!("the selector: {error}")))?;
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = host::documents::query(doctype, &selector, PAGE, cursor.as_deref())?;
        for document in page.items {
            found.push(typed(document)?);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}

/// The whole content of a file.
///
/// # Errors
/// [`Error::Denied`] when the manifest has no rule for it, [`Error::Bug`] when it does not exist.
pub fn read_file(id: &str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let chunk = host::files::read(id, content.len() as u64, CHUNK_BYTES)?;
        if chunk.is_empty() {
            return Ok(content);
        }
        content.extend(chunk);
    }
}

fn typed<T: DeserializeOwned>(document: WitDocument) -> Result<Document<T>> {
    let body = serde_json::from_str(&document.body)
        .map_err(|error| Error::bug(format!("the document {} is of another form: {error}", document.id)))?;
    Ok(Document { id: document.id, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Client, FileSource};
    use crate::save::{File, Item, save_documents, save_files};
    use crate::testing::Host;
    use serde_json::{Value, json};

    #[test]
    fn finds_documents_over_several_pages() {
        let _host = Host::new();
        let items = (0..1100).map(|number| {
            let body = json!({ "number": number, "even": number % 2 == 0 });
            Item::new(format!("{number:04}"), body).unwrap()
        });
        assert_eq!(save_documents("io.cozy.contacts", items).unwrap().created, 1100);
        let found: Vec<Document<Value>> = find_documents("io.cozy.contacts", &json!({ "even": true })).unwrap();
        assert_eq!(found.len(), 550);
        assert_eq!(found[549].body["number"], 1098);
        let one: Document<Value> = get_document("io.cozy.contacts", &found[1].id).unwrap();
        assert_eq!(one.body["number"], 2);
        let error = get_document::<Vec<u8>>("io.cozy.contacts", "0002").unwrap_err();
        insta::assert_snapshot!(error, @"the document 0002 is of another form: invalid type: map, expected a sequence at line 1 column 0");
        assert!(get_document::<Value>("io.cozy.contacts", "none").is_err());
    }

    #[test]
    fn reads_a_file_in_chunks() {
        let host = Host::new();
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let file = File::new("large.bin", FileSource::bytes(content.clone()));
        assert_eq!(save_files(&Client::new("https://a.example").unwrap(), [file]).unwrap().created, 1);
        assert_eq!(read_file(&host.files()[0].id), Ok(content));
    }
}
