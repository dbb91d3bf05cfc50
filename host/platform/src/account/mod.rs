//! Accounts: someone's login at a vendor. Secrets are sealed before they are stored; what the API shows is the sealed form, except to
//! the konnector itself (cozy-stack, account documents).

pub mod oauth;
mod removal;

use konnector_store::{InstanceId, MasterKey, Rev, SecretContext};
use serde_json::{Value, json};

use crate::doctype::ACCOUNTS;
use crate::instance::Instance;
use crate::stored::Object;
use crate::{Error, Platform, Result};

/// Members of an account that are secrets wherever they stand.
const SECRETS: [&str; 12] = [
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
/// Member of an account for the fields of its form.
const AUTH: &str = "auth";
/// Member of an account for what its provider gave.
pub(crate) const OAUTH: &str = "oauth";
/// Member of an account for what an aggregator keeps, with an [`AUTH`] of its own.
const DATA: &str = "data";
/// Ending of the name of a sealed member.
const SEALED: &str = "_encrypted";
/// Cozy's name of the sealed password.
const SEALED_PASSWORD: &str = "credentials_encrypted";
/// Member that holds what `save-state` saved.
const STATE: &str = "_state";
/// Member that holds the sealed cookie jar.
const SESSION: &str = "_session";

/// An account with its secrets sealed.
#[derive(Debug, Clone)]
pub struct Account {
    /// Document id.
    pub id: String,
    /// Revision that was read.
    pub rev: Rev,
    /// The document.
    pub body: Object,
}

/// Whether a member holds the cookies of the last session.
pub(crate) fn is_session(name: &str) -> bool {
    name == SESSION
}

/// Where secrets stand in an account.
fn places(body: &Object) -> impl Iterator<Item = &Object> {
    let below = body.get(DATA).and_then(|data| data.get(AUTH));
    [body.get(AUTH), body.get(OAUTH), below].into_iter().flatten().filter_map(Value::as_object)
}

/// The same, to change them.
fn places_mut(body: &mut Object) -> impl Iterator<Item = &mut Object> {
    let found = body.iter_mut().filter_map(|(name, value)| match name.as_str() {
        AUTH | OAUTH => Some(value),
        DATA => value.get_mut(AUTH),
        _ => None,
    });
    found.filter_map(Value::as_object_mut)
}

fn sealed_name(name: &str) -> String {
    if name == "password" { SEALED_PASSWORD.to_owned() } else { format!("{name}{SEALED}") }
}

fn clear_name(sealed: &str) -> Option<&str> {
    if sealed == SEALED_PASSWORD { Some("password") } else { sealed.strip_suffix(SEALED) }
}

impl Account {
    /// The slug of the konnector it is for.
    #[must_use]
    pub fn account_type(&self) -> Option<&str> {
        self.body.get("account_type").and_then(Value::as_str)
    }

    /// The name the user sees.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.body.get("name").and_then(Value::as_str)
    }

    fn auth(&self) -> Object {
        self.body.get(AUTH).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// The fields of the form, without secrets.
    #[must_use]
    pub fn fields(&self) -> Object {
        let mut fields = self.auth();
        fields.retain(|name, _| clear_name(name).is_none());
        fields
    }

    /// What identifies the account at the vendor: the value of the identifier field, else of `login`, `email` or `identifier`.
    #[must_use]
    pub fn identifier(&self, field: Option<&str>) -> Option<String> {
        let auth = self.auth();
        field
            .into_iter()
            .chain(["login", "email", "identifier", "new_identifier", "accountName"])
            .find_map(|name| auth.get(name).and_then(Value::as_str).map(str::to_owned))
    }

    /// Whether a secret is what the account's provider gave, and not what the user typed or the konnector kept.
    pub(crate) fn is_from_provider(&self, name: &str) -> bool {
        self.body.get(OAUTH).and_then(|given| given.get(sealed_name(name))).is_some()
    }

    /// What the konnector saved in an earlier run.
    #[must_use]
    pub fn state(&self) -> Option<Value> {
        self.body.get(STATE).cloned()
    }
}

fn context(instance: &InstanceId, account: &str, field: &str) -> SecretContext {
    SecretContext { instance: instance.clone(), account: account.to_owned(), field: field.to_owned() }
}

/// Seals the secrets of an account with another key, but for those that are; answers how many there were.
pub(crate) fn seal_anew(
    instance: &InstanceId,
    account: &str,
    body: &mut Object,
    old: &MasterKey,
    new: &MasterKey,
) -> Result<u64> {
    let mut sealed = 0;
    let mut again = |field: &str, value: &mut Value| -> Result<()> {
        let Some(text) = value.as_str().filter(|text| !new.sealed(text)) else { return Ok(()) };
        let context = context(instance, account, field);
        *value = Value::String(new.seal(&context, &old.open(&context, text)?)?);
        sealed += 1;
        Ok(())
    };
    for place in places_mut(body) {
        for (name, value) in place {
            if let Some(field) = clear_name(name) {
                again(field, value)?;
            }
        }
    }
    if let Some(session) = body.get_mut(SESSION) {
        again(SESSION, session)?;
    }
    Ok(sealed)
}

impl Platform {
    /// Replaces the clear secrets of an account by their sealed form. Sealed members that come back from a client stay as they are; what
    /// was not sealed for this account is refused now, and not when a run needs it.
    pub(crate) fn seal_account(&self, instance: &Instance, id: &str, body: &mut Object) -> Result<()> {
        let declared = self.declared_secrets(instance, body);
        for members in places_mut(body) {
            let clear: Vec<String> = members
                .keys()
                .filter(|name| SECRETS.contains(&name.as_str()) || declared.contains(*name))
                .cloned()
                .collect();
            for name in clear {
                let Some(value) = members.shift_remove(&name) else { continue };
                if value.is_null() {
                    members.shift_remove(&sealed_name(&name));
                    continue;
                }
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let sealed = self.key.seal(&context(&instance.id, id, &name), text.as_bytes())?;
                members.insert(sealed_name(&name), Value::String(sealed));
            }
            for (name, value) in &*members {
                if let (Some(field), Some(text)) = (clear_name(name), value.as_str()) {
                    let opened = self.key.open(&context(&instance.id, id, field), text);
                    opened.map_err(|error| Error::BadRequest(format!("{name} cannot be taken: {error}")))?;
                }
            }
        }
        Ok(())
    }

    /// The fields that the konnector's manifest declares as passwords.
    fn declared_secrets(&self, instance: &Instance, body: &Object) -> Vec<String> {
        let slug = body.get("account_type").and_then(Value::as_str).and_then(|slug| slug.parse().ok());
        slug.and_then(|slug| self.konnector(instance, &slug).ok())
            .and_then(|konnector| konnector.manifest().ok())
            .map(|manifest| manifest.secret_fields().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    /// Replaces the sealed members by the clear ones, for the konnector itself.
    pub(crate) fn unseal_account(&self, instance: &Instance, id: &str, body: &mut Object) -> Result<()> {
        for members in places_mut(body) {
            let sealed: Vec<String> = members.keys().filter(|name| clear_name(name).is_some()).cloned().collect();
            for sealed_name in sealed {
                let Some(name) = clear_name(&sealed_name).map(str::to_owned) else { continue };
                let Some(Value::String(text)) = members.shift_remove(&sealed_name) else { continue };
                members.insert(name.clone(), Value::String(self.open_secret(instance, id, &name, &text)?));
            }
        }
        Ok(())
    }

    fn open_secret(&self, instance: &Instance, account: &str, field: &str, sealed: &str) -> Result<String> {
        let clear = self.key.open(&context(&instance.id, account, field), sealed)?;
        String::from_utf8(clear.to_vec()).map_err(|_| Error::Stored {
            document: format!("io.cozy.accounts/{account}"),
            message: format!("the secret '{field}' is no text"),
        })
    }

    /// The secrets of an account with their values.
    pub(crate) fn account_secrets(&self, instance: &Instance, account: &Account) -> Result<Vec<(String, String)>> {
        let mut secrets = Vec::new();
        for members in places(&account.body) {
            for (sealed_name, value) in members {
                if let (Some(name), Some(sealed)) = (clear_name(sealed_name), value.as_str()) {
                    secrets.push((name.to_owned(), self.open_secret(instance, &account.id, name, sealed)?));
                }
            }
        }
        Ok(secrets)
    }

    /// The cookies of an account's last session.
    pub(crate) fn account_session(&self, instance: &Instance, account: &Account) -> Result<Option<Vec<u8>>> {
        let Some(sealed) = account.body.get(SESSION).and_then(Value::as_str) else { return Ok(None) };
        Ok(Some(self.key.open(&context(&instance.id, &account.id, SESSION), sealed)?.to_vec()))
    }

    /// An account, its secrets sealed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub fn account(&self, instance: &Instance, id: &str) -> Result<Account> {
        match self.store.get(&instance.doc(&ACCOUNTS, id))? {
            Some(found) => Ok(Account { id: found.id, rev: found.rev, body: found.body }),
            None => Err(Error::NotFound(format!("there is no account '{id}'"))),
        }
    }

    /// Accounts of a konnector, or all.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn accounts(&self, instance: &Instance, slug: Option<&str>) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&instance.id, &ACCOUNTS, after.as_deref(), 200)?;
            let Some(last) = page.last() else { return Ok(accounts) };
            after = Some(last.id.clone());
            let found =
                page.into_iter().map(|document| Account { id: document.id, rev: document.rev, body: document.body });
            accounts.extend(found.filter(|account| slug.is_none_or(|slug| account.account_type() == Some(slug))));
        }
    }

    /// The name an account is shown under, where the client gives none.
    pub(crate) fn name_account(body: &mut Object) {
        if body.contains_key("name") {
            return;
        }
        let auth = body.get(AUTH).and_then(Value::as_object);
        let field = body.get("identifier").and_then(Value::as_str).unwrap_or("login");
        let name = auth.and_then(|auth| auth.get(field).or_else(|| auth.get("login"))).and_then(Value::as_str);
        if let Some(name) = name.map(str::to_owned) {
            body.insert("name".to_owned(), Value::String(name));
        }
    }

    /// Changes members of an account on behalf of its run.
    pub(crate) async fn change_account(
        &self,
        instance: &Instance,
        id: &str,
        change: impl Fn(&mut Object) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let at = instance.doc(&ACCOUNTS, id);
        let changed = self
            .modify::<Object, _>(&at, |body, _| {
                let before = body.clone();
                change(body)?;
                Ok(*body != before)
            })
            .await?;
        changed.map(|_| ()).ok_or_else(|| Error::NotFound(format!("there is no account '{id}'")))
    }

    /// Members to set so that the state of a run is kept.
    pub(crate) fn state_member(state: Value) -> (String, Value) {
        (STATE.to_owned(), state)
    }

    /// The sealed cookie jar as a member; `Null` removes it.
    pub(crate) fn session_member(
        &self,
        instance: &Instance,
        account: &str,
        cookies: Option<&[u8]>,
    ) -> Result<(String, Value)> {
        let value = match cookies {
            None => Value::Null,
            Some(cookies) => json!(self.key.seal(&context(&instance.id, account, SESSION), cookies)?),
        };
        Ok((SESSION.to_owned(), value))
    }

    /// Keeps a rotated credential in `body`.
    pub(crate) fn put_secret(
        &self,
        instance: &Instance,
        account: &str,
        body: &mut Object,
        name: &str,
        value: &str,
    ) -> Result<()> {
        let sealed = self.key.seal(&context(&instance.id, account, name), value.as_bytes())?;
        let auth = body.entry(AUTH).or_insert_with(|| json!({}));
        if let Some(members) = auth.as_object_mut() {
            members.insert(sealed_name(name), Value::String(sealed));
        }
        Ok(())
    }

    /// Whether two versions of an account differ in what a login needs, so that a schedule that waits may go on. A sealed member is
    /// never equal to one that was sealed anew, which is right: the user wrote the password again.
    pub(crate) fn login_changed(before: &Object, after: &Object) -> bool {
        !places(before).eq(places(after))
    }
}
