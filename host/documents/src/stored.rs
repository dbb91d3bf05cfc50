//! Typed documents: conversion between structs and stored documents.

use konnector_manifest::Doctype;
use konnector_store::{Changes, DocRef, Document, InstanceId, Rev};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::realtime::{ChangeKind, RealtimeEvent};
use crate::{Core, Error, Result};

/// JSON object, the content of a document.
pub type Object = Map<String, Value>;

/// Maximum number of attempts of a change with fresh data after conflicts.
const MAX_COMMIT_ATTEMPTS: usize = 8;

/// A typed document with its id and revision.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// Document id.
    pub id: String,
    /// Revision that was read.
    pub rev: Rev,
    /// Content of the document.
    pub value: T,
}

impl<T: DeserializeOwned> Stored<T> {
    /// Parses the content of a document.
    pub fn from_document(doctype: &Doctype, document: Document) -> Result<Self> {
        let Document { id, rev, body } = document;
        match serde_json::from_value(Value::Object(body)) {
            Ok(value) => Ok(Self { id, rev, value }),
            Err(error) => {
                Err(Error::CorruptDocument { document: format!("{doctype}/{id}"), message: error.to_string() })
            }
        }
    }
}

/// Converts a value that serialises to a JSON object.
pub fn to_object(value: &impl Serialize) -> Result<Object> {
    let failed =
        |message: String| Error::CorruptDocument { document: std::any::type_name_of_val(value).to_owned(), message };
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(failed("it is not a JSON object".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Removes the fields that begin with `_`, which belong to the platform and which no API returns.
#[must_use]
pub fn without_reserved_fields(mut body: Object) -> Object {
    body.retain(|name, _| !name.starts_with('_'));
    body
}

/// Carries the reserved fields of a document over to its new content, those for which `keeps` returns true.
pub fn carry_reserved_fields(before: &Object, body: &mut Object, keeps: impl Fn(&str) -> bool) {
    for (name, value) in before.iter().filter(|(name, _)| name.starts_with('_') && keeps(name)) {
        body.insert(name.clone(), value.clone());
    }
}

/// Source of an event's document.
pub trait EventBody {
    /// Returns the fields of the document.
    fn into_object(self) -> Result<Object>;
}

impl EventBody for Object {
    fn into_object(self) -> Result<Object> {
        Ok(self)
    }
}

impl<T: Serialize> EventBody for &T {
    fn into_object(self) -> Result<Object> {
        to_object(self)
    }
}

/// Repeats an attempt with fresh data while it conflicts.
pub async fn retry_on_conflict<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    for _ in 1..MAX_COMMIT_ATTEMPTS {
        match attempt().await {
            Err(error) if error.is_conflict() => {}
            done => return done,
        }
    }
    attempt().await
}

impl Core {
    /// Loads a typed document; `None` if it does not exist.
    pub fn load<T: DeserializeOwned>(&self, at: &DocRef) -> Result<Option<Stored<T>>> {
        self.store().get(at)?.map(|document| Stored::from_document(&at.doctype, document)).transpose()
    }

    /// Loads all typed documents of a doctype.
    pub fn load_all<T: DeserializeOwned>(&self, instance: &InstanceId, doctype: &Doctype) -> Result<Vec<Stored<T>>> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store().list(instance, doctype, after.as_deref(), 500)?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.id.clone());
            for document in page {
                all.push(Stored::from_document(doctype, document)?);
            }
        }
    }

    /// Reads a document, changes it and writes it back; repeats with fresh data on a conflict. `change` returns whether
    /// there is anything to write.
    pub async fn modify<T, F>(&self, at: &DocRef, mut change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(&mut T, &mut Changes) -> Result<bool>,
    {
        for _ in 1..MAX_COMMIT_ATTEMPTS {
            match self.try_modify(at, &mut change).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_modify(at, &mut change).await
    }

    async fn try_modify<T, F>(&self, at: &DocRef, change: &mut F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(&mut T, &mut Changes) -> Result<bool>,
    {
        let Some(mut found) = self.load::<T>(at)? else { return Ok(None) };
        let mut changes = Changes::new();
        if change(&mut found.value, &mut changes)? {
            changes.put(at.clone(), &found.rev, to_object(&found.value)?);
            self.commit(changes).await?;
            self.publish(at, ChangeKind::Updated, &found.value);
        }
        Ok(Some(found.value))
    }

    /// Notifies listeners about a document, without the platform's own fields. The event is built only if there are
    /// listeners.
    pub fn publish(&self, at: &DocRef, kind: ChangeKind, body: impl EventBody) {
        if !self.bus().has_listeners(&at.instance) {
            return;
        }
        let mut doc = match body.into_object() {
            Ok(body) => without_reserved_fields(body),
            Err(error) => {
                tracing::error!(document = %at, %error, "an event cannot be created");
                return;
            }
        };
        doc.insert("_id".to_owned(), Value::String(at.id.clone()));
        self.bus().publish(RealtimeEvent {
            instance: at.instance.clone(),
            kind,
            doctype: at.doctype.clone(),
            id: at.id.clone(),
            doc,
        });
    }
}

/// Returns a new document id: time-ordered, 32 hexadecimal digits.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
