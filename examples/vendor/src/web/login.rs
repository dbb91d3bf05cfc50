//! The login: password, one-time code, logout.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::Cookie;
use serde::Deserialize;

use super::page::{self, PageFrame};
use super::translations::Translations;
use super::visitor::{SignedIn, Visitor, session_cookie};
use crate::control::Control;
use crate::language::Language;
use crate::session::{LoginStage, SESSION_COOKIE, Session, SessionToken};
use crate::site::{CodeCheck, Login};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: PageFrame<'a>,
    csrf: &'a str,
    login: &'a str,
    error: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "code.html")]
struct CodePage<'a> {
    frame: PageFrame<'a>,
    csrf: &'a str,
    error: Option<&'a str>,
}

/// The fields of the login form. A missing field is empty. Without a token the form is rejected as forged.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct LoginForm {
    csrf_token: String,
    login: String,
    password: String,
}

/// The fields of the form for the one-time code.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct CodeForm {
    csrf_token: String,
    code: String,
}

/// The field of the logout form.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct LogOutForm {
    csrf_token: String,
}

/// Handles `GET /login`, which shows the form in the visitor's session or a new one.
pub async fn form(State(control): State<Control>, visitor: Visitor) -> Response {
    let mut site = control.site();
    if site.is_locked() {
        return locked_page(visitor.language);
    }
    match visitor.session {
        Some((_, Session { stage: LoginStage::SignedIn, .. })) => Redirect::to("/account").into_response(),
        Some((_, Session { stage: LoginStage::Anonymous, csrf, .. })) => login_page(visitor.language, &csrf, "", None),
        // Back from the page of the code, so the login starts again.
        Some((_, Session { stage: LoginStage::AwaitingCode { .. }, .. })) | None => {
            if let Some(token) = visitor.token() {
                site.sessions.end(token);
            }
            let (token, session) = site.sessions.open(LoginStage::Anonymous);
            let page = login_page(visitor.language, &session.csrf, "", None);
            (CookieJar::new().add(session_cookie(&token)), page).into_response()
        }
    }
}

/// Handles `POST /login`: checks login and password.
pub async fn submit(State(control): State<Control>, visitor: Visitor, Form(form): Form<LoginForm>) -> Response {
    let outcome = control.site().log_in(visitor.token(), &form.csrf_token, &form.login, &form.password);
    match outcome {
        Login::InvalidCsrfToken => page::forbidden(visitor.language),
        Login::Locked => locked_page(visitor.language),
        Login::WrongPassword => {
            let error = Translations::for_language(visitor.language).wrong_password;
            login_page(visitor.language, &form.csrf_token, &form.login, Some(error))
        }
        Login::CodeNeeded(token) => redirect_with_session(&token, "/login/code"),
        Login::Done(token) => redirect_with_session(&token, "/account"),
    }
}

/// Handles `GET /login/code`, which shows the form for the code to visitors who gave the password.
pub async fn code_form(visitor: Visitor) -> Response {
    match &visitor.session {
        Some((_, Session { stage: LoginStage::AwaitingCode { .. }, csrf, .. })) => {
            code_page(visitor.language, csrf, None)
        }
        _ => Redirect::to(visitor.next_step()).into_response(),
    }
}

/// Handles `POST /login/code`: checks the one-time code.
pub async fn submit_code(State(control): State<Control>, visitor: Visitor, Form(form): Form<CodeForm>) -> Response {
    let outcome = control.site().check_code(visitor.token(), &form.csrf_token, &form.code);
    match outcome {
        CodeCheck::InvalidCsrfToken => page::forbidden(visitor.language),
        CodeCheck::LoginRequired => Redirect::to("/login").into_response(),
        CodeCheck::WrongCode => {
            code_page(visitor.language, &form.csrf_token, Some(Translations::for_language(visitor.language).wrong_code))
        }
        CodeCheck::Done(token) => redirect_with_session(&token, "/account"),
    }
}

/// Handles `POST /logout`: ends the session and deletes the cookie.
pub async fn log_out(State(control): State<Control>, signed_in: SignedIn, Form(form): Form<LogOutForm>) -> Response {
    if !control.site().log_out(&signed_in.token, &form.csrf_token) {
        return page::forbidden(signed_in.language);
    }
    let mut expired = Cookie::build(SESSION_COOKIE).path("/").build();
    expired.make_removal();
    (CookieJar::new().add(expired), Redirect::to("/")).into_response()
}

/// Returns a 303 to the next step, with the cookie of the new session.
fn redirect_with_session(token: &SessionToken, next: &str) -> Response {
    (CookieJar::new().add(session_cookie(token)), Redirect::to(next)).into_response()
}

fn login_page(language: Language, csrf: &str, login: &str, error: Option<&str>) -> Response {
    let frame = PageFrame::public(language, Translations::for_language(language).log_in);
    page::page(StatusCode::OK, &LoginPage { frame, csrf, login, error })
}

fn code_page(language: Language, csrf: &str, error: Option<&str>) -> Response {
    let frame = PageFrame::public(language, Translations::for_language(language).code);
    page::page(StatusCode::OK, &CodePage { frame, csrf, error })
}

/// Returns the page of a locked account: status 200, like the page of a wrong password, as on most sites.
fn locked_page(language: Language) -> Response {
    page::notice(StatusCode::OK, language, "locked", Translations::for_language(language).locked)
}
