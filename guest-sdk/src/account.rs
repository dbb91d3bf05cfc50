use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::bindings::konnector::host::account::Info;
use crate::{Error, Result, Secret, host};

/// The fields that the user filled in, without the secret fields.
pub type Fields = Map<String, Value>;

/// The account that the run works for.
#[derive(Debug, Clone)]
pub struct Account {
    info: Info,
    fields: Fields,
}

impl Account {
    pub(crate) fn load() -> Result<Self> {
        let info = host::account::describe()
            .ok_or_else(|| Error::missing_credentials("this konnector needs an account, but the job names none"))?;
        let fields = serde_json::from_str(&host::account::fields())
            .map_err(|error| Error::bug(format!("the account's fields are not a JSON object: {error}")))?;
        Ok(Self { info, fields })
    }

    /// Returns the id of the account's document.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// Returns the name that the user sees.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.info.name.as_deref()
    }

    /// Returns the identifier of the account at the vendor, which is the value of the identifier field.
    #[must_use]
    pub fn identifier(&self) -> Option<&str> {
        self.info.identifier.as_deref()
    }

    /// Returns a text field.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCredentials`] if the user left it empty.
    pub fn field(&self, name: &str) -> Result<&str> {
        self.field_opt(name)
            .ok_or_else(|| Error::missing_credentials(format!("`{name}` is empty; fill it in and try again")))
    }

    /// Returns a text field that may be empty.
    #[must_use]
    pub fn field_opt(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// Returns all fields, deserialised into a type of the konnector.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCredentials`] naming the field that is missing or has another type.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.fields.clone()))
            .map_err(|error| Error::missing_credentials(error.to_string()))
    }

    /// Returns a secret field, which the konnector can use but not read.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCredentials`] if the user left it empty.
    pub fn secret(&self, name: &str) -> Result<Secret> {
        if !host::secrets::names().iter().any(|known| known == name) {
            return Err(Error::missing_credentials(format!("`{name}` is empty; fill it in and try again")));
        }
        Secret::load(name)
    }

    /// Returns the state that an earlier run saved. Returns the default in the first run, and if an earlier version
    /// of the konnector saved another type.
    ///
    /// # Errors
    ///
    /// If the host fails.
    pub fn load_state<T: DeserializeOwned + Default>(&self) -> Result<T> {
        let Some(text) = host::account::load_state()? else {
            return Ok(T::default());
        };
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
            crate::warn!("ignored the saved state, which has another form: {error}");
            T::default()
        }))
    }

    /// Replaces the whole saved state; at most 64 KiB of JSON. The state is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::LimitReached`] if the state is larger.
    pub fn save_state<T: Serialize>(&self, state: &T) -> Result<()> {
        let text =
            serde_json::to_string(state).map_err(|error| Error::bug(format!("cannot serialise the state: {error}")))?;
        Ok(host::account::save_state(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockHost;
    use serde_json::json;

    #[test]
    fn an_empty_field_is_the_users_to_fill_in() {
        let _host = MockHost::new().field("login", "");
        let account = Account::load().unwrap();
        let text = account.field("login").unwrap_err().to_string();
        insta::assert_snapshot!(text, @"the account lacks a field: `login` is empty; fill it in and try again");
        assert!(matches!(account.secret("password"), Err(Error::MissingCredentials(_))));
    }

    #[test]
    fn a_secret_shows_its_placeholder_and_nothing_else() {
        let _host = MockHost::new().secret("password");
        let secret = Account::load().unwrap().secret("password").unwrap();
        assert_eq!(secret.to_string(), "secret-password-placeholder");
        assert_eq!(format!("{secret:?}"), "Secret(password)");
        assert_eq!(json!({ "password": secret }), json!({ "password": "secret-password-placeholder" }));
    }

    #[test]
    fn state_of_another_form_is_the_default_again() {
        let host = MockHost::new().account_state(&json!({ "page": "seven" }));
        let account = Account::load().unwrap();
        let state: std::collections::BTreeMap<String, u32> = account.load_state().unwrap();
        assert!(state.is_empty());
        account.save_state(&std::collections::BTreeMap::from([("page", 7)])).unwrap();
        assert_eq!(host.state(), Some(json!({ "page": 7 })));
        assert_eq!(account.load_state::<std::collections::BTreeMap<String, u32>>().unwrap()["page"], 7);
    }
}
