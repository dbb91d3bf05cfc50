//! Stores tokens: a placeholder, a value that contains another secret's placeholder, and then new tokens until an
//! error.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let password = secrets::placeholder("password").expect("a password");
    log_info(format!("{:?}", secrets::put("password", &password)));
    log_info(format!("{:?}", secrets::put("token", &format!("Bearer {password}"))));
    for (name, size) in [("long", 16 << 10), ("short", 8)] {
        let error = (0..100_000).find_map(|number| {
            let value = format!("{number:0size$}");
            secrets::put(&format!("{name}{number}"), &value).err().map(|error| (number, error))
        });
        log_info(format!("{name}: {error:?}"));
    }
    Ok(empty_report())
}
