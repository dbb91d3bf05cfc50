//! Receipts of runs: what they contacted, saved and used.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use konnector_sandbox::{CodeOrigin, Receipt};
use serde_json::Value;

use crate::output::{Rows, bytes};

/// Returns the receipt of a job; `None` if it is missing or unreadable.
pub fn from_job(job: &Value) -> Option<Receipt> {
    serde_json::from_value(job.get("receipt")?.clone()).ok()
}

/// Prints a receipt.
pub fn print(receipt: &Receipt) {
    say!("\n{}", render(receipt));
}

fn render(receipt: &Receipt) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let written = |count: &konnector_sandbox::WriteCount| {
        format!(
            "{} created, {} updated, {} unchanged, {} deleted",
            count.created, count.updated, count.unchanged, count.deleted
        )
    };
    line("documents", written(&receipt.documents));
    line("files", format!("{} ({})", written(&receipt.files), bytes(receipt.file_bytes)));
    let traffic = format!("{} up, {} down", bytes(receipt.bytes_up), bytes(receipt.bytes_down));
    let (requests, hosts) = (pluralize(receipt.requests, "request"), pluralize(receipt.hosts.len() as u64, "host"));
    line("network", format!("{requests} to {hosts}, {traffic}"));
    let waited = if receipt.waited_ms > 0 {
        format!(", {} of it waiting for the user", format_millis(receipt.waited_ms))
    } else {
        String::new()
    };
    line("time", format!("{} in total{waited}, {} ms of CPU time", format_millis(receipt.wall_ms), receipt.cpu_ms));
    let ready = match receipt.code {
        _ if receipt.prepare_us == 0 => String::new(),
        CodeOrigin::Compiled => format!(", compiled in {}", format_micros(receipt.prepare_us)),
        CodeOrigin::Disk => format!(", code loaded in {}", format_micros(receipt.prepare_us)),
        CodeOrigin::Memory => String::new(),
    };
    line("start", format!("instantiated in {}{ready}", format_micros(receipt.instantiate_us)));
    line("memory", format!("{} at peak", bytes(receipt.peak_memory)));
    let dropped = if receipt.log_lines_dropped > 0 {
        format!(", {} more dropped", receipt.log_lines_dropped)
    } else {
        String::new()
    };
    line("log", format!("{}{dropped}", pluralize(receipt.log_lines, "line")));
    line("passwords", format_passwords(receipt));
    if !receipt.hosts.is_empty() {
        let mut hosts = Rows::new(["host", "requests", "responses", "denied", "secrets", "up", "down"])
            .align_right(5)
            .align_right(6);
        for host in &receipt.hosts {
            hosts.row([
                format!("{}{}", host.host, if host.internal { " (this server)" } else { "" }),
                format_counts(&host.methods),
                format_counts(&host.statuses),
                format_counts(&host.refusals),
                format_counts(&host.secrets),
                bytes(host.bytes_up),
                bytes(host.bytes_down),
            ]);
        }
        text.push('\n');
        text.push_str(&hosts.render());
    }
    text
}

/// Names with their counts, as in `GET 12, POST 1`.
fn format_counts<T: std::fmt::Display>(counts: &BTreeMap<T, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
    counts.join(", ")
}

fn pluralize(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn format_passwords(receipt: &Receipt) -> String {
    match (receipt.reads_secrets, receipt.secrets_read) {
        (false, _) => "the konnector can use but not read them".to_owned(),
        (true, 0) => "the konnector could have read them, but did not".to_owned(),
        (true, count) => format!("read {} by the konnector", pluralize(count, "time")),
    }
}

fn format_millis(milliseconds: u64) -> String {
    if milliseconds < 1_000 {
        return format!("{milliseconds} ms");
    }
    format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}

fn format_micros(microseconds: u64) -> String {
    if microseconds < 10_000 { format!("{microseconds} µs") } else { format_millis(microseconds / 1_000) }
}

#[cfg(test)]
mod tests {
    use konnector_egress::HostRecord;

    use super::*;

    #[test]
    fn a_receipt_reads_like_one() {
        let receipt = Receipt {
            requests: 12,
            bytes_up: 900,
            bytes_down: 1_234_567,
            file_bytes: 700_000,
            cpu_ms: 41,
            wall_ms: 1_530,
            peak_memory: 3 << 20,
            instantiate_us: 70,
            code: CodeOrigin::Disk,
            prepare_us: 4_321,
            log_lines: 9,
            hosts: vec![HostRecord {
                host: "https://www.bank101.example".to_owned(),
                methods: [("GET".to_owned(), 11), ("POST".to_owned(), 1)].into(),
                statuses: [(200, 11), (302, 1)].into(),
                requests: 12,
                denied: 2,
                refusals: [("no_rule".to_owned(), 2)].into(),
                secrets: [("password".to_owned(), 1)].into(),
                bytes_up: 900,
                bytes_down: 1_234_567,
                ..HostRecord::default()
            }],
            ..Receipt::default()
        };
        insta::assert_snapshot!(render(&receipt), @"
        documents    0 created, 0 updated, 0 unchanged, 0 deleted
        files        0 created, 0 updated, 0 unchanged, 0 deleted (683.6 KiB)
        network      12 requests to 1 host, 900 B up, 1.2 MiB down
        time         1.5 s in total, 41 ms of CPU time
        start        instantiated in 70 µs, code loaded in 4321 µs
        memory       3.0 MiB at peak
        log          9 lines
        passwords    the konnector can use but not read them

        HOST                         REQUESTS          RESPONSES        DENIED      SECRETS         UP     DOWN
        https://www.bank101.example  GET ×11, POST ×1  200 ×11, 302 ×1  no_rule ×2  password ×1  900 B  1.2 MiB
        ");
    }
}
