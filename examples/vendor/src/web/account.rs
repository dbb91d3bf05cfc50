//! The front page, and the account without its bills.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use serde::Serialize;

use super::page::{self, PageFrame};
use super::translations::Translations;
use super::visitor::{SignedIn, Visitor};
use crate::contract::Contract;
use crate::control::Control;
use crate::customer::{CUSTOMER, Customer};
use crate::switches::Layout;

#[derive(Template)]
#[template(path = "front.html")]
struct FrontPage<'a> {
    frame: PageFrame<'a>,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    frame: PageFrame<'a>,
    layout: Layout,
    data: AccountData,
}

#[derive(Template)]
#[template(path = "profile.html")]
struct ProfilePage<'a> {
    frame: PageFrame<'a>,
    customer: Customer,
}

/// The JSON in the script of the account page.
#[derive(Serialize)]
struct AccountData {
    customer: Customer,
    contracts: Vec<ContractData>,
}

#[derive(Serialize)]
struct ContractData {
    id: &'static str,
    label: &'static str,
    language: &'static str,
    bills: String,
}

/// Handles `GET /`, the public front page.
pub async fn front(visitor: Visitor) -> Response {
    let title = Translations::for_language(visitor.language).front;
    page::page(StatusCode::OK, &FrontPage { frame: PageFrame::public(visitor.language, title) })
}

/// Handles `GET /account`, one more redirect between the login and the account.
pub async fn redirect_home(_: SignedIn) -> Redirect {
    Redirect::to("/account/home")
}

/// Handles `GET /account/home`, which shows the contracts, as links and as JSON in a script.
pub async fn home(State(control): State<Control>, signed_in: SignedIn) -> Response {
    let contracts = Contract::ALL.map(|contract| ContractData {
        id: contract.id(),
        label: contract.label(),
        language: contract.language().tag(),
        bills: format!("/account/bills?contract={}", contract.id()),
    });
    let layout = control.site().switches.layout;
    let title = Translations::for_language(signed_in.language).home;
    let frame = PageFrame::private(signed_in.language, title, &signed_in.csrf);
    let data = AccountData { customer: CUSTOMER, contracts: contracts.into() };
    page::page(StatusCode::OK, &HomePage { frame, layout, data })
}

/// Handles `GET /account/profile`, which shows the customer's details, in ISO-8859-1.
pub async fn profile(signed_in: SignedIn) -> Response {
    let title = Translations::for_language(signed_in.language).profile;
    let frame = PageFrame { charset: "iso-8859-1", ..PageFrame::private(signed_in.language, title, &signed_in.csrf) };
    page::latin1_page(&ProfilePage { frame, customer: CUSTOMER })
}
