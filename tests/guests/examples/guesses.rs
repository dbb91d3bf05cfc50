//! Tests in every import whether a guess is the password: it passes the guess wherever a string can be passed, and
//! logs the result backwards, so that no mask matches it.

use konnector_sdk::bindings::konnector::host::log;
use test_guests::prelude::*;
use types::Locator;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let guess = parameters(&job)["guess"].as_str().unwrap_or_default().to_owned();
    let guess = guess.as_str();
    accounts(guess);
    own_secrets(guess);
    all_documents(guess);
    all_files(guess);
    network(guess);
    progress(guess);
    filesystem(guess);
    Err(Failure::VendorChanged(guess.to_owned()))
}

/// One line for one import: its results, backwards.
fn log_reversed(import: &str, result: impl std::fmt::Debug) {
    let backwards: String = format!("{result:?}").chars().rev().collect();
    log_info(format!("{import} {backwards}"));
}

fn key(guess: &str) -> Locator {
    Locator::Key(guess.to_owned())
}

fn json(guess: &str) -> String {
    serde_json::json!({ guess: guess }).to_string()
}

fn accounts(guess: &str) {
    log_reversed("account.describe", account::describe().map(|info| info.id));
    log_reversed("account.fields", account::fields());
    log_reversed("account.save-state", (account::save_state(&json(guess)), account::save_state(guess)));
    log_reversed("account.load-state", account::load_state());
}

fn own_secrets(guess: &str) {
    let answers = (secrets::placeholder(guess).err(), secrets::placeholder("password").map(|word| word.len()));
    log_reversed("secrets.placeholder", answers);
    let mut puts = vec![
        secrets::put(guess, "another value"),
        secrets::put("typed", guess),
        secrets::put("", guess),
        secrets::put("mine", guess),
        secrets::put("mine", guess),
        secrets::put("password", guess),
    ];
    // The remaining quota would reveal whether the value was known.
    puts.extend(
        (0..80).map(|number| secrets::put(&format!("more{number}"), &format!("a value of the guest's {number}"))),
    );
    log_reversed("secrets.put", puts);
    log_reversed("secrets.names", secrets::names());
    log_reversed("reveal.reveal", (reveal::reveal("mine"), reveal::reveal(guess)));
}

fn all_documents(guess: &str) {
    let bills = "io.cozy.bills";
    let item = documents::Item { key: guess.to_owned(), body: json(guess) };
    log_reversed(
        "documents.save",
        (documents::save(bills, std::slice::from_ref(&item)), documents::save(guess, &[item])),
    );
    log_reversed(
        "documents.get",
        (documents::get(bills, &key(guess)), documents::get(bills, &Locator::Id(guess.to_owned()))),
    );
    let change = documents::Change { locator: key(guess), rev: Some(guess.to_owned()), body: guess.to_owned() };
    log_reversed("documents.update", documents::update(bills, &[change]));
    let query = query(&[guess], &[&format!("\"{guess}\"")], documents::Range::Any);
    log_reversed("documents.find", (documents::find(bills, &query), documents::find(guess, &query)));
    log_reversed("documents.check-save", documents::check_save(guess));
    log_reversed(
        "documents.delete",
        (documents::delete(guess, &[key(guess)]), documents::delete(bills, &[key(guess)])),
    );
}

fn all_files(guess: &str) {
    log_reversed("files.check-save", files::check_save());
    let named = files::Target { metadata: json(guess), folder: guess.to_owned(), ..target(guess) };
    let upload = files::begin_upload(&named);
    let wrong = files::Target { metadata: guess.to_owned(), mime: Some(guess.to_owned()), ..target(guess) };
    log_reversed("files.begin-upload", (upload.as_ref().err(), files::begin_upload(&wrong).err()));
    if let Ok(upload) = upload {
        log_reversed("files.write", upload.write(guess.as_bytes()));
        log_reversed("files.commit", files::Upload::commit(upload));
    }
    log_reversed("files.lookup", files::lookup(&[guess.to_owned(), "x".to_owned()]));
    let opened = files::open(&key(guess));
    log_reversed("files.open", (opened.as_ref().err(), files::open(&Locator::Id(guess.to_owned())).err()));
    if let Ok(content) = opened {
        log_reversed("files.size", content.size());
        log_reversed("files.read", content.read(0, 100));
    }
    log_reversed(
        "files.merge-metadata",
        (files::merge_metadata(&key(guess), &json(guess)), files::merge_metadata(&key(guess), guess)),
    );
    let reference = files::Reference { doctype: guess.to_owned(), id: guess.to_owned() };
    log_reversed("files.add-references", files::add_references(&key(guess), std::slice::from_ref(&reference)));
    log_reversed("files.remove-references", files::remove_references(&key(guess), &[reference]));
    log_reversed(
        "files.describe",
        files::describe(&key(guess)).map(|details| (details.metadata, details.references.len())),
    );
    log_reversed("files.ensure-folder", files::ensure_folder(guess));
    log_reversed("files.move-file", files::move_file(&key(guess), guess, &format!("{guess}.pdf")));
    log_reversed("files.list-folder", files::list_folder(guess, 10, None).map(|page| page.entries.len()));
    log_reversed("files.trash", files::trash(&[key(guess)]));
}

