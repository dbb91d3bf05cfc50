//! Pages: their common parts, and how a template becomes a response.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::translations::Translations;
use super::visitor::Visitor;
use crate::language::Language;

/// The frame around the contents of every page.
#[derive(Debug)]
pub struct PageFrame<'a> {
    pub language: &'static str,
    pub title: &'static str,
    pub texts: &'static Translations,
    /// The CSRF token of the logout form; `None` if the visitor is not logged in.
    pub log_out: Option<&'a str>,
    pub charset: &'static str,
}

impl<'a> PageFrame<'a> {
    /// Creates the frame of a page that anyone may see.
    pub fn public(language: Language, title: &'static str) -> Self {
        Self {
            language: language.tag(),
            title,
            texts: Translations::for_language(language),
            log_out: None,
            charset: "utf-8",
        }
    }

    /// Creates the frame of a page that requires the login.
    pub fn private(language: Language, title: &'static str, csrf: &'a str) -> Self {
        Self { log_out: Some(csrf), ..Self::public(language, title) }
    }
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    frame: PageFrame<'a>,
    class: &'a str,
    text: &'a str,
}

/// Renders a page in UTF-8.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, html_headers("text/html; charset=utf-8"), html).into_response(),
        Err(error) => render_error(&error),
    }
}

/// Renders a page in ISO-8859-1, with unsupported characters written as references (`&#8364;`).
pub fn latin1_page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            // Browsers read ISO-8859-1 as Windows-1252 (WHATWG Encoding, "Names and labels"), so this is how sites write it.
            let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(&html);
            (html_headers("text/html; charset=iso-8859-1"), bytes.into_owned()).into_response()
        }
        Err(error) => render_error(&error),
    }
}

/// Renders a page with one sentence, in a paragraph of this class.
pub fn notice(status: StatusCode, language: Language, class: &str, text: &str) -> Response {
    page(status, &Notice { frame: PageFrame::public(language, "Bank101"), class, text })
}

/// Returns the page for a form whose CSRF token does not match the session.
pub fn forbidden(language: Language) -> Response {
    notice(StatusCode::FORBIDDEN, language, "forbidden", Translations::for_language(language).forbidden)
}

/// Returns the page for an unknown URL.
pub async fn not_found(visitor: Visitor) -> Response {
    not_found_page(visitor.language)
}

/// Returns the page for a bill, contract or page number that does not exist.
pub fn not_found_page(language: Language) -> Response {
    notice(StatusCode::NOT_FOUND, language, "not-found", Translations::for_language(language).not_found)
}

fn html_headers(content_type: &'static str) -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
}

fn render_error(error: &askama::Error) -> Response {
    tracing::error!(%error, "a template failed");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
