//! Writes the requested text to standard output and error, then ends in the requested way.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    let parameters = test_commands::parameters();
    let texts = |name: &str| parameters[name].as_array().cloned().unwrap_or_default();
    for line in texts("output") {
        // A line, or a text and the number of its repetitions.
        match &line {
            Value::String(line) => println!("{line}"),
            flood => {
                let text = flood["text"].as_str().unwrap_or_default().as_bytes();
                for _ in 0..flood["times"].as_u64().unwrap_or(0) {
                    std::io::stdout().write_all(text).expect("standard output takes everything");
                }
            }
        }
    }
    for line in texts("error") {
        eprintln!("{}", line.as_str().unwrap_or_default());
    }
    match parameters["end"].as_str() {
        Some("panic") => panic!("nothing to see"),
        Some("trap") => std::process::abort(),
        Some("sleep") => std::thread::sleep(std::time::Duration::from_secs(600)),
        Some("exit 0") => std::process::exit(0),
        Some("exit 3") => std::process::exit(3),
        Some("fail") => return ExitCode::FAILURE,
        _ => {}
    }
    ExitCode::SUCCESS
}
