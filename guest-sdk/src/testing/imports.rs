//! The contract's functions, with the signatures that the bindings have in a component.

use super::state::{SentRequest, StoredFile, with};
use crate::bindings::konnector::host::files::{Stored, Target};
use crate::bindings::konnector::host::types::{Error, Outcome};

pub(crate) mod account {
    use super::{Error, with};
    use crate::bindings::konnector::host::account::Info;

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn describe() -> Option<Info> {
        let identifier =
            with(|state| state.fields.get("login").and_then(|login| login.as_str()).map(ToOwned::to_owned));
        Some(Info { id: "account".to_owned(), konnector: "test".to_owned(), name: identifier.clone(), identifier })
    }

    pub(crate) fn fields() -> String {
        with(|state| serde_json::Value::Object(state.fields.clone()).to_string())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn load_state() -> Result<Option<String>, Error> {
        Ok(with(|state| state.account_state.clone()))
    }

    pub(crate) fn save_state(value: &str) -> Result<(), Error> {
        if value.len() > 64 * 1024 {
            return Err(Error::TooLarge(64 * 1024));
        }
        with(|state| state.account_state = Some(value.to_owned()));
        Ok(())
    }
}

pub(crate) mod secrets {
    use super::{Error, with};

    pub(crate) fn names() -> Vec<String> {
        with(|state| state.secrets.clone())
    }

    pub(crate) fn placeholder(name: &str) -> Result<String, Error> {
        if names().iter().any(|known| known == name) {
            return Ok(crate::testing::placeholder(name));
        }
        Err(Error::NotFound(format!("the account has no secret `{name}`")))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn put(name: &str, _value: &str) -> Result<(), Error> {
        with(|state| state.secrets.push(name.to_owned()));
        Ok(())
    }
}

pub(crate) mod documents {
    use super::{Error, Outcome, with};
    use crate::bindings::konnector::host::documents::{Document, Item, Page, Saved};

    pub(crate) fn get(kind: &str, id: &str) -> Result<Document, Error> {
        let place = (kind.to_owned(), id.to_owned());
        let found = with(|state| state.documents.get(&place).map(|body| document(id, body)));
        found.ok_or_else(|| Error::NotFound(format!("{kind} {id}")))
    }

    /// Pages as the contract has them; the cursor is the number of documents before the page.
    pub(crate) fn query(kind: &str, selector: &str, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        let selector: serde_json::Map<_, _> =
            serde_json::from_str(selector).map_err(|error| Error::Invalid(error.to_string()))?;
        let skipped: usize = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
        let matching: Vec<_> = with(|state| {
            let of_kind = state.documents.iter().filter(|((known, _), _)| known == kind);
            let matches =
                |body: &serde_json::Map<String, _>| selector.iter().all(|(name, value)| body.get(name) == Some(value));
            of_kind.filter(|(_, body)| matches(body)).map(|((_, id), body)| document(id, body)).collect()
        });
        let end = skipped + limit as usize;
        let next = (end < matching.len()).then(|| end.to_string());
        Ok(Page { items: matching.into_iter().skip(skipped).take(limit as usize).collect(), next })
    }

    fn document(id: &str, body: &serde_json::Map<String, serde_json::Value>) -> Document {
        let body = serde_json::Value::Object(body.clone()).to_string();
        Document { id: id.to_owned(), rev: "1-0".to_owned(), body }
    }

    pub(crate) fn save(kind: &str, items: &[Item]) -> Result<Vec<Saved>, Error> {
        if items.len() > 500 {
            return Err(Error::Invalid("items: at most 500".to_owned()));
        }
        items.iter().map(|item| save_one(kind, item)).collect()
    }

    fn save_one(kind: &str, item: &Item) -> Result<Saved, Error> {
        let body: serde_json::Map<_, _> =
            serde_json::from_str(&item.body).map_err(|error| Error::Invalid(error.to_string()))?;
        let outcome = with(|state| {
            let place = (kind.to_owned(), item.key.clone());
            let before = state.documents.get(&place).cloned();
            let document = state.documents.entry(place).or_default();
            document.extend(body);
            match before {
                None => Outcome::Created,
                Some(before) if before == *document => Outcome::Unchanged,
                Some(_) => Outcome::Updated,
            }
        });
        Ok(Saved { id: item.key.clone(), rev: "1-0".to_owned(), outcome })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn delete(kind: &str, keys: &[String]) -> Result<u32, Error> {
        let removed = with(|state| {
            let places = keys.iter().map(|key| (kind.to_owned(), key.clone()));
            places.filter(|place| state.documents.remove(place).is_some()).count()
        });
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }
}

pub(crate) mod files {
    use std::cell::RefCell;

    use super::{Error, Outcome, Stored, StoredFile, Target, stored, with};

