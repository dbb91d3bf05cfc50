//! The bills: the list in its three layouts, and the PDFs.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::TypedHeader;
use axum_extra::headers::{ETag, IfNoneMatch};
use serde::Deserialize;

use super::page::{self, PageFrame};
use super::translations::Translations;
use super::visitor::SignedIn;
use crate::bill::Bill;
use crate::contract::Contract;
use crate::control::Control;
use crate::pdf;
use crate::switches::Layout;

/// `?contract=…&page=…`; without them, the first page of the first contract.
#[derive(Deserialize)]
pub struct ListQuery {
    contract: Option<String>,
    page: Option<usize>,
}

/// Data that all layouts of the list show.
struct ListView<'a> {
    frame: PageFrame<'a>,
    contract: &'static str,
    label: &'static str,
    rows: Vec<Row>,
    page: usize,
    pages: usize,
    previous: Option<String>,
    next: Option<String>,
}

struct Row {
    reference: String,
    subject: String,
    issued: String,
    issued_short: String,
    due: String,
    amount: String,
    pdf: String,
}

#[derive(Template)]
#[template(path = "bills_old.html")]
struct OldList<'a> {
    frame: &'a PageFrame<'a>,
    view: &'a ListView<'a>,
}

#[derive(Template)]
#[template(path = "bills_new.html")]
struct NewList<'a> {
    frame: &'a PageFrame<'a>,
    view: &'a ListView<'a>,
}

#[derive(Template)]
#[template(path = "bills_malformed.html")]
struct MalformedList<'a> {
    frame: &'a PageFrame<'a>,
    view: &'a ListView<'a>,
}

impl Row {
    fn new(bill: &Bill) -> Self {
        let language = bill.contract.language();
        Self {
            reference: bill.reference.clone(),
            subject: bill.subject.clone(),
            issued: language.long_date(bill.issued_on),
            issued_short: language.short_date(bill.issued_on),
            due: language.short_date(bill.due_on()),
            amount: language.amount(bill.amount),
            pdf: bill.pdf_path(),
        }
    }
}

/// Handles `GET /account/bills`: one page of the bills of a contract, newest first, in the language of the contract.
pub async fn list(State(control): State<Control>, signed_in: SignedIn, Query(query): Query<ListQuery>) -> Response {
    let contract = match query.contract.as_deref() {
        None => Some(Contract::French),
        Some(id) => Contract::from_id(id),
    };
    let site = control.site();
    let page = contract.and_then(|contract| Some((contract, site.ledger.page(contract, query.page.unwrap_or(1))?)));
    let Some((contract, page)) = page else {
        return page::not_found_page(signed_in.language);
    };
    let language = contract.language();
    let link = |number: usize| format!("/account/bills?contract={}&page={number}", contract.id());
    let view = ListView {
        frame: PageFrame::private(language, Translations::for_language(language).bills, &signed_in.csrf),
        contract: contract.id(),
        label: contract.label(),
        rows: page.bills.iter().map(|bill| Row::new(bill)).collect(),
        page: page.number,
        pages: page.count,
        previous: (page.number > 1).then(|| link(page.number - 1)),
        next: (page.number < page.count).then(|| link(page.number + 1)),
    };
    let (frame, view) = (&view.frame, &view);
    match (site.switches.malformed, site.switches.layout) {
        (true, _) => page::page(StatusCode::OK, &MalformedList { frame, view }),
        (false, Layout::Old) => page::page(StatusCode::OK, &OldList { frame, view }),
        (false, Layout::New) => page::page(StatusCode::OK, &NewList { frame, view }),
    }
}

/// Handles `GET /account/bills/<reference>.pdf`, with a strong `ETag`: 304 if the client has it (RFC 9110 §13.1.2).
pub async fn pdf(
    State(control): State<Control>,
    signed_in: SignedIn,
    Path(file): Path<String>,
    known: Option<TypedHeader<IfNoneMatch>>,
) -> Response {
    let language = signed_in.language;
    let broken = |status| page::notice(status, language, "broken", Translations::for_language(language).broken);
    let bill = {
        let site = control.site();
        let Some(bill) = file.strip_suffix(".pdf").and_then(|reference| site.ledger.find(reference)) else {
            return page::not_found_page(language);
        };
        if site.switches.pdf_error.contains(&bill.reference) {
            return broken(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if site.switches.pdf_html.contains(&bill.reference) {
            return broken(StatusCode::OK);
        }
        bill.clone()
    };
    let bytes = pdf::render(&bill);
    let Ok(etag) = format!("\"{:08x}-{:x}\"", crc32fast::hash(&bytes), bytes.len()).parse::<ETag>() else {
        return broken(StatusCode::INTERNAL_SERVER_ERROR);
    };
    if known.is_some_and(|TypedHeader(known)| !known.precondition_passes(&etag)) {
        return (StatusCode::NOT_MODIFIED, TypedHeader(etag)).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/pdf")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    let disposition = [(header::CONTENT_DISPOSITION, format!("inline; filename=\"{}.pdf\"", bill.reference))];
    (headers, disposition, TypedHeader(etag), bytes).into_response()
}
