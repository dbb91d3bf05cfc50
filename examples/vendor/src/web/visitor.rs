//! The sender of a request: the session and the language.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::Redirect;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};

use crate::control::Control;
use crate::language::Language;
use crate::session::{LoginStage, SESSION_COOKIE, Session, SessionToken};

/// Any visitor, logged in or not.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The language of the browser.
    pub language: Language,
    /// The live session of the cookie, as it was when the request arrived.
    pub session: Option<(SessionToken, Session)>,
}

impl Visitor {
    /// Returns the token of the session, if there is one.
    pub fn token(&self) -> Option<&SessionToken> {
        self.session.as_ref().map(|(token, _)| token)
    }

    /// Returns the number of the session, for logs and counters.
    pub fn session_number(&self) -> Option<u64> {
        self.session.as_ref().map(|(_, session)| session.number)
    }

    /// Returns the path of the page for a visitor who may not see the requested page, or who has just completed a step.
    pub fn next_step(&self) -> &'static str {
        match self.session.as_ref().map(|(_, session)| &session.stage) {
            Some(LoginStage::SignedIn) => "/account",
            Some(LoginStage::AwaitingCode { .. }) => "/login/code",
            Some(LoginStage::Anonymous) | None => "/login",
        }
    }
}

impl FromRequestParts<Control> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Infallible> {
        let language = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let jar = CookieJar::from_headers(&parts.headers);
        let token = jar.get(SESSION_COOKIE).map(|cookie| SessionToken::from_cookie(cookie.value()));
        let session = token.and_then(|token| control.site().session(token));
        Ok(Self { language: Language::from_accept_language(language), session })
    }
}

/// A visitor who is logged in. All others are redirected to the login.
#[derive(Debug)]
pub struct SignedIn {
    /// The language of the browser.
    pub language: Language,
    /// The session.
    pub token: SessionToken,
    /// The CSRF token that the forms of this session send back.
    pub csrf: String,
}

impl FromRequestParts<Control> for SignedIn {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Redirect> {
        let Ok(visitor) = Visitor::from_request_parts(parts, control).await;
        let redirect = Redirect::to(visitor.next_step());
        match visitor.session {
            Some((token, Session { csrf, stage: LoginStage::SignedIn, .. })) => {
                Ok(Self { language: visitor.language, token, csrf })
            }
            _ => Err(redirect),
        }
    }
}

/// Returns the cookie of a session: deleted when the browser closes, inaccessible to scripts. Not `Secure`, because the
/// demo uses plain HTTP on loopback.
pub fn session_cookie(token: &SessionToken) -> Cookie<'static> {
    Cookie::build((SESSION_COOKIE, token.as_str().to_owned()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .build()
}
