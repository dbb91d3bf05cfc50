//! Calls a function that may never return, repeatedly, until the run is cancelled.

use test_guests::prelude::*;
use types::{Error, Locator};

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let doctype = parameters["doctype"].as_str().unwrap_or("io.cozy.slow");
    let name = parameters["call"].as_str().unwrap_or("get");
    loop {
        match call(name, doctype) {
            Err(Error::Cancelled) if parameters["stubborn"] == true => {}
            Err(Error::Cancelled) => return Err(Failure::Cancelled),
            Err(error) => return Err(Failure::Bug(format!("{error:?}"))),
            Ok(()) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
}

fn call(name: &str, doctype: &str) -> Result<(), Error> {
    let (slow, body) = (Locator::Id("slow".to_owned()), || "{}".to_owned());
    match name {
        "get" => documents::get(doctype, &slow).map(drop),
        "find" => documents::find(doctype, &query(&["a"], &["1"], documents::Range::Any)).map(drop),
        "check-save" => documents::check_save(doctype),
        "save" => documents::save(doctype, &[documents::Item { key: body(), body: body() }]).map(drop),
        "update" => {
            documents::update(doctype, &[documents::Change { locator: slow, rev: None, body: body() }]).map(drop)
        }
        "delete" => documents::delete(doctype, &[slow]).map(drop),
        "open" => files::open(&slow).map(drop),
        "read" => files::open(&Locator::Id("stuck".to_owned()))?.read(0, 1).map(drop),
        "describe" => files::describe(&slow).map(drop),
        "merge-metadata" => files::merge_metadata(&slow, "{}"),
        "add-references" => files::add_references(&slow, &[]),
        "remove-references" => files::remove_references(&slow, &[]),
        "move" => files::move_file(&slow, "", "x").map(drop),
        name => panic!("no call `{name}`"),
    }
}
