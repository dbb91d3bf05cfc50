use konnector_sandbox::capability::{Level, Log as _, LogLine};
use konnector_store::{FsckOptions, FsckProgress};

use super::*;
use crate::log::JobLog;
use konnector_jobs::job::Job;
use konnector_platform::Schema;

#[tokio::test]
async fn a_log_that_is_not_what_was_kept_says_so() {
    let run = TestRun::unrestricted().await;
    let (domain, instance, at) = (&run.scope.domain, &run.scope.instance, run.lease.job.clone());
    let log = JobLog::new(domain.clone(), at.clone());
    log.write_line(LogLine {
        elapsed: Duration::ZERO,
        level: Level::Info,
        message: "saved".to_owned(),
        fields: Vec::new(),
    });
    let kept = log.store().await.unwrap().expect("a line");
    let read = async |checksum: Option<String>| {
        let set = |job: &mut Job, _: &mut Changes| {
            (job.log, job.log_checksum) = (Some(kept.id), checksum.clone());
            Ok(true)
        };
        domain.core().modify(&at, set).await.unwrap().expect("the job");
        let lines = String::from_utf8(domain.jobs().log(instance, &at.id).await.unwrap()).unwrap();
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["message"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(read(Some(hex::encode(kept.sha256))).await, ["saved"]);
    assert_eq!(read(None).await, ["saved"], "a log of before there were checksums");
    let damaged = read(Some("00".repeat(32))).await;
    let mut problems = Vec::new();
    let told = &mut |event: FsckProgress<'_>| {
        if let FsckProgress::Found(problem) = event {
            problems.push(problem.to_string());
        }
    };
    domain.core().store().fsck(&Schema, FsckOptions { deep: true, repair: false }, told).await.unwrap();
    let names_it = |problem: &String| problem.contains(&at.id) && problem.contains("instead of 0000");
    assert!(problems.iter().any(names_it), "{problems:?}");
    assert_eq!(damaged, ["this log is damaged: some lines may be changed or missing", "saved"]);
}
