//! The contract's functions, with the signatures of the bindings in a component.

use super::state::{SentRequest, with_state};
use crate::bindings::konnector::host::files::{SavedFile, Target};
use crate::bindings::konnector::host::types::Error;

pub(crate) mod documents;
pub(crate) mod files;

pub(crate) mod account {
    use super::{Error, with_state};
    use crate::bindings::konnector::host::account::Info;

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn describe() -> Option<Info> {
        let identifier =
            with_state(|state| state.fields.get("login").and_then(|login| login.as_str()).map(ToOwned::to_owned));
        Some(Info { id: "account".to_owned(), konnector: "test".to_owned(), name: identifier.clone(), identifier })
    }

    pub(crate) fn fields() -> String {
        with_state(|state| serde_json::Value::Object(state.fields.clone()).to_string())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn load_state() -> Result<Option<String>, Error> {
        Ok(with_state(|state| state.account_state.clone()))
    }

    pub(crate) fn save_state(value: &str) -> Result<(), Error> {
        if value.len() > 64 * 1024 {
            return Err(Error::TooLarge(64 * 1024));
        }
        with_state(|state| state.account_state = Some(value.to_owned()));
        Ok(())
    }
}

pub(crate) mod secrets {
    use super::{Error, with_state};

    pub(crate) fn names() -> Vec<String> {
        with_state(|state| state.secrets.clone())
    }

    pub(crate) fn placeholder(name: &str) -> Result<String, Error> {
        if names().iter().any(|known| known == name) {
            return Ok(crate::testing::placeholder(name));
        }
        Err(Error::NotFound(format!("the account has no secret `{name}`")))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn put(name: &str, _value: &str) -> Result<(), Error> {
        with_state(|state| state.secrets.push(name.to_owned()));
        Ok(())
    }
}

pub(crate) mod http {
    use super::{SavedFile, SentRequest, Target, with_state};
    use crate::bindings::konnector::host::http::{Body, Cookie, DownloadError, HttpError, Request, Response};

    pub(crate) fn send(request: &Request) -> Result<Response, HttpError> {
        let response = with_state(|state| {
            state.requests.push(SentRequest {
                method: request.method.clone(),
                url: request.url.clone(),
                headers: request.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
                body: String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned(),
                form_charset: request.form_charset.clone(),
            });
            let responses = state.responses.get_mut(&request.url)?;
            if responses.len() > 1 { responses.pop_front() } else { responses.front().cloned() }
        });
        response.unwrap_or_else(|| super::super::MockResponse::status(404, "")).into_result(&request.url)
    }

    pub(crate) fn download(request: &Request, target: &Target) -> Result<SavedFile, DownloadError> {
        let response = send(request).map_err(DownloadError::Http)?;
        if !(200..300).contains(&response.status) {
            return Err(DownloadError::Status(response.status));
        }
        let content = match response.body {
            Body::Text(text) => text.into_bytes(),
            Body::Bytes(bytes) => bytes,
        };
        if target.name.ends_with(".pdf") && !content.starts_with(b"%PDF-") {
            return Err(DownloadError::UnexpectedContent("expected application/pdf".to_owned()));
        }
        Ok(super::files::store_file(target, content))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn cookies(_url: &str) -> Result<Vec<Cookie>, HttpError> {
        Ok(with_state(|state| state.cookies.clone()).into_iter().map(|(name, value)| Cookie { name, value }).collect())
    }

    pub(crate) fn set_cookie(_url: &str, cookie: &str) -> Result<(), HttpError> {
        let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
        let (name, value) = pair.ok_or_else(|| HttpError::Invalid(format!("`{cookie}` is not a cookie")))?;
        with_state(|state| state.cookies.insert(name.trim().to_owned(), value.trim().to_owned()));
        Ok(())
    }

    pub(crate) fn clear_cookies() {
        with_state(|state| state.cookies.clear());
    }
}

pub(crate) mod log {
    use super::with_state;
    use crate::bindings::konnector::host::log::Level;

    pub(crate) fn emit(level: Level, message: &str, fields: &[(String, String)]) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        with_state(|state| state.log.push(format!("{level}: {message}{fields}")));
    }
}

pub(crate) mod progress {
    use super::{Error, with_state};
    use crate::bindings::konnector::host::progress::Question;

    pub(crate) fn report(_done: u64, _total: Option<u64>, _label: &str) {}

    pub(crate) fn remaining_ms() -> u64 {
        with_state(|state| u64::try_from(state.remaining_time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn login_succeeded() {
        with_state(|state| state.log.push("login succeeded".to_owned()));
    }

    pub(crate) fn ask_code(_question: &Question) -> Result<String, Error> {
        with_state(|state| state.code.clone()).ok_or(Error::Unattended)
    }

    pub(crate) fn request_approval(hint: &str) -> Result<(), Error> {
        with_state(|state| {
            state.code.as_ref().ok_or(Error::Unattended)?;
            state.log.push(format!("approval requested: {hint}"));
            Ok(())
        })
    }
}
