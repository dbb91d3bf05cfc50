//! Calls every function of the contract once or twice and logs the answers, one line each.

use konnector_sdk::bindings::konnector::host::log;
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    say(format!("{job:?}"));
    account();
    secret();
    documents();
    files();
    progress_and_log();
    Ok(Report { problems: vec![Problem { item: "bill 7".to_owned(), message: "no amount".to_owned() }] })
}

fn account() {
    say(format!("{:?}", account::describe()));
    say(account::fields());
    say(format!("{:?}", account::load_state()));
    say(format!("{:?}", account::save_state(r#"{"cursor":7}"#)));
    say(format!("{:?}", account::load_state()));
    say(format!("{:?}", account::save_state("{")));
    say(format!("{:?}", account::save_state(&format!("\"{}\"", "x".repeat(65_536)))));
}

fn secret() {
    say(format!("{:?}", secrets::names()));
    say(format!("{:?}", secrets::placeholder("password").map(|word| word.len() > 20)));
    say(format!("{:?}", secrets::placeholder("pin")));
    say(format!("{:?}", reveal::reveal("pin")));
    let password = reveal::reveal("password").expect("a password");
    say(format!("the password has {} characters: {password}", password.len()));
    say(format!("{:?}", secrets::put("refresh_token", "token-of-the-vendor")));
    say("the token is token-of-the-vendor");
    say(format!("{:?}", secrets::names()));
}

fn documents() {
    let item = |key: &str, body: &str| documents::Item { key: key.to_owned(), body: body.to_owned() };
    let bills = "io.cozy.bills";
    say(format!("{:?}", documents::save(bills, &[item("1", r#"{"amount":1}"#), item("2", r#"{"amount":2}"#)])));
    say(format!("{:?}", documents::save(bills, &[item("1", r#"{"amount":1}"#), item("2", r#"{"amount":3}"#)])));
    say(format!("{:?}", documents::save(bills, &[item("1", "[]")])));
    say(format!("{:?}", documents::save(bills, &vec![item("1", "{}"); 501])));
    say(format!("{:?}", documents::get(bills, "io.cozy.bills-2")));
    say(format!("{:?}", documents::get(bills, "nothing")));
    say(format!("{:?}", documents::get("io.cozy.contacts", "1")));
    say(format!("{:?}", documents::query(bills, r#"{"amount":3}"#, 10, None)));
    say(format!("{:?}", documents::query(bills, "{}", 0, None)));
    say(format!("{:?}", documents::delete(bills, &["1".to_owned(), "9".to_owned()])));
}

fn files() {
    let upload = files::create(&target("bill.pdf")).expect("an upload");
    upload.write(b"%PDF-").expect("written");
    upload.write(b"1.7").expect("written");
    say(format!("{:?}", files::Upload::commit(upload)));
    say(format!(
        "{:?}",
        files::lookup(&["bill.pdf".to_owned(), "other.pdf".to_owned()])
            .map(|found| { found.into_iter().map(|file| file.map(|file| file.path)).collect::<Vec<_>>() })
    ));
    say(format!("{:?}", files::read("bill.pdf", 5, 2)));
    say(format!("{:?}", files::read("nothing", 0, 2)));
    let broken = files::Target { metadata: "[".to_owned(), ..target("x") };
    say(format!("{:?}", files::create(&broken).map(|_| ())));
    say(format!("{:?}", files::remove(&["bill.pdf".to_owned()])));
}

fn progress_and_log() {
    progress::report(1, Some(2), "bills of hunter22");
    progress::login_succeeded();
    say(format!("{}", progress::remaining_ms() <= 300_000));
    log::emit(log::Level::Error, "two\nlines of hunter22", &[("user".to_owned(), "hunter22".to_owned())]);
    http::forget_session();
    say(format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    say(format!("{:?}", std::env::args().collect::<Vec<_>>()));
    say(format!("{}", std::fs::read_dir("/").is_err()));
    say(format!("{:?}", std::io::read_to_string(std::io::stdin()).ok()));
}
