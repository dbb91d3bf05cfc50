//! Design documents, as CouchDB calls the indexes that clients declare for a doctype.
//!
//! They are stored apart from the documents of the doctype. The store identifies its own indexes only by their fields,
//! so several design documents may share one of them.

use std::collections::BTreeMap;

use konnector_manifest::{Doctype, Verb};
use konnector_store::{Changes, DocRef, Rev};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::doctype::DESIGNS;
use crate::document::{check_readable, check_writable};
use crate::handles::Documents;
use crate::instance::Instance;
use crate::principal::Principal;
use crate::stored::{Object, Stored, retry_on_conflict, to_object};
use crate::{Error, Result};
use konnector_query::{FieldPath, QueryError, Selector};

/// Maximum number of indexes of a doctype, because each query examines all of them, and each change of a document is
/// written to all of them.
const MAX_INDEXES: usize = 256;

/// Definition of an index that a client declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexDefinition {
    /// Paths of the indexed fields.
    pub fields: Vec<String>,
    /// Selector of the documents that the index covers; all if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_filter_selector: Option<Object>,
}

/// The indexes of one design document, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// Name without `_design/`.
    #[serde(skip)]
    pub id: String,
    /// Definitions of the indexes, by name.
    pub indexes: BTreeMap<String, IndexDefinition>,
}

/// Request of a client to declare an index.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIndex {
    /// Design document, without `_design/`; derived from the definition by default.
    pub design: Option<String>,
    /// Name; derived from the definition by default.
    pub name: Option<String>,
    /// Definition of the index.
    pub definition: IndexDefinition,
}

/// Result of a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredIndex {
    /// Whether no index had this name and definition before.
    pub created: bool,
    /// Design document, without `_design/`.
    pub design: String,
    /// Name of the index.
    pub name: String,
}

impl NewIndex {
    /// Parses the body of an `_index`.
    ///
    /// # Errors
    ///
    /// [`QueryError`], which names the field.
    pub fn parse(body: &Object) -> Result<Self, QueryError> {
        let wrong = |name, wanted| QueryError::Field { name, expected: wanted };
        let index = body.get("index").and_then(Value::as_object).ok_or(wrong("index", "an object with fields"))?;
        let fields =
            index.get("fields").and_then(Value::as_array).ok_or(wrong("index.fields", "a list of field names"))?;
        let field = |field: &Value| match field {
            Value::String(name) => Ok(name.clone()),
            // The direction does not matter, because an index is read both ways.
            Value::Object(object) if object.len() == 1 => {
                object.keys().next().cloned().ok_or(wrong("index.fields", "a list of field names"))
            }
            _ => Err(wrong("index.fields", "a list of field names")),
        };
        let fields = fields.iter().map(field).collect::<Result<Vec<_>, _>>()?;
        for field in &fields {
            // Clients must not search the platform's reserved fields.
            if FieldPath::parse(field)?.is_reserved() {
                return Err(wrong("index.fields", "fields that do not begin with _, except _id"));
            }
        }
        let partial_filter_selector = match index.get("partial_filter_selector") {
            None | Some(Value::Null) => None,
            Some(Value::Object(selector)) => {
                Selector::parse(selector)?;
                Some(selector.clone()).filter(|selector| !selector.is_empty())
            }
            Some(_) => return Err(wrong("index.partial_filter_selector", "a selector")),
        };
        let text = |name: &'static str| match body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.len() <= 128 => Ok(Some(text.clone())),
            Some(_) => Err(wrong(name, "a string of 1 to 128 characters")),
        };
        let design = text("ddoc")?.map(|design| design.strip_prefix("_design/").unwrap_or(&design).to_owned());
        Ok(Self { design, name: text("name")?, definition: IndexDefinition { fields, partial_filter_selector } })
    }
}

impl IndexDefinition {
    /// Returns a default name, which is the same for the same definition.
    fn default_name(&self) -> String {
        let written = json!({ "fields": self.fields, "partial_filter_selector": self.partial_filter_selector });
        let mut name = hex::encode(Sha256::digest(written.to_string()));
        name.truncate(40);
        name
    }
}

impl Design {
    /// Returns the design document in CouchDB's format.
    #[must_use]
    pub fn to_json(&self, rev: &Rev) -> Object {
        let views: Object = self
            .indexes
            .iter()
            .map(|(name, index)| {
                let mut map = json!({ "fields": index.fields.iter().map(|field| (field.clone(), json!("asc"))).collect::<Object>() });
                if let (Some(selector), Some(map)) = (&index.partial_filter_selector, map.as_object_mut()) {
                    map.insert("partial_filter_selector".to_owned(), Value::Object(selector.clone()));
                }
                let options = json!({ "def": { "fields": index.fields } });
                (name.clone(), json!({ "map": map, "reduce": "_count", "options": options }))
            })
            .collect();
        let mut document = Object::new();
        document.insert("_id".to_owned(), json!(format!("_design/{}", self.id)));
        document.insert("_rev".to_owned(), json!(rev));
        document.insert("language".to_owned(), json!("query"));
        document.insert("views".to_owned(), Value::Object(views));
        document
    }
}

fn doc_ref(instance: &Instance, doctype: &Doctype, design: &str) -> DocRef {
    instance.doc(&DESIGNS, format!("{doctype}/{design}"))
}

