//! The list of bills in its three layouts, and the PDFs.

use std::collections::BTreeMap;

use demo_vendor::{Contract, Layout};
use reqwest::StatusCode;

use crate::browser::{attribute, select, start_signed_in, texts};

#[tokio::test]
async fn following_the_pages_meets_every_bill_once_and_its_pdf() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let home = browser.page("/account/home").await.unwrap();
    let mut seen = BTreeMap::new();
    for link in home.select(&select("ul.contracts a")) {
        let mut next = link.attr("href").map(str::to_owned);
        while let Some(path) = next {
            let page = browser.page(&path).await.unwrap();
            let rows = page.select(&select("table.bills tr.bill")).count();
            assert!((1..=7).contains(&rows), "{rows} bills on {path}");
            for link in page.select(&select("tr.bill td.document a")) {
                let pdf = link.attr("href").unwrap().to_owned();
                let reference = pdf.rsplit('/').next().unwrap().trim_end_matches(".pdf").to_owned();
                assert!(seen.insert(reference, pdf).is_none(), "a bill is listed twice on {path}");
            }
            next = attribute(&page, "a[rel=next]", "href");
        }
    }
    let mut expected: Vec<_> = vendor.control().bills().into_iter().map(|bill| bill.reference).collect();
    expected.sort();
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), expected);

    for (reference, path) in &seen {
        let response = browser.get(path).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/pdf");
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.starts_with(b"%PDF-"));
        assert_eq!(bytes, vendor.control().pdf(reference).unwrap());
    }
    assert_eq!(vendor.control().counters().pdfs, 20);
}

#[tokio::test]
async fn each_contract_is_written_in_its_language() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let french = browser.page("/account/bills").await.unwrap();
    assert_eq!(texts(&french, "td.date")[0], "3 novembre 2026");
    assert_eq!(texts(&french, "td.due")[0], "18/11/2026");
    assert!(texts(&french, "td.amount").iter().all(|amount| amount.ends_with("\u{a0}€") && amount.contains(',')));
    assert!(texts(&french, "td.amount").iter().any(|amount| amount.matches('\u{a0}').count() == 2), "no thousands");

    let english = browser.page("/account/bills?contract=EN-7730").await.unwrap();
    let newest = vendor.control().bills().into_iter().rfind(|bill| bill.contract == Contract::English).unwrap();
    assert_eq!(texts(&english, "td.date")[0], newest.issued_on.format("%b %-d, %Y").to_string());
    let cents: Vec<i64> = texts(&english, "td.amount")
        .iter()
        .map(|amount| amount.replace(['€', ',', '.'], "").parse().unwrap())
        .collect();
    assert_eq!(cents[0], newest.amount.cents());
    assert_eq!(attribute(&english, "html", "lang").unwrap(), "en");
}

#[tokio::test]
async fn addresses_of_nothing_are_not_found() {
    let (_vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    for path in [
        "/account/bills?page=4",
        "/account/bills?page=0",
        "/account/bills?contract=FR-0",
        "/account/bills/FA-1999-0001.pdf",
        "/account/bills/FA-2026-0020",
        "/elsewhere",
    ] {
        assert_eq!(browser.get(path).await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_pdf_that_the_client_has_is_not_sent_again() {
    let (vendor, browser) = start_signed_in(|_| {}).await.unwrap();
    let path = "/account/bills/FA-2026-0020.pdf";
    let first = browser.get_with(path, &[("accept-encoding", "gzip")]).await.unwrap();
    assert!(!first.headers().contains_key("content-encoding"));
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let response = browser.get_with(path, &[("if-none-match", &etag)]).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    let other = browser.get_with(path, &[("if-none-match", "\"other\"")]).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(vendor.control().counters().pdfs, 2);
}

#[tokio::test]
async fn pdfs_fail_in_two_ways() {
    let (_vendor, browser) = start_signed_in(|switches| {
        switches.pdf_error = vec!["FA-2026-0020".into()];
        switches.pdf_html = vec!["FA-2026-0019".into()];
    })
    .await
    .unwrap();
    let error = browser.get("/account/bills/FA-2026-0020.pdf").await.unwrap();
    assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let html = browser.get("/account/bills/FA-2026-0019.pdf").await.unwrap();
    assert_eq!(html.status(), StatusCode::OK);
    assert!(html.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let fine = browser.get("/account/bills/FA-2026-0017.pdf").await.unwrap();
    assert_eq!(fine.headers()["content-type"], "application/pdf");
}

#[tokio::test]
async fn the_new_layout_has_the_bills_but_nothing_of_the_old() {
    let (_vendor, browser) = start_signed_in(|switches| switches.layout = Layout::New).await.unwrap();
    let page = browser.page("/account/bills").await.unwrap();
    for missing in ["table", ".bill", ".bills", ".amount", "a[rel=next]"] {
        assert_eq!(page.select(&select(missing)).count(), 0, "{missing} is still there");
    }
    assert_eq!(page.select(&select("article.invoice-card")).count(), 7);
    let home = browser.page("/account/home").await.unwrap();
    assert_eq!(home.select(&select("#account-data, .contracts")).count(), 0);
}

#[tokio::test]
async fn a_malformed_list_lacks_amounts() {
    let (_vendor, browser) = start_signed_in(|switches| switches.malformed = true).await.unwrap();
    let source = browser.get("/account/bills").await.unwrap().text().await.unwrap();
    assert!(!source.contains("</table>") && !source.contains("</tr>"));
    let page = browser.page("/account/bills").await.unwrap();
    let amounts: Vec<usize> =
        page.select(&select("tr.bill")).map(|row| row.select(&select("td.amount")).count()).collect();
    assert_eq!(amounts, [1, 0, 1, 0, 1, 0, 1]);
}
