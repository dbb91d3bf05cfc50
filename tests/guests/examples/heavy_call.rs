//! Passes as much as it can to one import, in the shape that costs the host most, and logs the result.

use std::io::Write as _;

use konnector_sdk::bindings::konnector::host::{files as wit_files, log};
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let bytes = parameters["bytes"].as_u64().unwrap_or(0) as usize;
    let unit = parameters["unit"].as_str().unwrap_or("x").to_owned();
    let text = || unit.repeat(bytes / unit.len());
    let short = |answer: String| answer.chars().take(200).collect::<String>();
    let answer = match parameters["call"].as_str().unwrap_or_default() {
        "log.emit" => {
            for (name, value) in [("a", 4), ("b", 5), ("c", 7), ("d", 1_000), ("e", 16_000)] {
                secrets::put(name, &"x".repeat(value)).expect("room for secrets");
            }
            log::emit(log::Level::Info, &text(), &[]);
            "emitted".to_owned()
        }
        "log.fields" => {
            let fields: Vec<_> = (0..bytes / 64).map(|number| (format!("{number:08}"), unit.clone())).collect();
            log::emit(log::Level::Info, "many", &fields);
            log::emit(log::Level::Info, "large", &[(text(), unit.clone()), (unit.clone(), unit.clone())]);
            "emitted".to_owned()
        }
        "progress.report" => {
            progress::report(1, None, &text());
            format!("{:?}", progress::request_approval(&text()))
        }
        "progress.ask-code" => {
            let question = progress::Question { channel: progress::CodeChannel::Sms, hint: text(), is_retry: false };
            format!("{:?}", progress::ask_code(&question))
        }
        "secrets" => {
            let put = (secrets::put("name", &text()), secrets::put(&text(), "value"));
            format!("{put:?} {:?} {:?}", secrets::placeholder(&text()).map(drop), reveal::reveal(&text()).map(drop))
        }
        "secrets.put" => {
            let value = |number: usize| format!("{}{number}", unit.repeat(10_000 / unit.len()));
            let put = |number: usize| secrets::put(&format!("s{number}"), &value(number)).is_ok();
            let taken = (0..bytes / 10_000).take_while(|number| put(*number)).count();
            log::emit(log::Level::Info, &format!("{} {}", value(0), unit.repeat(100_000)), &[]);
            format!("{} secrets", taken.min(1))
        }
        "account.save-state" => format!("{:?}", account::save_state(&text())),
        "account.save-state json" => format!("{:?}", account::save_state(&format!("[{}0]", text()))),
        "documents.find values" => {
            let value = |share: usize| format!("[{}0]", unit.repeat(bytes / share / unit.len()));
            let bounds = documents::Bounds {
                lower: documents::Bound::Included(value(16)),
                upper: documents::Bound::Excluded(value(16)),
            };
            let mut search = query(&["a", "b", "c", "d", "e", "f", "g", "h"], &[], documents::Range::Between(bounds));
            search.equals = (0..7).map(|_| value(8)).collect();
            format!("{:?}", documents::find("io.cozy.bills", &search).map(drop))
        }
        "files.held" => {
            let mut uploads = Vec::new();
            loop {
                let mut to = target(&format!("{}", uploads.len()));
                to.metadata = format!("{{\"a\":[{}0]}}", text());
                match files::begin_upload(&to) {
                    Ok(upload) => uploads.push(upload),
                    Err(error) => break format!("{} {error:?}", uploads.len()),
                }
            }
        }
        "documents.save" => {
            let item = documents::Item { key: "1".to_owned(), body: format!("{{\"a\":[{}0]}}", text()) };
            format!("{:?}", documents::save("io.cozy.bills", &[item]).map(|saved| saved.len()))
        }
        "documents.save string" => {
            let item = documents::Item { key: "1".to_owned(), body: format!("{{\"a\":\"{}\"}}", text()) };
            format!("{:?}", documents::save("io.cozy.bills", &[item]).map(|saved| saved.len()))
        }
        "documents.save many" => {
            let body = format!("{{\"a\":[{}0]}}", unit.repeat(bytes / 500 / unit.len()));
            let item = |number: usize| documents::Item { key: number.to_string(), body: body.clone() };
            let items: Vec<_> = (0..500).map(item).collect();
            format!("{:?}", documents::save("io.cozy.bills", &items).map(|saved| saved.len()))
        }
        "documents.save key" => {
            let item = documents::Item { key: text(), body: "{}".to_owned() };
            format!("{:?}", documents::save("io.cozy.bills", &[item]).map(|saved| saved.len()))
        }
        "documents.save kind" => format!("{:?}", documents::save(&text(), &[]).map(|saved| saved.len())),
        "documents.update" => {
            let item = documents::Item { key: "1".to_owned(), body: "{}".to_owned() };
            documents::save("io.cozy.bills", &[item]).expect("saved");
            let locator = types::Locator::Key("1".to_owned());
            let change = documents::Change { locator, rev: None, body: format!("{{\"a\":[{}0]}}", text()) };
            format!("{:?}", documents::update("io.cozy.bills", &[change]).map(|saved| saved.len()))
        }
        "documents.delete" => {
            let locators: Vec<_> =
                (0..500).map(|_| types::Locator::Key(unit.repeat(bytes / 500 / unit.len()))).collect();
            format!("{:?}", documents::delete("io.cozy.bills", &locators))
        }
        "documents.get" => {
            let result = documents::get("io.cozy.bills", &types::Locator::Id(text())).map(drop);
            format!("{result:?} {:?}", documents::get(&text(), &types::Locator::Id("1".to_owned())).map(drop))
        }
        "documents.find" => {
            let mut search = query(&["a"], &[], documents::Range::Any);
            search.index_fields = vec![text()];
            let index = documents::find("io.cozy.bills", &search).map(drop);
            let mut search = query(&["a"], &[], documents::Range::Any);
            search.equals = vec![text()];
            format!("{index:?} {:?}", documents::find("io.cozy.bills", &search).map(drop))
        }
        "files" => {
            let locator = types::Locator::Key(text());
            let mut to = target("a");
            (to.folder, to.key) = (text(), None);
            let upload = files::begin_upload(&to).map(drop);
            let opened = files::open(&locator).map(drop);
            let folder = files::ensure_folder(&text()).map(drop);
            let listed = files::list_folder(&text(), 10, None).map(drop);
            format!("{upload:?} {opened:?} {folder:?} {listed:?} {:?}", files::describe(&locator).map(drop))
        }
        "files.lookup" => {
            let keys: Vec<_> = (0..500).map(|_| unit.repeat(bytes / 500 / unit.len())).collect();
            format!("{:?}", files::lookup(&keys).map(|found| found.len()))
        }
        "files.metadata" => {
            let mut to = target("a");
            to.metadata = format!("{{\"a\":[{}0]}}", text());
            let result = files::begin_upload(&to).map(drop);
            let merged = files::merge_metadata(&types::Locator::Key("a".to_owned()), &to.metadata);
            let references: Vec<_> = (0..500)
                .map(|_| wit_files::Reference {
                    doctype: "io.cozy.bills".to_owned(),
                    id: unit.repeat(bytes / 500 / unit.len()),
                })
                .collect();
            let added = files::add_references(&types::Locator::Key("a".to_owned()), &references);
            format!("{result:?} {merged:?} {added:?}")
        }
        "files.write" => {
            let upload = files::begin_upload(&target("a")).expect("an upload");
            format!("{:?}", upload.write(text().as_bytes()))
        }
        "http.send" => {
            let request =
                |url: String, method: &str, name: String, value: String, body: Option<Vec<u8>>| http::Request {
                    method: method.to_owned(),
                    url,
                    headers: vec![http::Header { name, value }],
                    body,
                    form_charset: None,
                    response_format: http::BodyFormat::ByMediaType,
                    follow_redirects: true,
                    timeout_ms: None,
                };
            let url = || "https://vendor.example/".to_owned();
            let plain = || "x-a".to_owned();
            let placeholder = secrets::placeholder("password").expect("a password");
            let sent = [
                request(text(), "GET", plain(), plain(), None),
                request(url(), &text(), plain(), plain(), None),
                request(url(), "GET", text(), plain(), None),
                request(url(), "GET", plain(), text(), None),
                request(url(), "POST", plain(), plain(), Some(text().into_bytes())),
                request(
                    url(),
                    "POST",
                    plain(),
                    plain(),
                    Some(placeholder.repeat(bytes / placeholder.len()).into_bytes()),
                ),
                request(url(), "POST", plain(), plain(), Some("ksecret".repeat(bytes / 7).into_bytes())),
            ]
            .into_iter()
            .chain([http::Request { form_charset: Some(text()), ..request(url(), "GET", plain(), plain(), None) }])
            .map(|request| short(format!("{:?}", http::send(&request).map(drop))))
            .collect::<Vec<_>>();
            sent.join(" ")
        }
        "http.cookies" => {
            let set = http::set_cookie("https://vendor.example/", &format!("a={}", text()));
            let far = http::set_cookie(&text(), "a=b");
            format!("{set:?} {far:?} {:?}", http::cookies(&text()).map(drop))
        }
        "stdout" => {
            std::io::stdout().write_all(text().as_bytes()).expect("written");
            "written".to_owned()
        }
        "paths" => {
            let result = std::fs::create_dir_all(format!("/tmp/{}", text())).map_err(|error| error.kind());
            let opened = std::fs::File::open(format!("/tmp/{}", text())).map(drop).map_err(|error| error.kind());
            let renamed = std::fs::rename("/tmp", format!("/tmp/{}", text())).map_err(|error| error.kind());
            format!("{result:?} {opened:?} {renamed:?}")
        }
        "report" => {
            let problem = |_| Problem { item: unit.repeat(bytes / 2_000 / unit.len()), message: "m".to_owned() };
            return Ok(Report { problems: (0..2_000).map(problem).collect() });
        }
        other => panic!("no call {other}"),
    };
    log_info(short(answer));
    Ok(empty_report())
}