fn network(guess: &str) {
    let header = |name: &str, value: &str| http::Header { name: name.to_owned(), value: value.to_owned() };
    let request = |method: &str, url: String, headers: Vec<http::Header>| http::Request {
        method: method.to_owned(),
        url,
        headers,
        body: Some(guess.as_bytes().to_vec()),
        form_charset: Some(guess.to_owned()),
        response_format: http::BodyFormat::Text,
        follow_redirects: true,
        timeout_ms: None,
    };
    let vendor = "https://vendor.example";
    let requests = || {
        vec![
            request("GET", format!("https://{guess}.example/"), Vec::new()),
            request("GET", format!("{guess}://vendor.example/"), Vec::new()),
            request("GET", guess.to_owned(), Vec::new()),
            request(&format!("{guess} "), vendor.to_owned(), Vec::new()),
            request("GET", format!("{vendor}/{guess}"), vec![header(&format!("{guess} x"), "1")]),
            request("GET", format!("{vendor}/{guess}"), vec![header("host", guess)]),
            request("GET", format!("{vendor}/{guess}"), vec![header("x", &format!("{guess}\n"))]),
            request("GET", format!("https://{guess}@vendor.example/"), Vec::new()),
        ]
    };
    log_reversed("http.send", requests().iter().map(http::send).collect::<Vec<_>>());
    let downloads: Vec<_> = requests().iter().map(|request| http::download(request, &target(guess))).collect();
    log_reversed("http.download", downloads);
    let set = [
        http::set_cookie(vendor, &format!("g={guess}")),
        http::set_cookie(vendor, &format!("many=000000.{guess}.000001")),
        http::set_cookie(vendor, &format!("{guess}={guess}; Path=/; Max-Age=100")),
        http::set_cookie(vendor, &format!("{guess}=x; Domain={guess}.example")),
        http::set_cookie(guess, "a=b"),
        http::set_cookie(&format!("https://{guess}.example/"), "a=b"),
    ];
    log_reversed("http.set-cookie", set);
    let mut cookies = http::cookies(vendor).unwrap_or_default();
    cookies.sort_by_key(|cookie| (cookie.name.len(), cookie.value.clone()));
    log_reversed("http.cookies", (cookies, http::cookies(guess), http::cookies(&format!("https://{guess}.example/"))));
    http::clear_cookies();
    log_reversed("http.clear-cookies", http::cookies(vendor));
}

fn progress(guess: &str) {
    log::emit(log::Level::Info, guess, &[(guess.to_owned(), guess.to_owned())]);
    log_reversed("log.emit", ());
    progress::report(1, Some(2), guess);
    log_reversed("progress.report", ());
    log_reversed("progress.remaining-ms", progress::remaining_ms() > 0);
    progress::login_succeeded();
    log_reversed("progress.login-succeeded", ());
    let question = progress::Question { channel: progress::CodeChannel::Sms, hint: guess.to_owned(), is_retry: false };
    log_reversed("progress.ask-code", progress::ask_code(&question));
    log_reversed("progress.request-approval", progress::request_approval(guess));
}

fn filesystem(guess: &str) {
    let path = format!("/tmp/{guess}");
    log_reversed("filesystem.write", std::fs::write(&path, guess).map_err(|error| error.to_string()));
    log_reversed("filesystem.read", std::fs::read_to_string(&path).map_err(|error| error.to_string()));
    let names = std::fs::read_dir("/tmp")
        .map(|found| found.filter_map(|entry| Some(entry.ok()?.file_name())).collect::<Vec<_>>());
    log_reversed("filesystem.list", names.map_err(|error| error.to_string()));
    log_reversed("filesystem.missing", std::fs::read(format!("/tmp/{guess}/x")).map_err(|error| error.to_string()));
    println!("{guess}");
    eprintln!("{guess}");
    log_reversed("cli.stdout", ());
}
