//! Accounts, a person's logins at vendors. Secrets are sealed before they are stored; the API shows the sealed form,
//! except to the konnector itself (cozy-stack, account documents).

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

mod access;
pub mod account_type;
mod deletion;
pub mod oauth;
mod secrets;
mod write;

use std::sync::Arc;

use konnector_store::Rev;
use serde_json::Value;

pub use access::AccountAccess;
use access::owning_konnector;
pub use access::{can_read_secrets, is_clean_up, is_usable_by};
pub use deletion::SOFT_DELETED_REV_FIELD;
pub use konnector_documents::{AccountLocation, ForeignAccount};
pub use secrets::{ResealKeys, is_private_field_usable, is_session_field, reseal, rotation_hint};

use konnector_auth::{Auth, AuthContext, AuthState};
use konnector_documents::doctype::ACCOUNTS;
use konnector_documents::instance::Instance;
use konnector_documents::stored::Object;
use konnector_documents::{Core, handles};
pub use konnector_documents::{Error, Result};
use konnector_egress::Gate;
use konnector_packages::{Konnectors, PackageContext, PackageState};
use ref_cast::RefCast;

use crate::oauth::Singleflight;

/// State of this layer, shared by all its contexts.
pub struct AccountState {
    /// URL scheme under which clients reach the public API, for the redirect URIs of providers.
    scheme: &'static str,
    gate: Gate,
    auth: Arc<AuthState>,
    packages: Arc<PackageState>,
    token_refreshes: Singleflight,
}

impl AccountState {
    /// Creates the state; `scheme` is the URL scheme under which clients reach the public API.
    #[must_use]
    pub fn new(scheme: &'static str, gate: Gate, auth: Arc<AuthState>, packages: Arc<PackageState>) -> Self {
        Self { scheme, gate, auth, packages, token_refreshes: Singleflight::default() }
    }
}

/// What the handles of this layer work with. Cheap to clone.
#[derive(Clone)]
pub struct AccountContext {
    core: Core,
    auth: AuthContext,
    packages: PackageContext,
    state: Arc<AccountState>,
}

impl AccountContext {
    /// Creates a context over a core.
    #[must_use]
    pub fn new(core: Core, state: Arc<AccountState>) -> Self {
        Self {
            auth: AuthContext::new(core.clone(), Arc::clone(&state.auth)),
            packages: PackageContext::new(core.clone(), Arc::clone(&state.packages)),
            core,
            state,
        }
    }

    fn auth(&self) -> &Auth {
        self.auth.auth()
    }

    fn konnectors(&self) -> &Konnectors {
        self.packages.konnectors()
    }
}

handles! {
    AccountContext, context;
    /// Accounts at vendors and their secrets.
    accounts: Accounts;
    /// Account types: how accounts of one kind are authorized.
    account_types: AccountTypes;
}

/// Fields of an account that are secrets in every section.
const SECRET_FIELDS: [&str; 12] = [
    "password",
    "secret",
    "dob",
    "code",
    "answer",
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "appSecret",
    "session",
    "token",
];
/// Field of an account for the fields of its form.
const AUTH_FIELD: &str = "auth";
/// Field of an account for the response of its provider.
pub(crate) const OAUTH_FIELD: &str = "oauth";
/// Field of an account for the data of an aggregator, with an [`AUTH_FIELD`] of its own.
const DATA_FIELD: &str = "data";
/// Suffix of the name of a sealed field.
const SEALED_SUFFIX: &str = "_encrypted";
/// Cozy's name of the sealed password.
const SEALED_PASSWORD_FIELD: &str = "credentials_encrypted";
/// Field for the state that `save-state` saved.
const STATE_FIELD: &str = "_state";
/// Field for the sealed cookie jar.
const SESSION_FIELD: &str = "_session";

/// An account with its secrets sealed.
#[derive(Debug, Clone)]
pub struct Account {
    /// Document id.
    pub id: String,
    /// Revision that was read.
    pub rev: Rev,
    /// Content of the document, with its secrets sealed.
    pub body: Object,
}

/// Returns the sections of an account that contain secrets.
fn secret_sections(body: &Object) -> impl Iterator<Item = &Object> {
    named_secret_sections(body).map(|(_, members)| members)
}

/// Returns the sections that contain secrets, each with its name.
fn named_secret_sections(body: &Object) -> impl Iterator<Item = (&'static str, &Object)> {
    let below = body.get(DATA_FIELD).and_then(|data| data.get(AUTH_FIELD));
    let all = [(AUTH_FIELD, body.get(AUTH_FIELD)), (OAUTH_FIELD, body.get(OAUTH_FIELD)), ("data.auth", below)];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.as_object()?)))
}

