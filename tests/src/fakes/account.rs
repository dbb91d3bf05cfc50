//! An account in memory.

use std::sync::Mutex;

use async_trait::async_trait;
use konnector_sandbox::capability::{Account, AccountInfo, CapabilityError, Object};
use serde_json::{Value, json};

/// The account of `claude@example.org`.
#[derive(Default)]
pub struct FakeAccount {
    /// The state that `save_state` stored.
    pub state: Mutex<Option<Value>>,
    /// How often the session was saved.
    pub sessions: Mutex<u32>,
}

#[async_trait]
impl Account for FakeAccount {
    fn describe(&self) -> Option<AccountInfo> {
        Some(AccountInfo {
            id: "account-1".to_owned(),
            konnector: "bank101".to_owned(),
            name: Some("My bank".to_owned()),
            identifier: Some("claude@example.org".to_owned()),
        })
    }

    fn fields(&self) -> Object {
        match json!({ "login": "claude@example.org" }) {
            Value::Object(fields) => fields,
            _ => Object::new(),
        }
    }

    async fn load_state(&self) -> Result<Option<Value>, CapabilityError> {
        Ok(self.state.lock().unwrap().clone())
    }

    async fn save_state(&self, state: Value) -> Result<(), CapabilityError> {
        *self.state.lock().unwrap() = Some(state);
        Ok(())
    }

    async fn save_session(&self, _cookies: Option<Vec<u8>>) -> Result<(), CapabilityError> {
        *self.sessions.lock().unwrap() += 1;
        Ok(())
    }
}
