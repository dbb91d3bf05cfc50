//! Asks for a document, which may take for ever; then for others, until it is told to stop.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let doctype = parameters["doctype"].as_str().unwrap_or("io.cozy.slow");
    loop {
        match documents::get(doctype, "1") {
            Err(types::Error::Cancelled) if parameters["stubborn"] == true => {}
            Err(types::Error::Cancelled) => return Err(Failure::Cancelled),
            Err(error) => return Err(Failure::Bug(format!("{error:?}"))),
            Ok(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
}
