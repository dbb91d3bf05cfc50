use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value};

use super::MockResponse;

/// A request that the konnector sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    /// HTTP method, such as `GET`.
    pub method: String,
    /// URL of the request.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Body as a string; empty for a request without a body.
    pub body: String,
    /// The encoding in which the host should send a form.
    pub form_charset: Option<String>,
}

/// A file that the konnector stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFile {
    /// Id of the file.
    pub id: String,
    /// Path below the account's folder, with the name.
    pub path: String,
    /// Key that identifies the file in later runs.
    pub key: Option<String>,
    /// Stored bytes.
    pub content: Vec<u8>,
    /// Metadata as JSON.
    pub metadata: Value,
    /// Documents that the file refers to, each as its doctype and id.
    pub references: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct MockState {
    pub fields: Map<String, Value>,
    pub secrets: Vec<String>,
    pub account_state: Option<String>,
    pub responses: HashMap<String, VecDeque<MockResponse>>,
    pub requests: Vec<SentRequest>,
    pub documents: BTreeMap<(String, String), Map<String, Value>>,
    pub files: Vec<StoredFile>,
    pub folders: BTreeSet<String>,
    pub cookies: BTreeMap<String, String>,
    pub log: Vec<String>,
    pub remaining_time: Duration,
    pub code: Option<String>,
}

impl Default for MockState {
    fn default() -> Self {
        Self {
            fields: Map::new(),
            secrets: Vec::new(),
            account_state: None,
            responses: HashMap::new(),
            requests: Vec::new(),
            documents: BTreeMap::new(),
            files: Vec::new(),
            folders: BTreeSet::new(),
            cookies: BTreeMap::new(),
            log: Vec::new(),
            remaining_time: Duration::from_secs(600),
            code: None,
        }
    }
}

thread_local! {
    static STATE: RefCell<MockState> = RefCell::new(MockState::default());
}

pub(super) fn with_state<T>(use_it: impl FnOnce(&mut MockState) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}
