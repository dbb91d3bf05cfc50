use super::*;
use konnector_sdk::testing::{MockHost, MockResponse};

const SITE: &str = "http://127.0.0.1:9091";
const LOGIN: &str = r#"<form id="login" method="post" action="/login"><input type="hidden" name="csrf_token" value="t1">
    <input name="login"><input type="password" name="password"></form>"#;
const HOME: &str = r#"<script id="account-data" type="application/json">{"contracts": [
    {"id": "FR-2041", "label": "Compte courant", "bills": "/account/bills?contract=FR-2041"}]}</script>"#;
const PROFILE: &str = r#"<dl class="profile"><dd class="name"><span class="given-name">Zoé</span> <span class="family-name">Müller</span></dd>
    <dd class="address"><span class="street">1 rue Haute</span>, <span class="postcode">69001</span> <span class="city">Lyon</span></dd>
    <dd class="email">zoe@example.org</dd><dd class="phone">+33 1 00</dd></dl>"#;

fn url(path: &str) -> String {
    format!("{SITE}{path}")
}

fn bills(rows: &str, next: &str) -> String {
    format!(r#"<table class="bills"><tbody>{rows}</tbody></table><nav class="pagination">{next}</nav>"#)
}

fn row(reference: &str, date: &str, amount: &str) -> String {
    format!(
        r#"<tr class="bill" data-reference="{reference}"><td class="date">{date}</td><td class="reference">{reference}</td>
           <td class="subject">Carte</td>{amount}<td class="document"><a href="/account/bills/{reference}.pdf">PDF</a></td></tr>"#
    )
}

/// Creates the site with its response to a login; `after` is the page after the password.
fn host(after: &str) -> MockHost {
    MockHost::new()
        .parameters(json!({ "url": SITE }))
        .field("login", "zoe")
        .secret("password")
        .respond(&url("/login"), LOGIN)
        .respond(&url("/login"), MockResponse::from(after).with_final_url(&url("/account/home")))
        .respond(&url("/account/profile"), PROFILE)
}

#[test]
fn saves_the_bills_of_all_pages_and_the_identity() {
    let first = row("FA-1", "3 novembre 2026", "<td class=amount>1\u{a0}234,56\u{a0}€</td>");
    let second = row("FA-2", "1er mai 2026", "<td class=amount>0,05\u{a0}€</td>");
    let next = r#"<a rel="next" href="/account/bills?contract=FR-2041&amp;page=2">Suivante</a>"#;
    let host = host(HOME)
        .respond(&url("/account/bills?contract=FR-2041"), bills(&first, next).as_str())
        .respond(&url("/account/bills?contract=FR-2041&page=2"), bills(&second, "").as_str())
        .respond(&url("/account/bills/FA-1.pdf"), MockResponse::bytes(b"%PDF-1"))
        .respond(&url("/account/bills/FA-2.pdf"), MockResponse::bytes(b"%PDF-2"));
    let report = host.run(run).unwrap();
    assert!(report.problems().is_empty(), "{report:?}");
    let amounts: Vec<_> = host.documents("io.cozy.bills").iter().map(|bill| bill["amount"].clone()).collect();
    assert_eq!(amounts, [json!(1234.56), json!(0.05)]);
    assert_eq!(host.files()[1].path, "Compte courant/2026-05-01_bank101_0.05EUR.pdf");
    assert_eq!(host.documents("io.cozy.identities")[0]["contact"]["name"]["familyName"], "Müller");
    let login = &host.requests()[1];
    assert_eq!(login.body, "csrf_token=t1&login=zoe&password=secret-password-placeholder");
}

#[test]
fn a_row_without_amount_is_reported_and_the_others_are_saved() {
    let rows = row("FA-1", "3 novembre 2026", "") + &row("FA-2", "03/11/2026", "<td class=amount>5,00 €</td>");
    let host = host(HOME)
        .respond(&url("/account/bills?contract=FR-2041"), bills(&rows, "").as_str())
        .respond(&url("/account/bills/FA-2.pdf"), MockResponse::bytes(b"%PDF-2"));
    let report = host.run(run).unwrap();
    assert_eq!(host.documents("io.cozy.bills").len(), 1);
    insta::assert_debug_snapshot!(report.problems(), @r#"
    [
        (
            "FA-1",
            "the vendor's site changed: http://127.0.0.1:9091/account/bills?contract=FR-2041 has no `.amount` within `tr.bill`",
        ),
    ]
    "#);
}

#[test]
fn each_failure_has_its_own_error() {
    let refused = format!("<p class=error>Mot de passe incorrect.</p>{LOGIN}");
    assert_eq!(host(&refused).run(run), Err(Error::bad_credentials("Mot de passe incorrect.")));
    assert_eq!(host("<p class=locked>Bloqué.</p>").run(run), Err(Error::too_many_attempts("Bloqué.")));
    let error = host("<script>window.__BANK101__ = {};</script>").run(run).unwrap_err();
    insta::assert_snapshot!(error, @"the vendor's site changed: http://127.0.0.1:9091/account/home has no `#account-data`");
    let down = MockHost::new().parameters(json!({ "url": SITE }));
    let down = down.respond(&url("/login"), MockResponse::status(503, "").header("retry-after", "60"));
    assert!(matches!(down.run(run), Err(Error::VendorMaintenance(_))));
}

#[test]
fn a_one_time_code_is_asked_for() {
    const CODE: &str = r#"<p class="lead">Saisissez le code</p>
        <form id="code" method="post" action="/login/code"><input name="code"></form>"#;
    assert!(matches!(host(CODE).run(run), Err(Error::CodeMissing(_))), "nobody is there");
    let wrong = host(CODE).one_time_code("1").respond(&url("/login/code"), "<p class=error>Code incorrect.</p>");
    assert_eq!(wrong.run(run), Err(Error::code_rejected("Code incorrect.")));
    let right = host(CODE).one_time_code(" 123456 ").respond(&url("/login/code"), HOME);
    let right = right.respond(&url("/account/bills?contract=FR-2041"), bills("", "").as_str());
    assert_eq!(right.run(run), Ok(Report::new()));
    assert_eq!(right.requests()[2].body, "code=123456");
}