impl Documents {
    /// Declares an index; it is built when it is first used.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without the right to read the whole doctype; [`Error::Store`] for a list of fields that no
    /// index can have.
    pub async fn declare_index(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        new: NewIndex,
    ) -> Result<DeclaredIndex> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        let made_up = new.definition.default_name();
        let design = new.design.unwrap_or_else(|| made_up.clone());
        let name = new.name.unwrap_or(made_up);
        let (mut known, mut declared) = (false, 0);
        for (design, _) in self.load_designs(instance, doctype)? {
            declared += design.indexes.len();
            known |= design.indexes.values().any(|index| *index == new.definition);
        }
        if !known && declared >= MAX_INDEXES {
            return Err(Error::BadRequest(format!(
                "{doctype} has {MAX_INDEXES} indexes, which is the maximum; delete unused design documents"
            )));
        }
        self.core.store().ensure_index(&instance.id, doctype, &new.definition.fields).await?;
        let at = doc_ref(instance, doctype, &design);
        let created = retry_on_conflict(|| async {
            let found = self.core.load::<Design>(&at)?;
            let mut changes = Changes::new();
            let mut indexes = found.as_ref().map(|found| found.value.indexes.clone()).unwrap_or_default();
            if indexes.get(&name) == Some(&new.definition) {
                return Ok(false);
            }
            indexes.insert(name.clone(), new.definition.clone());
            let body = to_object(&Design { id: String::new(), indexes })?;
            changes.upsert(at.clone(), found.as_ref().map(|found| &found.rev), body);
            self.core.commit(changes).await?;
            Ok(true)
        })
        .await?;
        Ok(DeclaredIndex { created, design, name })
    }

    /// Lists the design documents of a doctype, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without the right to read the whole doctype.
    pub fn designs(&self, instance: &Instance, principal: &Principal, doctype: &Doctype) -> Result<Vec<(Design, Rev)>> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        self.load_designs(instance, doctype)
    }

    pub fn load_designs(&self, instance: &Instance, doctype: &Doctype) -> Result<Vec<(Design, Rev)>> {
        let prefix = format!("{doctype}/");
        let mut designs = Vec::new();
        let mut after = prefix.clone();
        loop {
            let page = self.core.store().list(&instance.id, &DESIGNS, Some(&after), 100)?;
            let Some(last) = page.last() else { return Ok(designs) };
            after.clone_from(&last.id);
            for document in page {
                let Some(id) = document.id.strip_prefix(&prefix).map(str::to_owned) else { return Ok(designs) };
                let Stored { rev, value, .. } = Stored::<Design>::from_document(&DESIGNS, document)?;
                designs.push((Design { id, ..value }, rev));
            }
        }
    }

    /// Returns a design document.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without the right to read the whole doctype; [`Error::NotFound`] with CouchDB's reason.
    pub fn design(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
    ) -> Result<(Design, Rev)> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        let found = self.core.load::<Design>(&doc_ref(instance, doctype, id))?;
        let Stored { rev, value, .. } = found.ok_or_else(|| Error::NotFound("missing".to_owned()))?;
        Ok((Design { id: id.to_owned(), ..value }, rev))
    }

    /// Deletes a design document, and the indexes that no other one uses.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without the right to delete the whole doctype, and for the server's own;
    /// [`Error::NotFound`]; [`Error::Conflict`] if `rev` is not the newest revision.
    pub async fn delete_design(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
        rev: &Rev,
    ) -> Result<()> {
        check_readable(doctype)?;
        principal.check_type(Verb::Delete, doctype)?;
        let Some(found) = self.core.load::<Design>(&doc_ref(instance, doctype, id))? else {
            // In a doctype that only the server writes, an index that no client declared belongs to the server.
            check_writable(doctype)?;
            return Err(Error::NotFound("missing".to_owned()));
        };
        self.delete_design_and_indexes(instance, doctype, &Design { id: id.to_owned(), ..found.value }, rev).await
    }

    /// Deletes all design documents of a doctype.
    pub async fn delete_designs(&self, instance: &Instance, doctype: &Doctype) -> Result<()> {
        for (design, rev) in self.load_designs(instance, doctype)? {
            self.delete_design_and_indexes(instance, doctype, &design, &rev).await?;
        }
        Ok(())
    }

    async fn delete_design_and_indexes(
        &self,
        instance: &Instance,
        doctype: &Doctype,
        design: &Design,
        rev: &Rev,
    ) -> Result<()> {
        let mut changes = Changes::new();
        changes.delete(doc_ref(instance, doctype, &design.id), rev);
        self.core.commit(changes).await?;
        let left = self.load_designs(instance, doctype)?;
        for index in design.indexes.values() {
            let needed =
                left.iter().flat_map(|(design, _)| design.indexes.values()).any(|other| other.fields == index.fields);
            if !needed {
                self.core.store().drop_index(&instance.id, doctype, &index.fields).await?;
            }
        }
        Ok(())
    }

    /// Copies a design document to another name, replacing an older one of that name.
    ///
    /// # Errors
    ///
    /// As [`Documents::design`]; [`Error::Forbidden`] without the right to create documents of the doctype.
    pub async fn copy_design(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        (from, to): (&str, &str),
    ) -> Result<Rev> {
        principal.check_type(Verb::Post, doctype)?;
        let (design, _) = self.design(instance, principal, doctype, from)?;
        let to = doc_ref(instance, doctype, to);
        let mut changes = Changes::new();
        let before = self.core.store().get(&to)?;
        changes.upsert(to, before.as_ref().map(|before| &before.rev), to_object(&design)?);
        self.core.commit_one(changes).await
    }
}
