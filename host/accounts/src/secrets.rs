//! Sealing and opening of account secrets. They are bound to the account's own konnector: if the account changes to
//! another konnector, they no longer open. The cookies of a session are bound to the konnector that stores them.

use std::collections::BTreeMap;

use konnector_manifest::Manifest;
use konnector_store::{InstanceId, MasterKey, SecretContext};
use serde_json::{Value, json};

use super::access::{is_usable_by, owning_konnector};
use super::{
    Account, AccountAccess, SECRET_FIELDS, SESSION_FIELD, STATE_FIELD, named_secret_sections, sealed_name,
    secret_sections, secret_sections_mut, unsealed_name,
};
use crate::Accounts;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::Principal;
use konnector_documents::stored::Object;

/// Separator between the name of a field that a run stores and the slug of a konnector with which the account is
/// shared.
const KONNECTOR_SEPARATOR: char = '/';

/// Returns the context of a secret that a konnector owns.
fn secret_context(instance: &InstanceId, account: &str, konnector: &str, field: &str) -> SecretContext {
    SecretContext {
        instance: instance.clone(),
        account: account.to_owned(),
        konnector: Some(konnector.to_owned()),
        field: field.to_owned(),
    }
}

/// Returns the name under which a konnector's runs store a value in an account. Each konnector has its own name.
fn private_field_name(name: &str, body: &Object, slug: &str) -> String {
    if owning_konnector(body) == slug { name.to_owned() } else { format!("{name}{KONNECTOR_SEPARATOR}{slug}") }
}

/// Returns the konnector whose runs store a value under a name.
fn private_field_konnector<'a>(name: &'a str, body: &'a Object) -> &'a str {
    name.split_once(KONNECTOR_SEPARATOR).map_or_else(|| owning_konnector(body), |(_, slug)| slug)
}

/// Returns whether a field holds the cookies of a konnector's last session.
pub fn is_session_field(name: &str) -> bool {
    name.split_once(KONNECTOR_SEPARATOR).map_or(name, |(name, _)| name) == SESSION_FIELD
}

/// Returns whether a private field of the platform belongs to a konnector that may use the account.
pub fn is_private_field_usable(name: &str, body: &Object) -> bool {
    !name.contains(KONNECTOR_SEPARATOR) || is_usable_by(body, private_field_konnector(name, body))
}

/// Removes the values of konnectors that may no longer use the account.
pub(super) fn remove_unusable_private_fields(body: &mut Object) {
    let former: Vec<String> =
        body.keys().filter(|name| name.starts_with('_') && !is_private_field_usable(name, body)).cloned().collect();
    for name in former {
        body.shift_remove(&name);
    }
}

/// Keys for resealing the secrets of accounts.
#[derive(Debug, Clone, Copy)]
pub struct ResealKeys<'a> {
    /// The current key, except for secrets that are already sealed with the new one.
    pub old: &'a MasterKey,
    /// The key to seal the secrets with.
    pub new: &'a MasterKey,
    /// Accepts secrets that are bound to no konnector, as earlier versions sealed them.
    pub accept_unbound: bool,
}

impl ResealKeys<'_> {
    /// Returns the value sealed with the new key and for this context; `None` if it already is.
    fn reseal(&self, context: &SecretContext, text: &str) -> Result<Option<String>> {
        if self.new.is_sealed_for(context, text) {
            return Ok(None);
        }
        let key = if self.new.is_sealed(text) { self.new } else { self.old };
        let before = SecretContext { konnector: None, ..context.clone() };
        let before = if self.accept_unbound && key.is_sealed_for(&before, text) { &before } else { context };
        Ok(Some(self.new.seal(context, &key.open(before, text)?)?))
    }
}

/// Reseals the secrets of an account that are not sealed as required; returns their number. A secret that cannot be
/// opened is unchanged if `refused` returns `Ok`.
pub fn reseal(
    instance: &InstanceId,
    account: &str,
    body: &mut Object,
    keys: ResealKeys<'_>,
    mut refused: impl FnMut(Error) -> Result<()>,
) -> Result<u64> {
    let mut sealed = 0;
    let konnector = owning_konnector(body).to_owned();
    let mut again = |konnector: &str, field: &str, value: &mut Value| -> Result<()> {
        let Some(text) = value.as_str() else { return Ok(()) };
        match keys.reseal(&secret_context(instance, account, konnector, field), text) {
            Ok(None) => {}
            Ok(Some(anew)) => {
                *value = Value::String(anew);
                sealed += 1;
            }
            Err(error) => refused(error)?,
        }
        Ok(())
    };
    for place in secret_sections_mut(body) {
        for (name, value) in place {
            if let Some(field) = unsealed_name(name) {
                again(&konnector, field, value)?;
            }
        }
    }
    for (name, value) in body.iter_mut().filter(|(name, _)| is_session_field(name)) {
        let keeper = name.split_once(KONNECTOR_SEPARATOR).map_or(konnector.as_str(), |(_, slug)| slug);
        again(keeper, SESSION_FIELD, value)?;
    }
    Ok(sealed)
}

