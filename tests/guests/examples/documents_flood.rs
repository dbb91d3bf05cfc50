//! Saves documents until the host rejects them.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let batch = parameters(&job)["batch"].as_u64().unwrap_or(100);
    for round in 0.. {
        let item = |number| documents::Item { key: format!("{round}-{number}"), body: "{}".to_owned() };
        if let Err(error) = documents::save("io.cozy.bills", &(0..batch).map(item).collect::<Vec<_>>()) {
            return Err(Failure::LimitReached(format!("in round {round}: {error:?}")));
        }
    }
    Ok(empty_report())
}
