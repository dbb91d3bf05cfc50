//! Sessions, which hold the state of a cookie from the first visit of the login page to the account.

use std::collections::HashMap;

use uuid::Uuid;

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "bank101_session";

/// The secret value of a session cookie: 122 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionToken(String);

impl SessionToken {
    /// Creates a token from the value of a cookie, which may not belong to any session.
    pub fn from_cookie(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// Returns the cookie's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How far a visitor has progressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginStage {
    /// Has not given a password.
    Anonymous,
    /// Gave the right password, but not yet the one-time code.
    AwaitingCode {
        /// The code, six digits.
        code: String,
        /// The number of wrong codes.
        wrong: u32,
    },
    /// Is logged in.
    SignedIn,
}

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Number of the session, from 1 in the order of creation; logs and counters show it in place of the secret token.
    pub number: u64,
    /// The token that every form of this session must send back.
    pub csrf: String,
    /// How far the visitor has progressed.
    pub stage: LoginStage,
}

/// All sessions. They live until they are ended, because the vendor has no clock.
#[derive(Debug, Default)]
pub struct Sessions {
    by_token: HashMap<SessionToken, Session>,
    last_number: u64,
}

impl Sessions {
    /// Opens a session with a new token. Each stage has its own token, so that a token planted before the login is
    /// worthless after it.
    pub fn open(&mut self, stage: LoginStage) -> (SessionToken, &Session) {
        self.last_number += 1;
        let token = SessionToken(random());
        let session = Session { number: self.last_number, csrf: random(), stage };
        let session = &*self.by_token.entry(token.clone()).or_insert(session);
        (token, session)
    }

    /// Returns the session of a token.
    pub fn get(&self, token: &SessionToken) -> Option<&Session> {
        self.by_token.get(token)
    }

    /// Returns the session of a token for changing it.
    pub fn get_mut(&mut self, token: &SessionToken) -> Option<&mut Session> {
        self.by_token.get_mut(token)
    }

    /// Ends a session; does nothing if it does not exist.
    pub fn end(&mut self, token: &SessionToken) {
        self.by_token.remove(token);
    }

    /// Ends all sessions. Numbers continue.
    pub fn end_all(&mut self) {
        self.by_token.clear();
    }

    /// Returns the one-time code of the newest session that waits for one.
    pub fn pending_code(&self) -> Option<String> {
        let waiting = self.by_token.values().filter_map(|session| match &session.stage {
            LoginStage::AwaitingCode { code, .. } => Some((session.number, code)),
            LoginStage::Anonymous | LoginStage::SignedIn => None,
        });
        waiting.max().map(|(_, code)| code.clone())
    }
}

/// Creates a one-time code: six random digits.
pub fn new_code() -> String {
    format!("{:06}", Uuid::new_v4().as_u128() % 1_000_000)
}

fn random() -> String {
    Uuid::new_v4().simple().to_string()
}
