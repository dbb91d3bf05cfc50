//! An own registry, and a server that installs from it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use konnector_tests::bundle;
use konnector_tests::server::{TestServer, binary};

use crate::{run_error, run_ok};

/// `konnector registry serve`. Dropping it kills it.
struct RegistryProcess {
    child: Child,
    stderr_path: PathBuf,
    /// Its first line on standard output.
    line: String,
}

impl RegistryProcess {
    fn serve(source_dir: &Path, stderr_path: PathBuf) -> Self {
        let mut child = Command::new(binary())
            .args(["registry", "serve", "--listen", "127.0.0.1:0"])
            .arg(source_dir)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr_path).expect("a file"))
            .spawn()
            .expect("the registry starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        Self { child, stderr_path, line }
    }

    fn url(&self) -> &str {
        self.line.split(' ').nth(1).expect("an address")
    }

    /// Waits until its standard error contains `text`, and returns it.
    fn wait_for_stderr(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let stderr = std::fs::read_to_string(&self.stderr_path).expect("a text");
            if stderr.contains(text) {
                return stderr;
            }
            assert!(Instant::now() < deadline, "it does not say {text}: {stderr}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_konnector_is_installed_and_updated_from_a_registry_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, source_dir) = (folder.path().join("data"), folder.path().join("source"));
    std::fs::create_dir(&data).expect("a folder");
    let publish = |name: &str, version: &str| {
        bundle::bank101(&source_dir.join("bank101").join(name), "http://127.0.0.1:9", |manifest| {
            manifest["version"] = version.into();
        });
    };
    publish("1.0.0", "1.0.0");
    publish("newest", "1.1.0");
    let registry = RegistryProcess::serve(&source_dir, folder.path().join("stderr"));
    assert!(registry.line.contains(" serves 1 konnectors from "), "{}", registry.line);
    let server = TestServer::start_with(&data, &["--registry", registry.url()]);

    let installed = run_ok(&data, &["konnectors", "install", "bank101"]);
    assert_eq!((&installed["version"], &installed["source"]), (&"1.0.0".into(), &"registry://bank101/stable".into()));
    assert_eq!(run_ok(&data, &["konnectors", "update", "bank101"])["version"], "1.0.0");
    std::fs::rename(source_dir.join("bank101/newest"), source_dir.join("bank101/1.1.0")).expect("renamed");
    publish("1.2.0", "1.3.0");
    assert_eq!(run_ok(&data, &["konnectors", "update", "bank101"])["version"], "1.1.0");
    assert_eq!(run_ok(&data, &["konnectors", "ls"])[0]["version"], "1.1.0");

    let stderr = registry.wait_for_stderr("1.2.0 is not offered");
    insta::assert_snapshot!(stderr.replace(&source_dir.display().to_string(), "SOURCE"), @r"
    ! SOURCE/bank101/newest is not offered: its manifest has version 1.1.0
      → rename it to SOURCE/bank101/1.1.0
    ! SOURCE/bank101/1.2.0 is not offered: its manifest has version 1.3.0
      → rename it to SOURCE/bank101/1.3.0
    ");
    let refusals = [
        run_error(&data, &["konnectors", "install", "bank102"]),
        run_error(&data, &["konnectors", "install", "other", "registry://bank101/beta/9.9.9"]),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r"
    1 bank102: no registry of this server offers 'bank102' in the channel 'stable' → nothing was changed
    1 other: no registry of this server offers version 9.9.9 of 'bank101' → nothing was changed
    ");
    drop(server);
}
