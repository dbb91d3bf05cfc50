//! A small OAuth provider on a real socket: it authenticates clients, rotates refresh tokens, and records requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A recorded token request.
#[derive(Debug, Clone, Default)]
pub struct RecordedTokenRequest {
    pub method: String,
    pub authorization: Option<String>,
    pub fields: Vec<(String, String)>,
}

impl RecordedTokenRequest {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Behavior of the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProviderBehavior {
    #[default]
    Normal,
    /// As in the case A2: a status of 401 and `invalid_token`.
    Revoked,
    Broken,
    Redirecting,
}

#[derive(Default)]
pub struct ProviderState {
    pub requests: Vec<RecordedTokenRequest>,
    pub behavior: ProviderBehavior,
    /// Delay before each response.
    pub delay: Duration,
    rotations: u32,
}

#[derive(Clone)]
pub struct FakeProvider {
    pub address: SocketAddr,
    pub state: Arc<Mutex<ProviderState>>,
}

impl FakeProvider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let provider = Self { address: listener.local_addr().expect("an address"), state: Arc::default() };
        let routes = Router::new().route("/token", any(token)).with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        provider
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn set_behavior(&self, behavior: ProviderBehavior) {
        self.state.lock().expect("a book").behavior = behavior;
    }

    pub fn requests(&self) -> Vec<RecordedTokenRequest> {
        self.state.lock().expect("a book").requests.clone()
    }
}

async fn token(State(provider): State<FakeProvider>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 16).await.unwrap_or_else(|_| Bytes::new());
    let text = if parts.method == http::Method::GET {
        parts.uri.query().unwrap_or_default().as_bytes().to_vec()
    } else {
        body.to_vec()
    };
    let recorded = RecordedTokenRequest {
        method: parts.method.to_string(),
        authorization: parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned),
        fields: url::form_urlencoded::parse(&text).into_owned().collect(),
    };
    let delay = provider.state.lock().expect("a book").delay;
    tokio::time::sleep(delay).await;
    let mut state = provider.state.lock().expect("a book");
    state.requests.push(recorded.clone());
    match state.behavior {
        ProviderBehavior::Normal => {}
        ProviderBehavior::Revoked => {
            return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_token" }))).into_response();
        }
        ProviderBehavior::Broken => return (StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response(),
        ProviderBehavior::Redirecting => return axum::response::Redirect::to("/elsewhere").into_response(),
    }
    let current = format!("refresh-{}", state.rotations);
    let good = match recorded.get("grant_type") {
        Some("authorization_code") => recorded.get("code") == Some("the-code"),
        Some("refresh_token") => recorded.get("refresh_token") == Some(&current),
        _ => false,
    };
    if !good {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    state.rotations += 1;
    let tokens: Value = json!({
        "access_token": format!("access-{}", state.rotations),
        "refresh_token": format!("refresh-{}", state.rotations),
        "token_type": "Bearer",
        "expires_in": 3600,
        "customer": "c-42",
    });
    Json(tokens).into_response()
}
