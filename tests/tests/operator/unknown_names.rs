//! Names that do not exist: the API accepts them in jobs and triggers, as Cozy does, so the command line checks them.

use konnector_tests::server::TestServer;

use crate::run_error;

#[test]
fn a_job_or_trigger_for_an_unknown_konnector_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let _server = TestServer::start(data);
    for arguments in [&["jobs", "push", "nope"][..], &["triggers", "add", "nope", "--every", "1h"]] {
        let refused = run_error(data, arguments);
        assert!(refused.starts_with("1 nope is not installed → list the konnectors"), "{arguments:?}: {refused}");
    }
}