/// Returns the sections that contain secrets, mutably.
fn secret_sections_mut(body: &mut Object) -> impl Iterator<Item = &mut Object> {
    let found = body.iter_mut().filter_map(|(name, value)| match name.as_str() {
        AUTH_FIELD | OAUTH_FIELD => Some(value),
        DATA_FIELD => value.get_mut(AUTH_FIELD),
        _ => None,
    });
    found.filter_map(Value::as_object_mut)
}

fn sealed_name(name: &str) -> String {
    if name == "password" { SEALED_PASSWORD_FIELD.to_owned() } else { format!("{name}{SEALED_SUFFIX}") }
}

fn unsealed_name(sealed: &str) -> Option<&str> {
    if sealed == SEALED_PASSWORD_FIELD { Some("password") } else { sealed.strip_suffix(SEALED_SUFFIX) }
}

impl Account {
    /// Returns the slug of the konnector that the account belongs to.
    #[must_use]
    pub fn account_type(&self) -> Option<&str> {
        self.body.get("account_type").and_then(Value::as_str)
    }

    /// Returns the name that the user sees.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.body.get("name").and_then(Value::as_str)
    }

    fn auth(&self) -> Object {
        self.body.get(AUTH_FIELD).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Returns the fields of the form, without secrets.
    #[must_use]
    pub fn fields(&self) -> Object {
        let mut fields = self.auth();
        fields.retain(|name, _| unsealed_name(name).is_none());
        fields
    }

    /// Returns the account's identifier at the vendor: the value of the identifier field, else of `login`, `email` or
    /// `identifier`.
    #[must_use]
    pub fn identifier(&self, field: Option<&str>) -> Option<String> {
        let auth = self.auth();
        field
            .into_iter()
            .chain(["login", "email", "identifier", "new_identifier", "accountName"])
            .find_map(|name| auth.get(name).and_then(Value::as_str).map(str::to_owned))
    }

    /// Returns whether a secret came from the account's provider, as opposed to the user or the konnector.
    pub fn is_from_provider(&self, name: &str) -> bool {
        self.body.get(OAUTH_FIELD).and_then(|given| given.get(sealed_name(name))).is_some()
    }
}

impl Accounts {
    /// Returns an account with its secrets sealed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no account has this id.
    pub fn get(&self, instance: &Instance, id: &str) -> Result<Account> {
        match self.context.core.store().get(&instance.doc(&ACCOUNTS, id))? {
            Some(found) => Ok(Account { id: found.id, rev: found.rev, body: found.body }),
            None => Err(Error::NotFound(format!("there is no account '{id}'"))),
        }
    }

    /// Lists the accounts of a konnector, or all.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self, instance: &Instance, slug: Option<&str>) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.context.core.store().list(&instance.id, &ACCOUNTS, after.as_deref(), 200)?;
            let Some(last) = page.last() else { return Ok(accounts) };
            after = Some(last.id.clone());
            let found =
                page.into_iter().map(|document| Account { id: document.id, rev: document.rev, body: document.body });
            accounts.extend(found.filter(|account| slug.is_none_or(|slug| account.account_type() == Some(slug))));
        }
    }

    /// Sets the name under which an account is shown, if the client gives none.
    pub fn set_default_name(body: &mut Object) {
        if body.contains_key("name") {
            return;
        }
        let auth = body.get(AUTH_FIELD).and_then(Value::as_object);
        let field = body.get("identifier").and_then(Value::as_str).unwrap_or("login");
        let name = auth.and_then(|auth| auth.get(field).or_else(|| auth.get("login"))).and_then(Value::as_str);
        if let Some(name) = name.map(str::to_owned) {
            body.insert("name".to_owned(), Value::String(name));
        }
    }

    /// Changes fields of an account on behalf of its run.
    pub async fn update(
        &self,
        instance: &Instance,
        id: &str,
        change: impl Fn(&mut Object) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let at = instance.doc(&ACCOUNTS, id);
        let changed = self
            .context
            .core
            .modify::<Object, _>(&at, |body, _| {
                let before = body.clone();
                change(body)?;
                Ok(*body != before)
            })
            .await?;
        changed.map(|_| ()).ok_or_else(|| Error::NotFound(format!("there is no account '{id}'")))
    }

    /// Returns whether two versions of an account differ in the data that a login needs, in which case a paused
    /// schedule may resume. A sealed field never equals one that was sealed again, which is correct because the user
    /// wrote the password again.
    pub fn login_changed(before: &Object, after: &Object) -> bool {
        !secret_sections(before).eq(secret_sections(after))
    }
}
