//! Encodings, embedded JSON, maintenance and slowness.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use reqwest::StatusCode;
use scraper::Html;
use serde_json::Value;

use crate::browser::{select, start, start_signed_in, texts};

#[tokio::test]
async fn the_profile_is_in_iso_8859_1() {
    let (_vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let response = browser.get("/account/profile").await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=iso-8859-1");
    let bytes = response.bytes().await.unwrap();
    assert!(std::str::from_utf8(&bytes).is_err(), "the page is in UTF-8");
    // In ISO-8859-1 each byte is the code point of its character.
    let html = Html::parse_document(&bytes.iter().copied().map(char::from).collect::<String>());
    assert_eq!(texts(&html, "dd.name"), ["Ada Lovelace-Noël"]);
    assert_eq!(texts(&html, "dd.address"), ["3 allée des Érables, 69003 Lyon"]);
    assert_eq!(texts(&html, "dd.email"), ["ada@bank101.example"]);
    assert_eq!(texts(&html, "dd.phone"), ["+33 6 39 98 12 34"]);
}

#[tokio::test]
async fn pages_are_compressed_for_those_who_accept_it() {
    let (_vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let plain = browser.get_with("/account/bills", &[("accept-encoding", "identity")]).await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().await.unwrap();

    let packed = browser.get_with("/account/bills", &[("accept-encoding", "gzip")]).await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.unwrap();
    assert!(packed.len() < plain.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn the_account_page_carries_the_contracts_as_json() {
    let (_vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let home = browser.page("/account/home").await.unwrap();
    let script: String = home.select(&select("script#account-data")).next().unwrap().text().collect();
    let data: Value = serde_json::from_str(&script).unwrap();
    assert_eq!(data["contracts"][0]["id"], "FR-2041");
    assert_eq!(data["contracts"][1]["bills"], "/account/bills?contract=EN-7730");
    assert_eq!(data["customer"]["family_name"], "Lovelace-Noël");
}

#[tokio::test]
async fn maintenance_says_when_to_come_back() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    vendor.control().set(|switches| switches.maintenance = true);
    for path in ["/", "/login", "/account/home", "/account/bills/FA-2026-0020.pdf"] {
        let response = browser.get(path).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()["retry-after"], "120");
    }
    vendor.control().set(|switches| switches.maintenance = false);
    assert_eq!(browser.get("/account/home").await.unwrap().url().path(), "/account/home");
}

#[tokio::test]
async fn a_slow_vendor_makes_pages_wait_but_not_its_control() {
    let (_vendor, browser) = start(|switches| switches.slow_ms = 300).await.unwrap();
    let started = Instant::now();
    browser.get("/_control/state").await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(300));
    let started = Instant::now();
    browser.get("/").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
}