    pub(crate) struct Upload {
        target: Target,
        content: RefCell<Vec<u8>>,
    }

    impl Upload {
        #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
        pub(crate) fn write(&self, chunk: &[u8]) -> Result<(), Error> {
            self.content.borrow_mut().extend_from_slice(chunk);
            Ok(())
        }

        #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
        pub(crate) fn commit(this: Self) -> Result<Stored, Error> {
            Ok(keep(&this.target, this.content.into_inner()))
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn create(target: &Target) -> Result<Upload, Error> {
        Ok(Upload { target: target.clone(), content: RefCell::default() })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn lookup(keys: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        let find = |key: &String| {
            with(|state| {
                let found = state.files.iter().find(|file| file.key.as_ref() == Some(key));
                found.map(|file| stored(file, Outcome::Unchanged))
            })
        };
        Ok(keys.iter().map(find).collect())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
    pub(crate) fn remove(keys: &[String]) -> Result<u32, Error> {
        let removed = with(|state| {
            let before = state.files.len();
            state.files.retain(|file| !file.key.as_ref().is_some_and(|key| keys.contains(key)));
            before - state.files.len()
        });
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }

    pub(crate) fn read(id: &str, offset: u64, max: u32) -> Result<Vec<u8>, Error> {
        let content = with(|state| state.files.iter().find(|file| file.id == id).map(|file| file.content.clone()));
        let content = content.ok_or_else(|| Error::NotFound(format!("file {id}")))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(content.into_iter().skip(start).take(max as usize).collect())
    }

    pub(super) fn keep(target: &Target, content: Vec<u8>) -> Stored {
        let path = [target.folder.as_str(), target.name.as_str()].join("/").trim_start_matches('/').to_owned();
        let metadata = serde_json::from_str(&target.metadata).unwrap_or_default();
        with(|state| {
            let number = state.files.len();
            let same = |file: &&mut StoredFile| {
                if target.key.is_some() { file.key == target.key } else { file.path == path }
            };
            if let Some(file) = state.files.iter_mut().find(same) {
                let outcome = if file.content == content { Outcome::Unchanged } else { Outcome::Updated };
                file.content = content;
                return stored(file, outcome);
            }
            let file = StoredFile { id: format!("file-{number}"), path, key: target.key.clone(), content, metadata };
            let answer = stored(&file, Outcome::Created);
            state.files.push(file);
            answer
        })
    }
}

pub(crate) mod http {
    use super::{SentRequest, Stored, Target, with};
    use crate::bindings::konnector::host::http::{Body, HttpError, Request, Response};

    pub(crate) fn send(request: &Request) -> Result<Response, HttpError> {
        let answer = with(|state| {
            state.requests.push(SentRequest {
                method: request.method.clone(),
                url: request.url.clone(),
                headers: request.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
                body: String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned(),
            });
            let answers = state.answers.get_mut(&request.url)?;
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        });
        answer.unwrap_or_else(|| super::super::Answer::status(404, "")).to(&request.url)
    }

    pub(crate) fn download(request: &Request, target: &Target) -> Result<Stored, HttpError> {
        let response = send(request)?;
        if !(200..300).contains(&response.status) {
            return Err(HttpError::Status(response.status));
        }
        let content = match response.body {
            Body::Text(text) => text.into_bytes(),
            Body::Bytes(bytes) => bytes,
        };
        if target.name.ends_with(".pdf") && !content.starts_with(b"%PDF-") {
            return Err(HttpError::UnexpectedContent("expected application/pdf".to_owned()));
        }
        Ok(super::files::keep(target, content))
    }

    pub(crate) fn forget_session() {}
}

pub(crate) mod log {
    use super::with;
    use crate::bindings::konnector::host::log::Level;

    pub(crate) fn emit(level: Level, message: &str, fields: &[(String, String)]) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        with(|state| state.log.push(format!("{level}: {message}{fields}")));
    }
}

pub(crate) mod progress {
    use super::{Error, with};
    use crate::bindings::konnector::host::progress::Medium;

    pub(crate) fn report(_done: u64, _total: Option<u64>, _label: &str) {}

    pub(crate) fn remaining_ms() -> u64 {
        with(|state| u64::try_from(state.time_left.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn login_succeeded() {
        with(|state| state.log.push("login succeeded".to_owned()));
    }

    pub(crate) fn ask_code(_by: Medium, _hint: &str) -> Result<String, Error> {
        with(|state| state.code.clone()).ok_or(Error::Unattended)
    }
}

fn stored(file: &StoredFile, outcome: Outcome) -> Stored {
    Stored {
        id: file.id.clone(),
        path: file.path.clone(),
        size: file.content.len() as u64,
        mime: "application/octet-stream".to_owned(),
        sha256: "0".repeat(64),
        outcome,
    }
}
