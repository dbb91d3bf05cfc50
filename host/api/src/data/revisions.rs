//! Parameters that concern the revisions of a document: `rev`, `revs`, `revs_info`, `open_revs` (CouchDB documentation,
//! "Document"). Only the latest revision of a document is stored, including that of its deletion, as in a CouchDB with
//! a `_revs_limit` of 1; this revision is the whole history.

use http::StatusCode;
use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::instance::Instance;
use konnector_platform::principal::Principal;
use konnector_store::{FeedChange, Map, Rev};
use serde_json::{Value, json};

use super::{parse_revision, to_json};
use crate::error::ApiError;
use crate::extract::{Caller, Params};

/// The latest revision of a document, or of its deletion.
pub struct LatestRevision {
    pub rev: Rev,
    pub fields: Map,
}

impl LatestRevision {
    /// Loads the revision even if the document is deleted, for callers who may read the whole doctype.
    ///
    /// # Errors
    ///
    /// As [`Documents::read`](konnector_platform::Documents::read).
    pub async fn load(platform: &Platform, caller: &Caller, doctype: &Doctype, id: &str) -> Result<Self, ApiError> {
        let Caller { instance, principal } = caller;
        match Self::load_existing(platform, instance, principal, doctype, id) {
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                if caller.check_type(Verb::Get, doctype).is_err() {
                    return Err(failure);
                }
                let last =
                    platform.documents().newest_revisions(instance, principal, doctype, vec![id.to_owned()]).await?;
                let deletion = last.into_iter().find(|change| change.deleted).ok_or(failure)?;
                Ok(Self { fields: tombstone(&deletion), rev: deletion.rev })
            }
            found => found,
        }
    }

    /// Loads the revision of a document that is not deleted.
    ///
    /// # Errors
    ///
    /// As [`Documents::read`](konnector_platform::Documents::read).
    pub fn load_existing(
        platform: &Platform,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
    ) -> Result<Self, ApiError> {
        let document = platform.documents().read(instance, principal, doctype, id)?;
        Ok(Self { rev: document.rev.clone(), fields: to_json(doctype, document) })
    }

    /// Returns the document, with the requested information about its revisions.
    pub fn into_json(mut self, params: &Params) -> Map {
        let text = self.rev.to_string();
        if params.flag("revs", false) {
            let digits = text.split_once('-').map(|(_, digits)| digits);
            self.fields.insert("_revisions".to_owned(), json!({ "start": self.rev.generation(), "ids": [digits] }));
        }
        if params.flag("revs_info", false) {
            self.fields.insert("_revs_info".to_owned(), json!([{ "rev": text, "status": "available" }]));
        }
        self.fields
    }
}

/// Returns the body of a deleted document.
pub fn tombstone(change: &FeedChange) -> Map {
    let members = [("_id", json!(change.id)), ("_rev", json!(change.rev)), ("_deleted", json!(true))];
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The revisions that `open_revs` requests.
pub enum OpenRevs {
    All,
    Some(Vec<Rev>),
}

impl OpenRevs {
    /// Parses the parameter; `None` if it is absent.
    ///
    /// # Errors
    ///
    /// If the parameter is neither `all` nor a list of revisions (status 400).
    pub fn parse(params: &Params) -> Result<Option<Self>, ApiError> {
        let Some(text) = params.get_non_empty("open_revs") else { return Ok(None) };
        if text == "all" {
            return Ok(Some(Self::All));
        }
        let malformed = |_| ApiError::bad_request("the parameter open_revs must be all, or a JSON list of revisions");
        let revs: Vec<String> = serde_json::from_str(text).map_err(malformed)?;
        Ok(Some(Self::Some(revs.iter().map(|rev| parse_revision(rev)).collect::<Result<_, _>>()?)))
    }

    /// Returns one row for each requested revision: the document, or `missing`.
    ///
    /// # Errors
    ///
    /// If `last` is an error; a missing document is not an error if single revisions are requested.
    pub fn rows(self, last: Result<LatestRevision, ApiError>, params: &Params) -> Result<Vec<Value>, ApiError> {
        let requested = match (self, &last) {
            (Self::All, Ok(last)) => vec![last.rev.clone()],
            (Self::Some(requested), Ok(_)) => requested,
            (Self::Some(requested), Err(failure)) if failure.status == StatusCode::NOT_FOUND => requested,
            (Self::All | Self::Some(_), Err(failure)) => return Err(failure.clone()),
        };
        let found = last.ok().map(|last| (last.rev.clone(), last.into_json(params)));
        let row = |rev: &Rev| match &found {
            Some((found_rev, members)) if found_rev == rev => json!({ "ok": members }),
            _ => json!({ "missing": rev }),
        };
        Ok(requested.iter().map(row).collect())
    }
}
