//! A real server: the `konnector` binary in its own process, with a data folder that outlives it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::TestClient;

/// A running server. Dropping it kills it.
pub struct TestServer {
    child: Child,
    data: PathBuf,
    /// Address of the public API.
    pub url: String,
    /// Address of the admin API.
    pub admin_url: String,
}

/// The binary under test, built next to the tests.
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("KONNECTOR_BINARY") {
        return path.into();
    }
    example_binary("konnector")
}

/// A program of the workspace for this machine, built next to the tests.
pub fn example_binary(name: &str) -> PathBuf {
    // A test is in <target>/debug/deps, the bench in <target>/release.
    let tests = std::env::current_exe().expect("the path of the test");
    let mut paths = tests.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = paths.find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("the binary `{name}` beside the tests; run `cargo xtask test`, which builds it"))
}

impl TestServer {
    /// Starts a server that may reach the loopback addresses, where the vendors of the tests listen.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Like [`Self::start`], with more arguments.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::start_in(data, arguments, &[])
    }

    /// Like [`Self::start_with`], with environment variables.
    pub fn start_in(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_from(Command::new(binary()), data, arguments, environment)
    }

    /// Like [`Self::start`], with a limit on the open files of the process.
    pub fn start_with_open_files(data: &Path, limit: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(binary());
        Self::start_from(command, data, &[], &[])
    }

    fn start_from(mut command: Command, data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let described = data.join("server.json");
        // A leftover of a killed server must not be mistaken for the new one's.
        drop(std::fs::remove_file(&described));
        let log = std::fs::File::options().create(true).append(true).open(data.join("server.log")).expect("the log");
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--allow-address", "127.0.0.1", "--retry-delay-seconds", "1", "--data-dir"])
            .arg(data)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut server = Self { child, data: data.to_owned(), url: String::new(), admin_url: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(description) =
                std::fs::read(&described).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok())
            {
                let text = |name: &str| description[name].as_str().expect(name).to_owned();
                (server.url, server.admin_url) = (text("public_url"), text("admin_url"));
                return server;
            }
            if let Some(status) = server.child.try_wait().expect("a child") {
                panic!("the server ended with {status}: {}", server.log());
            }
            assert!(Instant::now() < deadline, "the server does not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("server.log")).unwrap_or_default()
    }

    /// The password of the admin API.
    #[must_use]
    pub fn passphrase(&self) -> String {
        std::fs::read_to_string(self.data.join("admin-passphrase")).expect("the passphrase").trim().to_owned()
    }

    /// A client with every right on the first instance of a new server.
    pub async fn client(&self) -> TestClient {
        self.client_with_scope("*").await
    }

    /// A client with the rights in `scope`.
    pub async fn client_with_scope(&self, scope: &str) -> TestClient {
        let (domain, token) = self.token("cli", "tests", scope).await;
        TestClient { http: reqwest_client(), url: self.url.clone(), domain, token }
    }

    /// The domain of the first instance of a new server, and a token for it.
    pub async fn token(&self, audience: &str, subject: &str, scope: &str) -> (String, String) {
        let http = reqwest_client();
        let admin = |request: reqwest::RequestBuilder| request.basic_auth("admin", Some(self.passphrase()));
        let instances: Value = read(admin(http.get(format!("{}/instances", self.admin_url)))).await;
        let domain = instances["data"][0]["attributes"]["domain"].as_str().expect("an instance").to_owned();
        let token = self.token_on(&domain, audience, subject, scope).await;
        (domain, token)
    }

    /// A client with every right on a new instance with a quota in bytes for its files.
    pub async fn client_with_quota(&self, bytes: u64) -> TestClient {
        let http = reqwest_client();
        let domain = "small.example".to_owned();
        let mut url = url::Url::parse(&format!("{}/instances", self.admin_url)).expect("a URL");
        url.query_pairs_mut().append_pair("Domain", &domain).append_pair("DiskQuota", &bytes.to_string());
        let response = http.post(url).basic_auth("admin", Some(self.passphrase())).send().await.expect("an answer");
        assert_eq!(response.status(), 201);
        let token = self.token_on(&domain, "cli", "tests", "*").await;
        TestClient { http, url: self.url.clone(), domain, token }
    }

    async fn token_on(&self, domain: &str, audience: &str, subject: &str, scope: &str) -> String {
        let mut url = url::Url::parse(&format!("{}/instances/token", self.admin_url)).expect("a URL");
        url.query_pairs_mut().extend_pairs([
            ("Domain", domain),
            ("Audience", audience),
            ("Subject", subject),
            ("Scope", scope),
        ]);
        let request = reqwest_client().post(url).basic_auth("admin", Some(self.passphrase()));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.text().await.expect("a token").trim().to_owned()
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for an orderly exit.
    pub fn stop(mut self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().expect("the program kill");
        assert!(sent.success());
        let status = self.child.wait().expect("a status");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Waits until the server exits by itself.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> std::process::ExitStatus {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends SIGKILL: no chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("a status");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Result of a command of the binary.
#[derive(Debug)]
pub struct CommandOutput {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output as JSON, or null.
    pub json: Value,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command on a data folder and waits for its end.
pub fn run_command(data: &Path, arguments: &[&str]) -> CommandOutput {
    run_command_with(data, arguments, &[])
}

/// Like [`run_command`], with environment variables.
pub fn run_command_with(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
    let mut command = Command::new(binary());
    command.arg("--json").arg("--data-dir").arg(data).args(arguments).envs(environment.iter().copied());
    let output = command.output().expect("the command starts");
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    CommandOutput { code: output.status.code(), json, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Reads a JSON response.
async fn read(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let text = response.text().await.expect("a text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: {error}: {text}"))
}

/// An HTTP client that uses no proxy.
pub fn reqwest_client() -> reqwest::Client {
    // Plain HTTP only, but the library requires a default cryptography provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
