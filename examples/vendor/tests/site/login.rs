//! Login, one-time code, lock, logout.

use std::num::NonZeroU32;

use demo_vendor::{DEFAULT_LOGIN, DEFAULT_PASSWORD, SESSION_COOKIE};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use scraper::Html;

use crate::browser::{Browser, attribute, start, start_signed_in, texts};

#[tokio::test]
async fn a_login_goes_by_two_redirects_to_the_account_and_changes_the_cookie() {
    let (vendor, _) = start(|_| {}).await.unwrap();
    let browser = Browser::new(&vendor, Policy::none()).unwrap();
    let first = browser.get("/login").await.unwrap();
    let before = first.cookies().find(|cookie| cookie.name() == SESSION_COOKIE).unwrap().value().to_owned();

    let response = browser.log_in(DEFAULT_PASSWORD).await.unwrap();
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()["location"], "/account");
    let cookie = response.cookies().find(|cookie| cookie.name() == SESSION_COOKIE).unwrap();
    assert!(cookie.http_only() && cookie.path() == Some("/") && cookie.max_age().is_none());
    assert_ne!(cookie.value(), before);

    let entrance = browser.get("/account").await.unwrap();
    assert_eq!(
        (entrance.status(), &entrance.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/account/home".parse().unwrap())
    );
    assert_eq!(browser.get("/account/home").await.unwrap().status(), StatusCode::OK);
    assert_eq!(vendor.control().counters().logins, 1);
}

#[tokio::test]
async fn a_login_without_the_right_csrf_token_is_forbidden() {
    let (vendor, browser) = start(|_| {}).await.unwrap();
    let right = [("login", DEFAULT_LOGIN), ("password", DEFAULT_PASSWORD)];
    assert_eq!(browser.post("/login", &right).await.unwrap().status(), StatusCode::FORBIDDEN);

    // A valid token of another session.
    let other = Browser::new(&vendor, Policy::default()).unwrap().page("/login").await.unwrap();
    let token = attribute(&other, "input[name=csrf_token]", "value").unwrap();
    browser.page("/login").await.unwrap();
    let forged = [right[0], right[1], ("csrf_token", token.as_str())];
    assert_eq!(browser.post("/login", &forged).await.unwrap().status(), StatusCode::FORBIDDEN);

    let counters = vendor.control().counters();
    assert_eq!((counters.logins, counters.login_attempts_wrong, counters.forged), (0, 0, 2));
}

#[tokio::test]
async fn a_wrong_password_is_reported_in_the_language_of_the_browser_and_counted_once() {
    let (vendor, browser) = start(|_| {}).await.unwrap();
    let response = browser.log_in("wrong").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let html = Html::parse_document(&response.text().await.unwrap());
    assert_eq!(texts(&html, ".error"), ["Identifiant ou mot de passe incorrect."]);
    assert_eq!(attribute(&html, "input[name=login]", "value").unwrap(), DEFAULT_LOGIN);
    assert_eq!(vendor.control().counters().login_attempts_wrong, 1);

    let english = browser.get_with("/login", &[("accept-language", "en-GB,fr;q=0.5")]).await.unwrap();
    let html = Html::parse_document(&english.text().await.unwrap());
    assert_eq!(texts(&html, "h1"), ["Log in"]);
    assert_eq!(browser.log_in(DEFAULT_PASSWORD).await.unwrap().url().path(), "/account/home");
}

#[tokio::test]
async fn pages_that_need_a_login_redirect_to_it() {
    let (_vendor, browser) = start(|_| {}).await.unwrap();
    for path in ["/account", "/account/home", "/account/profile", "/account/bills", "/account/bills/FA-2026-0020.pdf"] {
        let response = browser.get(path).await.unwrap();
        assert_eq!((response.status(), response.url().path()), (StatusCode::OK, "/login"), "{path}");
    }
}

#[tokio::test]
async fn a_code_is_asked_for_after_the_password() {
    let (vendor, browser) = start(|switches| switches.otp = true).await.unwrap();
    assert_eq!(browser.log_in(DEFAULT_PASSWORD).await.unwrap().url().path(), "/login/code");
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/login/code");

    let wrong = browser.send_form("/login/code", "form#code", &[("code", "not it")]).await.unwrap();
    let html = Html::parse_document(&wrong.text().await.unwrap());
    assert_eq!(texts(&html, ".error"), ["Code incorrect."]);
    assert_eq!((vendor.control().counters().codes_wrong, vendor.control().counters().logins), (1, 0));

    let code = vendor.control().code().unwrap();
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let home = browser.send_form("/login/code", "form#code", &[("code", &code)]).await.unwrap();
    assert_eq!(home.url().path(), "/account/home");
    assert_eq!((vendor.control().code(), vendor.control().counters().logins), (None, 1));
}

#[tokio::test]
async fn too_many_wrong_passwords_lock_the_account() {
    let (vendor, browser) = start(|switches| switches.locked_after = NonZeroU32::new(2)).await.unwrap();
    let first = Html::parse_document(&browser.log_in("wrong").await.unwrap().text().await.unwrap());
    assert_eq!((texts(&first, ".error").len(), texts(&first, ".locked").len()), (1, 0));
    let second = Html::parse_document(&browser.log_in("wrong").await.unwrap().text().await.unwrap());
    assert_eq!((texts(&second, ".error").len(), texts(&second, ".locked").len()), (0, 1));
    let page = browser.page("/login").await.unwrap();
    assert_eq!((texts(&page, ".locked").len(), texts(&page, "form").len()), (1, 0));
    assert!(vendor.control().state().locked);
}

#[tokio::test]
async fn logging_out_ends_the_session() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    assert_eq!(browser.post("/logout", &[("csrf_token", "other")]).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/account/home");
    let out = browser.send_form("/account/home", "form#logout", &[]).await.unwrap();
    assert_eq!(out.url().path(), "/");
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/login");
    assert_eq!(vendor.control().counters().forged, 1);
}

#[tokio::test]
async fn ended_sessions_have_to_log_in_again() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    vendor.control().end_sessions();
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/login");
    assert_eq!(browser.log_in(DEFAULT_PASSWORD).await.unwrap().url().path(), "/account/home");
}
