//! `accounts set` and `accounts code`.

use std::time::{Duration, Instant};

use demo_vendor::{Vendor, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::server::TestServer;
use serde_json::json;

use crate::{run_error, run_ok};

/// The vendor must respond while a command runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_code_is_submitted_only_while_a_run_waits_for_it() {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    vendor.control().set(|switches| switches.otp = true);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let client = server.client().await;
    let source = bundle::bank101(&data.join("bundle"), vendor.url(), |_| {});
    client.install("bank101", &source).await;
    let login = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", login).await;
    let trigger = client.create_trigger("bank101", &account).await;

    let refusals = [
        run_error(data, &["accounts", "code", &account, "657718"]),
        run_error(data, &["accounts", "set", &account, "--field", "twoFACode=657718"]),
        run_error(data, &["accounts", "set", &account, "--field", "logn=ada"]),
        run_error(data, &["accounts", "code", "nobody", "657718"]),
    ];
    let refusals = refusals.join("\n").replace(&account, "ID").replace(&data.display().to_string(), "DATA");
    insta::assert_snapshot!(refusals, @r"
    1 no run of account ID waits for a one-time code, so the code was not stored → start a run, then submit the code that the vendor sends: konnector --data-dir DATA konnectors run bank101 --account ID
    2 twoFACode is not a field of the account form → submit a one-time code with `konnector --data-dir DATA accounts code ID CODE`
    2 Bank101 has no field 'logn' → its fields are login, password
    2 account 'nobody' does not exist → list the accounts with `konnector --data-dir DATA accounts ls`
    ");
    let shown = run_ok(data, &["accounts", "show", &account]);
    assert_eq!((shown["auth"].get("logn"), shown["auth"].get("twoFACode")), (None, None), "{shown:#}");

    let job = client.launch(&trigger).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.get(&format!("/data/io.cozy.accounts/{account}")).await["state"].is_null() {
        assert!(Instant::now() < deadline, "the run does not ask for a code");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    run_ok(data, &["accounts", "code", &account, &vendor.control().code().expect("a code was sent")]);
    let job = client.wait_for_job(&job).await;
    assert_eq!(job["state"], "done", "{job:#}");
    assert!(run_ok(data, &["accounts", "show", &account])["twoFACode"].is_null());
}
