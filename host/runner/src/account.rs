//! The account and its secrets, for a run.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use konnector_manifest::Manifest;
use konnector_sandbox::capability::{Account, AccountInfo, CapabilityError, Object, Secrets};
use serde_json::Value;

use super::{RunContext, to_capability_error};
use konnector_accounts::{AccountAccess, rotation_hint};

/// Maximum size of a saved state, in bytes.
const MAX_STATE_SIZE: usize = 64 << 10;

fn no_account() -> CapabilityError {
    CapabilityError::NotFound("this run has no account".to_owned())
}

/// Implementation of the interface `account`.
pub struct RunAccount {
    pub scope: Arc<RunContext>,
    /// The cookies at the start of the run. Unchanged cookies are not written.
    pub initial_cookies: Option<Vec<u8>>,
}

impl RunAccount {
    fn grant(&self) -> Result<&AccountAccess, CapabilityError> {
        self.scope.account.as_ref().ok_or_else(no_account)
    }

    async fn set_field(&self, name: String, value: Value) -> Result<(), CapabilityError> {
        let scope = &self.scope;
        let change = |body: &mut Object| {
            if value.is_null() {
                body.shift_remove(&name)
            } else {
                body.insert(name.clone(), value.clone())
            };
            Ok(())
        };
        scope
            .domain
            .accounts()
            .update_authorized(&scope.instance, self.grant()?, change)
            .await
            .map_err(to_capability_error)
    }
}

#[async_trait]
impl Account for RunAccount {
    fn describe(&self) -> Option<AccountInfo> {
        let account = self.scope.account.as_ref()?;
        Some(AccountInfo {
            id: account.id.clone(),
            konnector: self.scope.konnector.slug.to_string(),
            name: account.name().map(str::to_owned),
            identifier: self.scope.identifier.clone(),
        })
    }

    fn fields(&self) -> Object {
        self.scope.account.as_deref().map(konnector_accounts::Account::fields).unwrap_or_default()
    }

    async fn load_state(&self) -> Result<Option<Value>, CapabilityError> {
        let scope = &self.scope;
        Ok(scope.domain.accounts().reload_access(&scope.instance, self.grant()?).map_err(to_capability_error)?.state())
    }

    async fn save_state(&self, state: Value) -> Result<(), CapabilityError> {
        if state.to_string().len() > MAX_STATE_SIZE {
            return Err(CapabilityError::TooLarge(MAX_STATE_SIZE as u64));
        }
        let (name, value) = self.grant()?.state_field(state);
        self.set_field(name, value).await
    }

    async fn save_session(&self, cookies: Option<Vec<u8>>) -> Result<(), CapabilityError> {
        if self.scope.awaits_user.load(Ordering::Relaxed) {
            // The run is over, so the question to the user is withdrawn.
            self.set_field("state".to_owned(), Value::Null).await?;
        }
        let Some(account) = self.scope.account.as_ref().filter(|_| cookies != self.initial_cookies) else {
            return Ok(());
        };
        let sealed = self.scope.domain.accounts().session_field(&self.scope.instance, account, cookies.as_deref());
        let (name, value) = sealed.map_err(to_capability_error)?;
        self.set_field(name, value).await
    }
}

/// Implementation of the interfaces `secrets` and `reveal`.
pub struct RunSecrets {
    scope: Arc<RunContext>,
    manifest: Manifest,
    values: Mutex<Vec<(String, String)>>,
}

impl RunSecrets {
    /// Creates the interfaces with the secrets at the start of the run.
    pub const fn new(scope: Arc<RunContext>, manifest: Manifest, values: Vec<(String, String)>) -> Self {
        Self { scope, manifest, values: Mutex::new(values) }
    }
}

#[async_trait]
impl Secrets for RunSecrets {
    fn values(&self) -> Vec<(String, String)> {
        self.values.lock().clone()
    }

    fn check_put(&self, name: &str) -> Result<(), CapabilityError> {
        let RunContext { domain, instance, account, .. } = &*self.scope;
        let may = match account {
            Some(account) => domain.accounts().may_replace_secret(instance, &self.manifest, &account.body, name),
            None => self.manifest.may_replace_secret(name),
        };
        if may {
            return Ok(());
        }
        Err(CapabilityError::Denied(format!(
            "the user enters the secret {}, so a konnector cannot replace it; {}",
            Value::from(name),
            rotation_hint(name)
        )))
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), CapabilityError> {
        let scope = &self.scope;
        let account = scope.account.as_ref().ok_or_else(no_account)?;
        let change =
            |body: &mut Object| scope.domain.accounts().set_secret(&scope.instance, &account.id, body, name, value);
        scope
            .domain
            .accounts()
            .update_authorized(&scope.instance, account, change)
            .await
            .map_err(to_capability_error)?;
        let mut values = self.values.lock();
        values.retain(|(known, _)| known != name);
        values.push((name.to_owned(), value.to_owned()));
        Ok(())
    }
}
