//! Tries in every import whether a guess is the password: it gives the guess wherever a text can be given, and tells what comes back, backwards,
//! so that no mask looks into it.

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
    people(guess);
    disk(guess);
    Err(Failure::VendorChanged(guess.to_owned()))
}

/// One line for one import: what it answered, backwards.
fn tell(import: &str, answers: impl std::fmt::Debug) {
    let backwards: String = format!("{answers:?}").chars().rev().collect();
    say(format!("{import} {backwards}"));
}

fn key(guess: &str) -> Locator {
    Locator::Key(guess.to_owned())
}

fn json(guess: &str) -> String {
    serde_json::json!({ guess: guess }).to_string()
}

fn accounts(guess: &str) {
    tell("account.describe", account::describe().map(|info| info.id));
    tell("account.fields", account::fields());
    tell("account.save-state", (account::save_state(&json(guess)), account::save_state(guess)));
    tell("account.load-state", account::load_state());
}

fn own_secrets(guess: &str) {
    let answers = (secrets::placeholder(guess).err(), secrets::placeholder("password").map(|word| word.len()));
    tell("secrets.placeholder", answers);
    let mut puts = vec![
        secrets::put(guess, "another value"),
        secrets::put("typed", guess),
        secrets::put("", guess),
        secrets::put("mine", guess),
        secrets::put("mine", guess),
        secrets::put("password", guess),
    ];
    // What is left of the limit would tell whether the value was known.
    puts.extend(
        (0..80).map(|number| secrets::put(&format!("more{number}"), &format!("a value of the guest's {number}"))),
    );
    tell("secrets.put", puts);
    tell("secrets.names", secrets::names());
    tell("reveal.reveal", (reveal::reveal("mine"), reveal::reveal(guess)));
}

fn all_documents(guess: &str) {
    let bills = "io.cozy.bills";
    let item = documents::Item { key: guess.to_owned(), body: json(guess) };
    tell("documents.save", (documents::save(bills, std::slice::from_ref(&item)), documents::save(guess, &[item])));
    tell("documents.get", (documents::get(bills, &key(guess)), documents::get(bills, &Locator::Id(guess.to_owned()))));
    let change = documents::Change { which: key(guess), rev: Some(guess.to_owned()), body: guess.to_owned() };
    tell("documents.update", documents::update(bills, &[change]));
    let query = by(&[guess], &[&format!("\"{guess}\"")], documents::Range::Any);
    tell("documents.find", (documents::find(bills, &query), documents::find(guess, &query)));
    tell("documents.check-save", documents::check_save(guess));
    tell("documents.delete", (documents::delete(guess, &[key(guess)]), documents::delete(bills, &[key(guess)])));
}

fn all_files(guess: &str) {
    tell("files.check-save", files::check_save());
    let named = files::Target { metadata: json(guess), folder: guess.to_owned(), ..target(guess) };
    let upload = files::begin_upload(&named);
    let wrong = files::Target { metadata: guess.to_owned(), mime: Some(guess.to_owned()), ..target(guess) };
    tell("files.begin-upload", (upload.as_ref().err(), files::begin_upload(&wrong).err()));
    if let Ok(upload) = upload {
        tell("files.write", upload.write(guess.as_bytes()));
        tell("files.commit", files::Upload::commit(upload));
    }
    tell("files.lookup", files::lookup(&[guess.to_owned(), "x".to_owned()]));
    let opened = files::open(&key(guess));
    tell("files.open", (opened.as_ref().err(), files::open(&Locator::Id(guess.to_owned())).err()));
    if let Ok(content) = opened {
        tell("files.size", content.size());
        tell("files.read", content.read(0, 100));
    }
    tell(
        "files.merge-metadata",
        (files::merge_metadata(&key(guess), &json(guess)), files::merge_metadata(&key(guess), guess)),
    );
    let reference = files::Reference { kind: guess.to_owned(), id: guess.to_owned() };
    tell("files.add-references", files::add_references(&key(guess), std::slice::from_ref(&reference)));
    tell("files.remove-references", files::remove_references(&key(guess), &[reference]));
    tell("files.describe", files::describe(&key(guess)).map(|details| (details.metadata, details.references.len())));
    tell("files.ensure-folder", files::ensure_folder(guess));
    tell("files.move", files::move_(&key(guess), guess, &format!("{guess}.pdf")));
    tell("files.list-folder", files::list_folder(guess, 10, None).map(|page| page.entries.len()));
    tell("files.trash", files::trash(&[key(guess)]));
}

fn network(guess: &str) {
    let header = |name: &str, value: &str| http::Header { name: name.to_owned(), value: value.to_owned() };
    let request = |method: &str, url: String, headers: Vec<http::Header>| http::Request {
        method: method.to_owned(),
        url,
        headers,
        body: Some(guess.as_bytes().to_vec()),
        form_charset: Some(guess.to_owned()),
        response_body: http::BodyForm::Text,
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
    tell("http.send", requests().iter().map(http::send).collect::<Vec<_>>());
    let downloads: Vec<_> = requests().iter().map(|request| http::download(request, &target(guess))).collect();
    tell("http.download", downloads);
    let set = [
        http::set_cookie(vendor, &format!("g={guess}")),
        http::set_cookie(vendor, &format!("many=000000.{guess}.000001")),
        http::set_cookie(vendor, &format!("{guess}={guess}; Path=/; Max-Age=100")),
        http::set_cookie(vendor, &format!("{guess}=x; Domain={guess}.example")),
        http::set_cookie(guess, "a=b"),
        http::set_cookie(&format!("https://{guess}.example/"), "a=b"),
    ];
    tell("http.set-cookie", set);
    let mut cookies = http::cookies(vendor).unwrap_or_default();
    cookies.sort_by_key(|cookie| (cookie.name.len(), cookie.value.clone()));
    tell("http.cookies", (cookies, http::cookies(guess), http::cookies(&format!("https://{guess}.example/"))));
    http::clear_cookies();
    tell("http.clear-cookies", http::cookies(vendor));
}

fn people(guess: &str) {
    log::emit(log::Level::Info, guess, &[(guess.to_owned(), guess.to_owned())]);
    tell("log.emit", ());
    progress::report(1, Some(2), guess);
    tell("progress.report", ());
    tell("progress.remaining-ms", progress::remaining_ms() > 0);
    progress::login_succeeded();
    tell("progress.login-succeeded", ());
    let question = progress::Question { medium: progress::Medium::Sms, hint: guess.to_owned(), again: false };
    tell("progress.ask-code", progress::ask_code(&question));
    tell("progress.request-approval", progress::request_approval(guess));
}

fn disk(guess: &str) {
    let place = format!("/tmp/{guess}");
    tell("filesystem.write", std::fs::write(&place, guess).map_err(|error| error.to_string()));
    tell("filesystem.read", std::fs::read_to_string(&place).map_err(|error| error.to_string()));
    let names = std::fs::read_dir("/tmp")
        .map(|found| found.filter_map(|entry| Some(entry.ok()?.file_name())).collect::<Vec<_>>());
    tell("filesystem.list", names.map_err(|error| error.to_string()));
    tell("filesystem.missing", std::fs::read(format!("/tmp/{guess}/x")).map_err(|error| error.to_string()));
    println!("{guess}");
    eprintln!("{guess}");
    tell("cli.stdout", ());
}
