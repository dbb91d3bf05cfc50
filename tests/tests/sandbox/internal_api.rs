//! Requests to our own API: their cost is charged to the run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use konnector_sandbox::capability::{InternalApi, InternalBody, RequestCpuMeter};
use konnector_sandbox::{AbortReason, Outcome, RunOutput};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::guest;
use serde_json::json;
use url::Url;

use super::run;

/// Responds after a computation: for `/here` in the task of the run, for `/elsewhere` on a separate thread.
struct ComputingApi {
    url: Url,
    time: Duration,
}

/// Uses this much CPU time of this thread.
fn compute(time: Duration) {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().expect("a time"), now.tv_nsec.try_into().expect("a time"))
    };
    let until = now() + time;
    while now() < until {
        std::hint::spin_loop();
    }
}

#[async_trait]
impl InternalApi for ComputingApi {
    fn url(&self) -> &Url {
        &self.url
    }

    fn host(&self) -> hyper::header::HeaderValue {
        hyper::header::HeaderValue::from_static("cozy.example")
    }

    fn token(&self) -> &str {
        "token"
    }

    fn may_contain_secrets(&self) -> bool {
        false
    }

    async fn call(&self, request: hyper::Request<InternalBody>) -> hyper::Response<InternalBody> {
        let (time, bill) = (self.time, request.extensions().get::<RequestCpuMeter>().expect("a bill").clone());
        match request.uri().path() {
            "/here" => compute(time),
            "/steps" => {
                for _ in 0..1_000 {
                    compute(time / 1_000);
                    tokio::task::yield_now().await;
                }
            }
            "/elsewhere" => {
                let work = move || bill.meter_blocking(|| compute(time));
                tokio::task::spawn_blocking(work).await.expect("no panic");
            }
            path => panic!("{path}"),
        }
        hyper::Response::new(Full::new(Bytes::from_static(b"ok")).map_err(|never| match never {}).boxed_unsync())
    }
}

async fn ask(path: &str, times: usize, each: Duration, cpu: Duration) -> (String, RunOutput) {
    let mut environment = FakeEnvironment::with_limits(|limits| limits.cpu = cpu);
    environment.api = Some(Arc::new(ComputingApi { url: "http://cozy.example/".parse().unwrap(), time: each }));
    let request = json!({ "name": "own", "authority": "cozy.example", "path": path });
    let output = run(&guest("wasi_requests"), json!({ "requests": vec![request; times] }), &environment).await;
    (environment.log(), output)
}

#[tokio::test]
async fn work_at_cozy_url_is_on_the_receipt() {
    for path in ["/here", "/steps", "/elsewhere"] {
        let (log, output) = ask(path, 3, Duration::from_millis(100), Duration::from_secs(60)).await;
        assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
        assert_eq!(log.matches("own: 200").count(), 3, "{log}");
        assert!(output.receipt.cpu_ms >= 300, "{path}: {} ms", output.receipt.cpu_ms);
    }
}

#[tokio::test]
async fn work_at_cozy_url_ends_the_run_when_its_time_is_used_up() {
    for path in ["/here", "/steps", "/elsewhere"] {
        let (log, output) = ask(path, 1_000, Duration::from_millis(50), Duration::from_millis(300)).await;
        assert!(matches!(output.outcome, Outcome::Aborted(AbortReason::CpuLimit(_))), "{path}: {:?}", output.outcome);
        assert!(log.matches("own: 200").count() < 100, "{log}");
    }
}

#[tokio::test]
async fn one_request_has_a_limit_of_its_own() {
    let (log, output) = ask("/steps", 1, Duration::from_secs(60), Duration::from_secs(600)).await;
    assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
    assert!(log.contains("own: 503"), "{log}");
    assert!((4_500..20_000).contains(&output.receipt.cpu_ms), "{} ms", output.receipt.cpu_ms);
}
