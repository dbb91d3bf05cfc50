//! Writes a file of 10 MiB: natively, and from a konnector with its language's ordinary function.

use std::io::Write as _;
use std::time::Duration;

use konnector_tests::bundle;
use serde_json::{Value, json};

use crate::platform::PlatformFixture;
use crate::{Row, repeat};

/// Native first. Both end when the content is durable, on the same disk; ours then also has its two checksums and its
/// document.
pub async fn rows() -> Vec<Row> {
    let site = PlatformFixture::new().await;
    let content: Vec<u8> = (0..10_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut number = 0;
    let native = repeat(20, || {
        number += 1;
        let mut file = std::fs::File::create(site.folder.path().join(number.to_string())).expect("a file");
        file.write_all(&content).expect("written");
        file.sync_all().expect("synced");
    });

    let rules = json!({ "files": { "type": "io.cozy.files" } });
    let manifest =
        json!({ "name": "fs_bench", "type": "konnector", "version": "1.0.0", "permissions": rules, "parameters": {} });
    let source = bundle::write_guest(&site.folder.path().join("fs_bench"), "fs_bench", &manifest);
    let instance = site.instance(0).await;
    site.install(&instance, "bench", source).await;
    let job = site.run_job(&instance, json!({ "konnector": "bench" })).await;
    let log = site.platform.jobs().log(&instance, &job).await.expect("the log");
    let time = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        Duration::from_micros(line["message"].as_str().and_then(|text| text.parse().ok()).expect("microseconds"))
    };
    let guest = String::from_utf8(log).expect("text").lines().map(time).collect();
    site.platform.stop().await;
    vec![Row::new("native: write, fsync", native), Row::new("a konnector: std::fs::write to /files", guest)]
}
