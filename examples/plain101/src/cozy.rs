//! The person's own server, as given by the environment.

use serde_json::{Value, json};

use crate::http::{Request, send};

/// Prints a message on standard output, which the server reads.
pub fn print_message(kind: &str, message: &str) {
    println!("{}", json!({ "type": kind, "message": message }));
}

/// Values of the environment.
pub struct Cozy {
    /// Ends with a slash.
    url: String,
    token: String,
    fields: Value,
    parameters: Value,
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
}

fn json_variable(name: &str) -> Result<Value, String> {
    serde_json::from_str(&variable(name)?).map_err(|error| format!("{name} is not valid JSON: {error}"))
}

impl Cozy {
    /// Reads the environment.
    pub fn from_environment() -> Result<Self, String> {
        Ok(Self {
            url: variable("COZY_URL")?,
            token: variable("COZY_CREDENTIALS")?,
            fields: json_variable("COZY_FIELDS")?,
            parameters: json_variable("COZY_PARAMETERS")?,
        })
    }

    /// Returns a string among the parameters of the manifest.
    pub fn parameter(&self, name: &str) -> Result<&str, String> {
        self.parameters.get(name).and_then(Value::as_str).ok_or_else(|| format!("the parameter {name} is missing"))
    }

    /// Fetches the account that the run works for, with its password.
    pub fn account(&self) -> Result<Value, String> {
        let id = self.fields.get("account").and_then(Value::as_str).ok_or("the job names no account")?;
        let (status, body) = self.send("GET", &format!("data/io.cozy.accounts/{id}"), None)?;
        if status == 200 { Ok(body) } else { Err(format!("the account cannot be read: {status} {body}")) }
    }

    /// Fetches the path of the directory in the job's message.
    pub fn folder(&self) -> Result<Option<String>, String> {
        let Some(id) = self.fields.get("folder_to_save").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
            return Ok(None);
        };
        match self.send("GET", &format!("files/{id}"), None)? {
            (200, body) => Ok(body.pointer("/data/attributes/path").and_then(Value::as_str).map(str::to_owned)),
            (status, body) => Err(format!("the directory {id} cannot be read: {status} {body}")),
        }
    }

    /// Creates a document under an id of our own; returns whether it is new.
    pub fn create(&self, doctype: &str, id: &str, document: &Value) -> Result<bool, String> {
        match self.send("PUT", &format!("data/{doctype}/{id}"), Some(document))? {
            (200 | 201, _) => Ok(true),
            (409, _) => Ok(false),
            (status, body) => Err(format!("{doctype}/{id} cannot be saved: {status} {body}")),
        }
    }

    fn send(&self, method: &'static str, path: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
        let mut request = Request::new(method, &format!("{}{path}", self.url))?;
        request.headers.push(("Authorization".to_owned(), format!("Bearer {}", self.token)));
        if let Some(body) = body {
            request.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
            request.body = body.to_string().into_bytes();
        }
        let response = send(request)?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        Ok((response.status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}