impl Accounts {
    /// Replaces the plain-text secrets of an account with their sealed form. Sealed fields that a client sends back
    /// stay as they are. A field that was not sealed for this account and its konnector is rejected here, rather than
    /// when a run needs it.
    pub fn seal(&self, instance: &Instance, id: &str, body: &mut Object) -> Result<()> {
        let declared = self.declared_secrets(instance, body);
        let konnector = owning_konnector(body).to_owned();
        let context = |field: &str| secret_context(&instance.id, id, &konnector, field);
        for members in secret_sections_mut(body) {
            let clear: Vec<String> = members
                .keys()
                .filter(|name| SECRET_FIELDS.contains(&name.as_str()) || declared.contains(*name))
                .cloned()
                .collect();
            for name in clear {
                let Some(value) = members.shift_remove(&name) else { continue };
                if value.is_null() {
                    members.shift_remove(&sealed_name(&name));
                    continue;
                }
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let sealed = self.context.core.key().seal(&context(&name), text.as_bytes())?;
                members.insert(sealed_name(&name), Value::String(sealed));
            }
            for (name, value) in &*members {
                if let (Some(field), Some(text)) = (unsealed_name(name), value.as_str()) {
                    let opened = self.context.core.key().open(&context(field), text);
                    opened.map_err(|error| Error::BadRequest(format!("{name} cannot be accepted: {error}")))?;
                }
            }
        }
        Ok(())
    }

