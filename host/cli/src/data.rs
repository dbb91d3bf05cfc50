//! `konnector data …`: the JSON documents.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment};
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, Rows, cell, print_json};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the documents of a doctype, or all doctypes.
    Ls {
        /// Doctype, for example io.cozy.bills.
        doctype: Option<String>,
    },
    /// Show one document.
    Get {
        /// Doctype of the document.
        doctype: String,
        /// ID of the document.
        id: String,
    },
    /// List the documents whose fields have these values.
    #[command(after_help = "Example:\n  konnector data find io.cozy.bills vendor=Bank101 amount=12.5")]
    Find {
        /// Doctype of the documents.
        doctype: String,
        /// Field with its value; dots separate the names of nested fields.
        #[arg(value_name = "FIELD=VALUE", required = true)]
        condition: Vec<String>,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let session = connection.session().await?;
    match command {
        Command::Ls { doctype: None } => {
            let doctypes = session.get("data/_all_doctypes", &[]).await?;
            output.show(&doctypes, || {
                for doctype in doctypes.as_array().into_iter().flatten() {
                    say!("{}", cell(Some(doctype)));
                }
            });
        }
        Command::Ls { doctype: Some(doctype) } => show(output, &doctype, &all_documents(&session, &doctype).await?),
        Command::Get { doctype, id } => {
            let path = format!("data/{}/{}", encode_segment(&doctype), encode_segment(&id));
            let document = session.find(&path).await?.ok_or_else(|| {
                Error::failed(
                    format!("document '{id}' of doctype {doctype} does not exist"),
                    format!("list the documents with `{}`", hint::command(&format!("data ls {doctype}"))),
                )
            })?;
            print_json(&document);
        }
        Command::Find { doctype, condition } => {
            let conditions = condition.iter().map(|text| Condition::parse(text)).collect::<Result<Vec<_>>>()?;
            let mut documents = all_documents(&session, &doctype).await?;
            documents.retain(|document| conditions.iter().all(|condition| condition.matches(document)));
            show(output, &doctype, &documents);
        }
    }
    Ok(())
}

/// Returns all documents of a doctype.
pub async fn all_documents(session: &ApiClient, doctype: &str) -> Result<Vec<Value>> {
    let path = format!("data/{}/_normal_docs", encode_segment(doctype));
    let mut documents = Vec::new();
    let mut bookmark = String::new();
    loop {
        let page = session.get(&path, &[("limit", "500"), ("bookmark", &bookmark)]).await?;
        let rows = page.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
        documents.extend(rows);
        bookmark = cell(page.get("bookmark"));
        if bookmark.is_empty() {
            return Ok(documents);
        }
    }
}

/// A field and its required value.
struct Condition<'a> {
    path: Vec<&'a str>,
    value: &'a str,
}

impl<'a> Condition<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (path, value) = text.split_once('=').ok_or_else(|| {
            Error::usage(
                format!("'{text}' is not a valid condition: '=' is missing"),
                "write FIELD=VALUE, for example vendor=Bank101",
            )
        })?;
        Ok(Self { path: path.split('.').collect(), value })
    }

    fn matches(&self, document: &Value) -> bool {
        let found = self.path.iter().try_fold(document, |value, name| value.get(name));
        found.is_some_and(|found| cell(Some(found)) == self.value)
    }
}

/// The most informative fields of documents, in reading order.
const PREFERRED_COLUMNS: [&str; 14] = [
    "name",
    "fullname",
    "vendor",
    "title",
    "subtype",
    "reference",
    "vendorRef",
    "date",
    "amount",
    "currency",
    "filename",
    "email",
    "state",
    "type",
];
/// Maximum number of columns in addition to the id.
const MAX_COLUMNS: usize = 6;

fn show(output: Output, doctype: &str, documents: &[Value]) {
    output.table(&json!(documents), &format!("no documents of doctype {doctype}"), rows(documents));
}

/// Makes a table of the documents' most informative fields.
pub fn rows(documents: &[Value]) -> Rows {
    let columns = columns(documents);
    let names = std::iter::once("id").chain(columns.iter().map(String::as_str));
    let mut rows = Rows::with_columns(names);
    let mut documents: Vec<_> = documents.iter().collect();
    // Ids have no meaning to people; dates, if present, do.
    documents.sort_by_key(|document| cell(document.get("date")));
    for document in documents {
        let id = cell(document.get("_id"));
        let cells = columns.iter().map(|name| truncate(&cell(document.get(name))));
        rows.row(std::iter::once(id).chain(cells));
    }
    rows
}

/// Returns the fields to show as columns: preferred fields first, then other scalar fields.
fn columns(documents: &[Value]) -> Vec<String> {
    let is_scalar = |value: &Value| !value.is_object() && !value.is_array() && !value.is_null();
    let mut present = BTreeSet::new();
    for members in documents.iter().filter_map(Value::as_object) {
        present.extend(
            members
                .iter()
                .filter(|(name, value)| !name.starts_with('_') && is_scalar(value))
                .map(|(name, _)| name.as_str()),
        );
    }
    let preferred = PREFERRED_COLUMNS.into_iter().filter(|name| present.contains(name));
    let others = present.iter().copied().filter(|name| !PREFERRED_COLUMNS.contains(name));
    preferred.chain(others).take(MAX_COLUMNS).map(str::to_owned).collect()
}

fn truncate(text: &str) -> String {
    const MAX_CELL_WIDTH: usize = 40;
    if text.chars().count() <= MAX_CELL_WIDTH {
        // At midnight the date suffices.
        return text
            .strip_suffix("T00:00:00Z")
            .or_else(|| text.strip_suffix("T00:00:00.000Z"))
            .unwrap_or(text)
            .to_owned();
    }
    text.chars().take(MAX_CELL_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_reach_into_documents() {
        let document = json!({ "amount": 12.5, "metadata": { "contract": "FR-2041" } });
        for (text, expected) in
            [("amount=12.5", true), ("metadata.contract=FR-2041", true), ("amount=12", false), ("vendor=", false)]
        {
            assert_eq!(Condition::parse(text).unwrap().matches(&document), expected, "{text}");
        }
    }

    #[test]
    fn the_most_telling_members_come_first() {
        let documents = [
            json!({ "_id": "1", "zeta": 1, "amount": 3, "vendor": "Bank101", "metadata": {}, "date": "2026-11-03T00:00:00Z" }),
        ];
        assert_eq!(columns(&documents), ["vendor", "date", "amount", "zeta"]);
        assert_eq!(truncate("2026-11-03T00:00:00Z"), "2026-11-03");
    }
}
