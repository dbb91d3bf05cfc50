//! Saves the bills of an account at Bank101: the same as `bank101`, written as a plain program for the environment and the standard output
//! of Cozy's konnectors (Cozy API, konnector run-time contract). Nothing in it is ours: compiled for this machine it runs as a process
//! beside any server of that API, compiled for `wasm32-wasip2` it is a command component.

mod bank;
mod cozy;
mod http;

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bank::{Bank, Bill};
use crate::cozy::{Cozy, say};

/// Why the program ends early: an error code of Cozy's vocabulary, or a text for the author.
struct Failure {
    error: String,
    no_retry: bool,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self { error, no_retry: false }
    }
}

fn main() {
    if let Err(Failure { error, no_retry }) = run() {
        println!("{}", json!({ "type": "critical", "message": error, "no_retry": no_retry }));
    }
}

fn run() -> Result<(), Failure> {
    let cozy = Cozy::from_environment()?;
    let account = cozy.account()?;
    let auth = account.get("auth");
    let login = |name: &str| auth.and_then(|auth| auth.get(name)?.as_str()).unwrap_or_default().to_owned();
    let mut bank = Bank::new(cozy.parameter("url")?)?;
    if !bank.log_in(&login("login"), &login("password"))? {
        return Err(Failure { error: "LOGIN_FAILED".to_owned(), no_retry: true });
    }
    say("info", "the bank accepted the login");
    let bills = bank.bills()?;
    let mut new = 0;
    for bill in &bills {
        new += u32::from(save(&cozy, &mut bank, bill)?);
    }
    say("info", &format!("{new} of {} bills are new", bills.len()));
    Ok(())
}

/// Saves a bill; answers whether it is new. The PDF is fetched once, and put where there is a folder for it.
fn save(cozy: &Cozy, bank: &mut Bank, bill: &Bill) -> Result<bool, String> {
    let document = json!({
        "vendor": "Bank101", "vendorRef": bill.reference, "subject": bill.subject, "amount": bill.amount, "date": bill.date,
    });
    if !cozy.create("io.cozy.bills", &bill.reference, &document)? {
        return Ok(false);
    }
    let pdf = bank.pdf(bill)?;
    let folder = ["/files", "/tmp"].map(Path::new).into_iter().find(|folder| folder.is_dir());
    match folder.map(|folder| fs::write(folder.join(format!("{}.pdf", bill.reference)), &pdf)) {
        Some(Ok(())) => {}
        Some(Err(error)) => say("warn", &format!("the PDF of {} cannot be written: {error}", bill.reference)),
        None => say("debug", &format!("no folder for the PDF of {}", bill.reference)),
    }
    Ok(true)
}