    /// Returns the fields that the konnector's manifest declares as passwords.
    fn declared_secrets(&self, instance: &Instance, body: &Object) -> Vec<String> {
        self.installed_manifest(instance, owning_konnector(body))
            .map(|manifest| manifest.secret_fields().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    fn installed_manifest(&self, instance: &Instance, slug: &str) -> Option<Manifest> {
        self.context.konnectors().get(instance, &slug.parse().ok()?).ok()?.manifest().ok()
    }

    /// Returns whether a konnector may replace a secret of an account. For a shared account, the form of the konnector
    /// that owns the account also determines which fields the user typed.
    pub fn may_replace_secret(&self, instance: &Instance, manifest: &Manifest, account: &Object, name: &str) -> bool {
        manifest.may_replace_secret(name)
            && self
                .installed_manifest(instance, owning_konnector(account))
                .is_none_or(|owner| owner.may_replace_secret(name))
    }

    /// Rejects a change in which a konnector replaces or removes a secret that the user typed; `body` is the changed
    /// account, sealed.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] names the field.
    pub fn check_replaced_secrets(
        &self,
        instance: &Instance,
        principal: &Principal,
        (id, before): (&str, &Object),
        body: &Object,
    ) -> Result<()> {
        let Some(slug) = principal.konnector() else { return Ok(()) };
        let (former, given) = (self.unsealed_secrets(instance, id, before), self.unsealed_secrets(instance, id, body));
        let manifest = self.installed_manifest(instance, slug);
        for (place, name) in former.keys().chain(given.keys()) {
            let key = &(*place, name.clone());
            let may = |manifest: &Manifest| self.may_replace_secret(instance, manifest, before, name);
            if former.get(key) != given.get(key) && !manifest.as_ref().is_some_and(may) {
                return Err(Error::Forbidden(format!(
                    "{place}.{name}: only the user may set or remove this secret; send it back unchanged, or, {}",
                    rotation_hint(name)
                )));
            }
        }
        Ok(())
    }

    /// Returns the secrets of an account with their values, by section and name. A secret that cannot be opened keeps
    /// its sealed string.
    fn unsealed_secrets(
        &self,
        instance: &Instance,
        id: &str,
        body: &Object,
    ) -> BTreeMap<(&'static str, String), String> {
        let declared = self.declared_secrets(instance, body);
        let mut secrets = BTreeMap::new();
        for (place, members) in named_secret_sections(body) {
            for (member, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if let Some(name) = unsealed_name(member) {
                    let context = secret_context(&instance.id, id, owning_konnector(body), name);
                    let clear = self.open_secret(&context, &text).unwrap_or(text);
                    secrets.insert((place, name.to_owned()), clear);
                } else if SECRET_FIELDS.contains(&member.as_str()) || declared.contains(member) {
                    secrets.entry((place, member.clone())).or_insert(text);
                }
            }
        }
        secrets
    }

    /// Replaces sealed fields with plain-text ones, for callers that may see them.
    pub fn unseal(&self, instance: &Instance, id: &str, body: &mut Object) -> Result<()> {
        let konnector = owning_konnector(body).to_owned();
        for members in secret_sections_mut(body) {
            let sealed: Vec<String> = members.keys().filter(|name| unsealed_name(name).is_some()).cloned().collect();
            for sealed_name in sealed {
                let Some(name) = unsealed_name(&sealed_name).map(str::to_owned) else { continue };
                let Some(Value::String(text)) = members.shift_remove(&sealed_name) else { continue };
                let clear = self.open_secret(&secret_context(&instance.id, id, &konnector, &name), &text)?;
                members.insert(name, Value::String(clear));
            }
        }
        Ok(())
    }

    fn open_secret(&self, context: &SecretContext, sealed: &str) -> Result<String> {
        let clear = self.context.core.key().open(context, sealed)?;
        String::from_utf8(clear.to_vec()).map_err(|_| Error::CorruptDocument {
            document: format!("io.cozy.accounts/{}", context.account),
            message: format!("the secret '{}' is not a string", context.field),
        })
    }

    /// Returns the secrets of an account with their values, for the server's own use.
    pub(super) fn open_secrets(&self, instance: &Instance, account: &Account) -> Result<Vec<(String, String)>> {
        let mut secrets = Vec::new();
        for members in secret_sections(&account.body) {
            for (sealed_name, value) in members {
                if let (Some(name), Some(sealed)) = (unsealed_name(sealed_name), value.as_str()) {
                    let context = secret_context(&instance.id, &account.id, owning_konnector(&account.body), name);
                    secrets.push((name.to_owned(), self.open_secret(&context, sealed)?));
                }
            }
        }
        Ok(secrets)
    }

    /// Returns the secrets of an account with their values, for a konnector that may use it.
    pub fn secrets(&self, instance: &Instance, grant: &AccountAccess) -> Result<Vec<(String, String)>> {
        self.open_secrets(instance, grant)
    }

    /// Returns the cookies of a konnector's last session.
    pub fn session(&self, instance: &Instance, grant: &AccountAccess) -> Result<Option<Vec<u8>>> {
        let slug = grant.konnector().as_ref();
        let Some(sealed) =
            grant.body.get(&private_field_name(SESSION_FIELD, &grant.body, slug)).and_then(Value::as_str)
        else {
            return Ok(None);
        };
        Ok(Some(
            self.context
                .core
                .key()
                .open(&secret_context(&instance.id, &grant.id, slug, SESSION_FIELD), sealed)?
                .to_vec(),
        ))
    }

    /// Returns the sealed cookie jar as a field; `Null` removes it.
    pub fn session_field(
        &self,
        instance: &Instance,
        grant: &AccountAccess,
        cookies: Option<&[u8]>,
    ) -> Result<(String, Value)> {
        let slug = grant.konnector().as_ref();
        let value = match cookies {
            None => Value::Null,
            Some(cookies) => {
                json!(
                    self.context
                        .core
                        .key()
                        .seal(&secret_context(&instance.id, &grant.id, slug, SESSION_FIELD), cookies)?
                )
            }
        };
        Ok((private_field_name(SESSION_FIELD, &grant.body, slug), value))
    }

    /// Stores a rotated credential in `body`.
    pub fn set_secret(
        &self,
        instance: &Instance,
        account: &str,
        body: &mut Object,
        name: &str,
        value: &str,
    ) -> Result<()> {
        let sealed = self
            .context
            .core
            .key()
            .seal(&secret_context(&instance.id, account, owning_konnector(body), name), value.as_bytes())?;
        let auth = body.entry(super::AUTH_FIELD).or_insert_with(|| json!({}));
        if let Some(members) = auth.as_object_mut() {
            members.insert(sealed_name(name), Value::String(sealed));
        }
        Ok(())
    }
}

/// Returns the hint for a konnector's author on how to declare a secret that the vendor rotates.
pub fn rotation_hint(name: &str) -> String {
    let name = Value::from(name);
    format!(
        r#"if the vendor rotates it, declare in the manifest: "fields": {{ {name}: {{ "type": "password", "rotates": true }} }}"#
    )
}

impl AccountAccess {
    /// Returns the state that the konnector saved in an earlier run.
    #[must_use]
    pub fn state(&self) -> Option<Value> {
        self.body.get(&private_field_name(STATE_FIELD, &self.body, self.konnector().as_ref())).cloned()
    }

    /// Returns the field to set in order to save the state of a run.
    pub fn state_field(&self, state: Value) -> (String, Value) {
        (private_field_name(STATE_FIELD, &self.body, self.konnector().as_ref()), state)
    }
}
