//! Calls every function of the contract once or twice and logs the results, one line each.

use konnector_sdk::bindings::konnector::host::log;
use test_guests::prelude::*;
use types::Locator;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    log_info(format!("{job:?}"));
    account();
    secret();
    documents();
    files();
    cookies();
    progress_and_log();
    Ok(Report { problems: vec![Problem { item: "bill 7".to_owned(), message: "no amount".to_owned() }] })
}

fn account() {
    log_info(format!("{:?}", account::describe()));
    log_info(account::fields());
    log_info(format!("{:?}", account::load_state()));
    log_info(format!("{:?}", account::save_state(r#"{"cursor":7}"#)));
    log_info(format!("{:?}", account::load_state()));
    log_info(format!("{:?}", account::save_state("{")));
    log_info(format!("{:?}", account::save_state(&format!("\"{}\"", "x".repeat(65_536)))));
}

fn secret() {
    log_info(format!("{:?}", secrets::names()));
    log_info(format!("{:?}", secrets::placeholder("password").map(|word| word.len() > 20)));
    log_info(format!("{:?}", secrets::placeholder("pin")));
    log_info(format!("{:?}", reveal::reveal("pin")));
    let password = reveal::reveal("password").expect("a password");
    log_info(format!("the password has {} characters: {password}", password.len()));
    log_info(format!("{:?}", secrets::put("refresh_token", "token-of-the-vendor")));
    log_info("the token is token-of-the-vendor");
    log_info(format!("{:?}", secrets::names()));
}

fn documents() {
    let item = |key: &str, body: &str| documents::Item { key: key.to_owned(), body: body.to_owned() };
    let bills = "io.cozy.bills";
    log_info(format!("{:?}", documents::save(bills, &[item("1", r#"{"amount":1}"#), item("2", r#"{"amount":2}"#)])));
    log_info(format!("{:?}", documents::save(bills, &[item("1", r#"{"amount":1}"#), item("2", r#"{"amount":3}"#)])));
    log_info(format!("{:?}", documents::save(bills, &[item("1", "[]")])));
    log_info(format!("{:?}", documents::save(bills, &vec![item("1", "{}"); 501])));
    let id = |id: &str| Locator::Id(id.to_owned());
    let key = |key: &str| Locator::Key(key.to_owned());
    log_info(format!("{:?}", documents::get(bills, &id("io.cozy.bills-2"))));
    log_info(format!("{:?}", documents::get(bills, &key("2")).map(|document| document.id)));
    log_info(format!("{:?}", documents::get(bills, &id("nothing"))));
    log_info(format!("{:?}", documents::get("io.cozy.contacts", &id("1"))));
    log_info(format!("{:?}", documents::check_save(bills)));
    log_info(format!("{:?}", documents::check_save("io.cozy.contacts")));
    let change = |locator: Locator, rev: Option<&str>, body: &str| documents::Change {
        locator,
        rev: rev.map(str::to_owned),
        body: body.to_owned(),
    };
    log_info(format!("{:?}", documents::update(bills, &[change(key("2"), Some("2-0"), r#"{"vendor":"a"}"#)])));
    log_info(format!("{:?}", documents::update(bills, &[change(id("io.cozy.bills-2"), Some("2-0"), "{}")])));
    log_info(format!("{:?}", documents::update(bills, &[change(key("9"), None, "{}")])));
    log_info(format!("{:?}", documents::update(bills, &[change(key("2"), None, "7")])));
    queries(bills);
    log_info(format!("{:?}", documents::delete(bills, &[key("1"), id("io.cozy.bills-2"), key("9")])));
    log_info(format!("{:?}", documents::delete(bills, &vec![key("1"); 501])));
}

fn queries(bills: &str) {
    use documents::{Bound, Bounds, Order, Query, Range};
    let ids = |query: &Query| {
        documents::find(bills, query)
            .map(|page| (page.documents.into_iter().map(|document| document.id).collect::<Vec<_>>(), page.next_cursor))
    };
    log_info(format!("{:?}", ids(&query(&["amount"], &["3"], Range::Any))));
    let first = Query { limit: 1, order: Order::Descending, ..query(&[], &[], Range::Any) };
    log_info(format!("{:?}", ids(&first)));
    log_info(format!("{:?}", ids(&Query { cursor: Some("1".to_owned()), ..first })));
    log_info(format!("{:?}", ids(&query(&["amount", "vendor"], &["3"], Range::Prefix("a".to_owned())))));
    for wrong in [
        Query { limit: 0, ..query(&[], &[], Range::Any) },
        query(&["a..b"], &[], Range::Any),
        query(&["1", "2", "3", "4", "5", "6", "7", "8", "9"], &[], Range::Any),
        query(&["a"], &["1", "2"], Range::Any),
        query(&["a"], &["1"], Range::Prefix("x".to_owned())),
        query(&["a"], &["{"], Range::Any),
        query(&["a"], &[], Range::Between(Bounds { lower: Bound::Unbounded, upper: Bound::Excluded("x".to_owned()) })),
        query(&["a"], &[], Range::Prefix("x".repeat(65_537))),
    ] {
        log_info(format!("{:?}", ids(&wrong)));
    }
}

fn files() {
    log_info(format!("{:?}", files::check_save()));
    let upload = files::begin_upload(&target("bill.pdf")).expect("an upload");
    upload.write(b"%PDF-").expect("written");
    upload.write(b"1.7").expect("written");
    log_info(format!("{:?}", files::Upload::commit(upload)));
    log_info(format!(
        "{:?}",
        files::lookup(&["bill.pdf".to_owned(), "other.pdf".to_owned()])
            .map(|found| { found.into_iter().map(|file| file.map(|file| file.path)).collect::<Vec<_>>() })
    ));
    let (bill, nothing) = (Locator::Key("bill.pdf".to_owned()), Locator::Id("nothing".to_owned()));
    let open = files::open(&bill).expect("a file");
    log_info(format!("{} {:?} {:?}", open.size(), open.read(5, 2), open.read(99, 2)));
    log_info(format!("{:?}", files::open(&nothing).map(drop)));
    let broken = files::Target { metadata: "[".to_owned(), ..target("x") };
    log_info(format!("{:?}", files::begin_upload(&broken).map(drop)));
    let large = files::Target { metadata: format!("{{\"a\":\"{}\"}}", "x".repeat(65_536)), ..target("x") };
    log_info(format!("{:?}", files::begin_upload(&large).map(drop)));
    let denied = files::Target { folder: "denied".to_owned(), ..target("x") };
    log_info(format!("{:?}", files::begin_upload(&denied).map(drop)));
    log_info(format!("{:?}", files::merge_metadata(&bill, r#"{"read":true}"#)));
    log_info(format!("{:?}", files::merge_metadata(&bill, "[]")));
    log_info(format!("{:?}", files::merge_metadata(&nothing, "{}")));
    let reference = |id: &str| files::Reference { doctype: "io.cozy.bills".to_owned(), id: id.to_owned() };
    log_info(format!("{:?}", files::add_references(&bill, &[reference("1"), reference("2")])));
    log_info(format!("{:?}", files::add_references(&bill, &vec![reference("1"); 501])));
    log_info(format!("{:?}", files::remove_references(&bill, &[reference("1")])));
    log_info(format!("{:?}", files::remove_references(&nothing, &[])));
    log_info(format!("{:?}", files::describe(&bill)));
    log_info(format!("{:?}", files::describe(&nothing).map(drop)));
    log_info(format!("{:?}", files::ensure_folder("2026/11")));
    log_info(format!("{:?}", files::ensure_folder("denied")));
    log_info(format!("{:?}", files::move_file(&bill, "2026", "november.pdf").map(|file| file.path)));
    log_info(format!("{:?}", files::move_file(&nothing, "2026", "x.pdf").map(drop)));
    log_info(format!("{:?}", files::list_folder("2026", 1, None).map(|page| (page.entries.len(), page.next_cursor))));
    log_info(format!("{:?}", files::list_folder("denied", 1, None).map(drop)));
    log_info(format!("{:?}", files::list_folder("", 1_001, None).map(drop)));
    log_info(format!("{:?}", files::trash(&[Locator::Key("november.pdf".to_owned())])));
    log_info(format!("{:?}", files::trash(&vec![nothing; 501])));
}

fn cookies() {
    let vendor = "https://vendor.example/";
    log_info(format!("{:?}", http::cookies(vendor)));
    log_info(format!("{:?}", http::cookies("vendor")));
    log_info(format!("{:?}", http::set_cookie("https://elsewhere.example/", "a=b")));
}

fn progress_and_log() {
    progress::report(1, Some(2), "bills of hunter22");
    progress::login_succeeded();
    log_info(format!("{}", progress::remaining_ms() <= 300_000));
    log::emit(log::Level::Error, "two\nlines of hunter22", &[("user".to_owned(), "hunter22".to_owned())]);
    http::clear_cookies();
    log_info(format!("{:?}", progress::request_approval("the bank's application of hunter22")));
    log_info(format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    log_info(format!("{:?}", std::env::args().collect::<Vec<_>>()));
    log_info(format!("{}", std::fs::read_dir("/").is_err()));
    log_info(format!("{:?}", std::io::read_to_string(std::io::stdin()).ok()));
}
