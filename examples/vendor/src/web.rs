//! The web site and its control API, as one axum router.

mod account;
mod bills;
mod control;
mod layers;
mod login;
mod page;
mod translations;
mod visitor;

use axum::Router;
use axum::http::header;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};

use crate::control::Control;

/// Creates the router of the whole vendor. The control API is separate from the site, so no switch delays or stops it,
/// and its requests are not counted.
pub fn router(control: Control) -> Router {
    site(control.clone()).nest("/_control", control::router()).with_state(control)
}

fn site(control: Control) -> Router<Control> {
    // A PDF is sent uncompressed, so the client knows its length, and its bytes are those of `Control::pdf`.
    let compressed = DefaultPredicate::new().and(NotForContentType::const_new("application/pdf"));
    Router::new()
        .route("/", get(account::front))
        .route("/style.css", get(style))
        .route("/login", get(login::form).post(login::submit))
        .route("/login/code", get(login::code_form).post(login::submit_code))
        .route("/logout", post(login::log_out))
        .route("/account", get(account::redirect_home))
        .route("/account/home", get(account::home))
        .route("/account/profile", get(account::profile))
        .route("/account/bills", get(bills::list))
        .route("/account/bills/{file}", get(bills::pdf))
        .fallback(page::not_found)
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(middleware::from_fn_with_state(control, layers::handle_request))
}

async fn style() -> ([(header::HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../templates/style.css"))
}
