//! The control API over HTTP, and the life cycle of the vendor.

use demo_vendor::{Bill, Contract, Counters, Error, State, Vendor, VendorOptions};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::browser::{provide_tls, start, start_signed_in, texts};

async fn call(root: &str, method: Method, path: &str, body: Option<Value>) -> Response {
    provide_tls();
    let mut request = Client::new().request(method, format!("{root}/_control{path}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_patch_changes_the_switches_and_a_reset_takes_them_back() {
    let (vendor, browser) = start_signed_in(|switches| switches.slow_ms = 1).await.unwrap();
    let root = vendor.url();
    let patch = json!({"maintenance": true, "layout": "new", "pdf_html": ["FA-2026-0020"], "locked_after": 3});
    let state: State = call(root, Method::PATCH, "/state", Some(patch)).await.json().await.unwrap();
    assert_eq!(state, vendor.control().state());
    assert!(state.switches.maintenance && state.switches.slow_ms == 1);
    assert_eq!(browser.get("/").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);

    let state: Value = call(root, Method::POST, "/reset", None).await.json().await.unwrap();
    assert_eq!(state["maintenance"], false);
    assert_eq!(state["slow_ms"], 1);
    assert_eq!(state["locked"], false);
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/login");
}

#[tokio::test]
async fn a_wrong_patch_is_explained_and_changes_nothing() {
    let (vendor, _) = start(|_| {}).await.unwrap();
    let before = vendor.control().state();
    let patch = json!({"maintenance": true, "slow": 3});
    let response = call(vendor.url(), Method::PATCH, "/state", Some(patch)).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let error = response.json::<Value>().await.unwrap()["error"].to_string();
    assert!(error.contains("unknown field `slow`") && error.contains("`slow_ms`"), "{error}");
    assert_eq!(vendor.control().state(), before);
}

#[tokio::test]
async fn bills_are_added_with_and_without_a_body() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let response = call(vendor.url(), Method::POST, "/bills", None).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let plain: Bill = response.json().await.unwrap();
    assert_eq!(plain.reference, "FA-2026-0021");
    let body =
        json!({"contract": "EN-7730", "issued_on": "2027-01-01", "amount_cents": 123456, "subject": "A <b> & c"});
    let reported: Bill = call(vendor.url(), Method::POST, "/bills", Some(body)).await.json().await.unwrap();
    assert_eq!((reported.contract, reported.reference.as_str()), (Contract::English, "INV-2027-0022"));
    assert_eq!(vendor.control().bills()[20..], [plain, reported]);

    let page = browser.page("/account/bills?contract=EN-7730").await.unwrap();
    assert_eq!(texts(&page, "td.amount")[0], "€1,234.56");
    assert_eq!(texts(&page, "td.subject")[0], "A <b> & c");
    let wrong = call(vendor.url(), Method::POST, "/bills", Some(json!({"contract": "DE-1"}))).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn requests_are_counted_by_path_and_by_session() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    browser.get("/account/bills?page=2").await.unwrap();
    browser.get("/account/bills").await.unwrap();
    browser.get("/elsewhere").await.unwrap();
    let counters: Counters = call(vendor.url(), Method::GET, "/counters", None).await.json().await.unwrap();
    assert_eq!(counters, vendor.control().counters());
    let paths: Vec<_> = counters.requests_by_path.iter().map(|(path, count)| (path.as_str(), *count)).collect();
    let expected = [("/account", 1), ("/account/bills", 2), ("/account/home", 1), ("/login", 2), ("other", 1)];
    assert_eq!(paths, expected);
    // The first request of the login page has no session, its form belongs to session 1, the account to session 2.
    let sessions: Vec<_> =
        counters.requests_by_session.iter().map(|(number, count)| (number.as_str(), *count)).collect();
    assert_eq!(sessions, [("1", 1), ("2", 5), ("none", 1)]);
    // The login page, the account, two lists.
    assert_eq!((counters.pages, counters.pdfs, counters.requests()), (4, 0, 7));
}

#[tokio::test]
async fn sessions_end_over_http() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let response = call(vendor.url(), Method::DELETE, "/sessions", None).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/login");
}

#[tokio::test]
async fn a_vendor_stops_when_it_is_dropped_and_frees_its_address() {
    let (vendor, browser) = start(|_| {}).await.unwrap();
    let address = vendor.address();
    browser.get("/").await.unwrap();
    vendor.shutdown().await.unwrap();
    assert!(browser.get("/").await.is_err());

    let restarted = Vendor::start(VendorOptions { listen: address, ..VendorOptions::default() }).await.unwrap();
    let error = Vendor::start(VendorOptions { listen: address, ..VendorOptions::default() }).await.unwrap_err();
    assert!(matches!(error, Error::Listen { address: named, .. } if named == address));
    drop(restarted);
    while browser.get("/").await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
