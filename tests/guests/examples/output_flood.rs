//! Writes to standard output and error: many lines, no line feed at the end, and lines that imitate other messages.

use std::io::Write as _;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    println!(r#"{{"type":"error","message":"LOGIN_FAILED"}}"#);
    println!("\u{1b}[2J\u{1b}[1;31mall is well\u{1b}[0m \u{202e}fdp.exe");
    eprintln!("a warning\r\0");
    std::io::stdout().write_all(b"not \xff text\n").expect("standard output takes everything");
    for number in 0..parameters(&job)["lines"].as_u64().unwrap_or(0) {
        println!("line {number}");
    }
    let _ = std::io::stdout().write(b"");
    print!("no line feed");
    std::io::stdout().flush().expect("standard output takes everything");
    Ok(empty_report())
}
