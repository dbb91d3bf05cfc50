//! `konnectors maintenance`.

use demo_vendor::{Vendor, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};

use crate::{run_error, run_ok};

/// The vendor must respond while a command runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_konnector_in_maintenance_is_started_by_hand_only_or_not_at_all() {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let client = server.client().await;
    let source = bundle::bank101(&data.join("bundle"), vendor.url(), |_| {});
    run_ok(data, &["konnectors", "install", "bank101", &source]);
    let login = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", login).await;
    client.create_trigger("bank101", &account).await;
    let maintenance = |arguments: &[&str]| run_ok(data, &[&["konnectors", "maintenance"], arguments].concat());
    let options = |listed: &Value| listed[0]["maintenance_options"].clone();

    assert_eq!(maintenance(&["ls"]), json!([]));
    maintenance(&["on", "bank101", "--no-manual-exec", "--message", "en=Back on Monday.", "--message", "fr=À lundi."]);
    let listed = maintenance(&["ls"]);
    assert_eq!((&listed[0]["slug"], &listed[0]["level"]), (&json!("bank101"), &json!("stack")));
    assert_eq!(options(&listed)["messages"]["fr"]["short_message"], "À lundi.");
    let not_run = run_error(data, &["konnectors", "run", "bank101"]);

    // The earlier message is replaced.
    maintenance(&["on", "bank101", "--short"]);
    let listed = maintenance(&["ls", "--registries"]);
    let expected = json!({
        "flag_short_maintenance": true, "flag_disallow_manual_exec": false, "flag_infra_maintenance": true, "messages": {},
    });
    assert_eq!(options(&listed), expected);
    assert_eq!(run_ok(data, &["konnectors", "run", "bank101"])["state"], "done");

    maintenance(&["off", "bank101"]);
    assert_eq!(maintenance(&["ls"]), json!([]));
    let refusals = [
        not_run,
        run_error(data, &["konnectors", "maintenance", "off", "bank101"]),
        run_error(data, &["konnectors", "maintenance", "on", "Bank101"]),
        run_error(data, &["konnectors", "maintenance", "on", "bank101", "--message", "Back on Monday."]),
    ];
    insta::assert_snapshot!(refusals.join("\n").replace(&data.display().to_string(), "DATA"), @r#"
    1 The konnector 'bank101' is in maintenance. Try again when the maintenance is over.
    1 the konnector 'bank101' is not in maintenance → list the maintenances: konnector --data-dir DATA konnectors maintenance ls
    1 'Bank101' is not a valid slug: expected lower-case letters, digits and -
    2 invalid value 'Back on Monday.' for '--message <LANGUAGE=TEXT>': write it as in en="Back on Monday."

    For more information, try '--help'. → see `konnector --help`
    "#);
}
