//! Saves the bills of an account at Bank101: like `bank101`, but written as a plain program for the environment and
//! the standard output of Cozy's konnectors (Cozy API, konnector run-time contract). Nothing in it is specific to
//! this server. Compiled for this machine it runs as a process next to any server of that API; compiled for
//! `wasm32-wasip2` it is a command component.

mod bank;
mod cozy;
mod http;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bank::{Bank, Bill};
use crate::cozy::{Cozy, print_message};

/// Why the program ends early: an error code of Cozy's vocabulary, or a message for the author.
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
    print_message("info", "the bank accepted the login");
    let folder = folder(&cozy)?;
    let bills = bank.bills()?;
    let mut new = 0;
    for bill in &bills {
        new += u32::from(save(&cozy, &mut bank, &folder, bill)?);
    }
    print_message("info", &format!("{new} of {} bills are new", bills.len()));
    Ok(())
}

/// Returns the folder for PDFs: among the user's files if they are mounted, otherwise the working directory.
fn folder(cozy: &Cozy) -> Result<PathBuf, String> {
    let files = Path::new("/files");
    let folder = match cozy.folder()? {
        Some(path) if files.is_dir() => files.join(path.trim_start_matches('/')),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Saves a bill with its PDF; returns whether it is new.
fn save(cozy: &Cozy, bank: &mut Bank, folder: &Path, bill: &Bill) -> Result<bool, String> {
    let document = json!({
        "vendor": "Bank101", "vendorRef": bill.reference, "subject": bill.subject, "amount": bill.amount, "date": bill.date,
    });
    if !cozy.create("io.cozy.bills", &bill.reference, &document)? {
        return Ok(false);
    }
    let file = folder.join(format!("{}.pdf", bill.reference));
    fs::write(&file, bank.pdf(bill)?).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(true)
}
