use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Answer;

/// A request that the konnector sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    /// Method.
    pub method: String,
    /// Address.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Body as text; empty where there is none.
    pub body: String,
    /// The encoding that the host is asked to send a form in.
    pub form_charset: Option<String>,
}

/// A file that the konnector stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFile {
    /// File id.
    pub id: String,
    /// Folder and name.
    pub path: String,
    /// Key for later runs.
    pub key: Option<String>,
    /// Content.
    pub content: Vec<u8>,
    /// Metadata.
    pub metadata: Value,
    /// Documents that it belongs to: type and id.
    pub references: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub fields: Map<String, Value>,
    pub secrets: Vec<String>,
    pub account_state: Option<String>,
    pub answers: HashMap<String, VecDeque<Answer>>,
    pub requests: Vec<SentRequest>,
    pub documents: BTreeMap<(String, String), Map<String, Value>>,
    pub files: Vec<StoredFile>,
    pub folders: BTreeSet<String>,
    pub cookies: BTreeMap<String, String>,
    pub log: Vec<String>,
    pub time_left: Duration,
    pub code: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            fields: Map::new(),
            secrets: Vec::new(),
            account_state: None,
            answers: HashMap::new(),
            requests: Vec::new(),
            documents: BTreeMap::new(),
            files: Vec::new(),
            folders: BTreeSet::new(),
            cookies: BTreeMap::new(),
            log: Vec::new(),
            time_left: Duration::from_secs(600),
            code: None,
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub(super) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}
