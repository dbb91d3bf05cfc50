//! The CardDAV example against a real Radicale with a real address book.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, reqwest_client};
use reqwest::Method;
use serde_json::{Value, json};
use test_tools::Tool;

/// A separate Radicale process. Dropping it kills it.
struct Radicale {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Radicale {
    /// Starts it; `None` if it is not installed (`cargo xtask test` installs it).
    async fn start(folder: &Path) -> Option<Self> {
        let program = Tool::RADICALE.require_variable("KONNECTOR_TEST_RADICALE")?;
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        std::fs::write(folder.join("users"), "ada:correct horse\n").expect("written");
        let child = Command::new(program)
            .args(["--config", "", "--hosts", &format!("127.0.0.1:{port}"), "--auth-type", "htpasswd"])
            .arg("--auth-htpasswd-filename")
            .arg(folder.join("users"))
            .args(["--auth-htpasswd-encryption", "plain", "--storage-filesystem-folder"])
            .arg(folder.join("collections"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("radicale.log")).expect("a log"))
            .spawn()
            .expect("Radicale starts");
        let radicale = Self { child, url: format!("http://127.0.0.1:{port}"), http: reqwest_client() };
        for _ in 0..200 {
            if radicale.http.get(&radicale.url).send().await.is_ok() {
                return Some(radicale);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "Radicale does not answer: {}",
            std::fs::read_to_string(folder.join("radicale.log")).unwrap_or_default()
        );
    }

    async fn send(&self, method: &str, path: &str, body: &str) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.url)).basic_auth("ada", Some("correct horse"));
        let response = request.body(body.to_owned()).send().await.expect("an answer");
        assert!(
            response.status().is_success(),
            "{path}: {}: {}",
            response.status(),
            response.text().await.unwrap_or_default()
        );
    }

    async fn card(&self, name: &str, card: &str) {
        self.send("PUT", &format!("/ada/friends/{name}.vcf"), &card.replace('\n', "\r\n")).await;
    }
}

impl Drop for Radicale {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const ADDRESS_BOOK: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<mkcol xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav"><set><prop>
<resourcetype><collection/><C:addressbook/></resourcetype><displayname>Friends</displayname>
</prop></set></mkcol>"#;

fn card(uid: &str, family: &str, given_name: &str, email: &str) -> String {
    format!(
        "BEGIN:VCARD\nVERSION:3.0\nUID:{uid}\nFN:{given_name} {family}\nN:{family};{given_name};;;\nEMAIL;TYPE=HOME:{email}\nTEL;TYPE=CELL:+33 6 12 34 56 78\nEND:VCARD\n"
    )
}

async fn contacts(client: &TestClient) -> Vec<(String, String)> {
    let mut contacts: Vec<_> = client
        .documents("io.cozy.contacts")
        .await
        .iter()
        .map(|contact| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&contact["fullname"]), text(&contact["email"][0]["address"]))
        })
        .collect();
    contacts.sort();
    contacts
}

#[tokio::test]
async fn an_address_book_is_imported_and_kept_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let Some(radicale) = Radicale::start(folder.path()).await else { return };
    radicale.send("MKCOL", "/ada/friends/", ADDRESS_BOOK).await;
    radicale.card("grace", &card("1", "Hopper", "Grace", "grace@navy.example")).await;
    radicale.card("emile", &card("2", "Zola", "Émile", "emile@plume.example")).await;

    let client = server.client().await;
    let source = bundle::write(&folder.path().join("bundle"), "carddav", |_| {});
    let (status, body) = client.install("carddav", &source).await;
    assert_eq!(status, 202, "{body}");
    let auth = json!({ "url": radicale.url, "login": "ada", "password": "correct horse" });
    let account = client.create_account("carddav", auth).await;
    let trigger = client.create_trigger("carddav", &account).await;

    let job = client.run(&trigger).await;
    assert_eq!(job["state"], "done", "{job:#}\n{}", server.log());
    let both = [("Grace Hopper", "grace@navy.example"), ("Émile Zola", "emile@plume.example")];
    let owned = |list: &[(&str, &str)]| {
        list.iter().map(|(name, email)| ((*name).to_owned(), (*email).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(contacts(&client).await, owned(&both));
    let files = client.files().await;
    assert_eq!(files.len(), 2, "{files:#?}");
    let emile = files.iter().find(|file| file["name"] == "Émile Zola.vcf").expect("a card file");
    let content = client.bytes(&format!("/files/download/{}", emile["_id"].as_str().expect("an id"))).await;
    assert!(String::from_utf8(content).expect("text").contains("EMAIL;TYPE=HOME:emile@plume.example"));

    let requests = |job: &Value| job["receipt"]["requests"].as_u64().expect("a count");
    let second = client.run(&trigger).await;
    assert_eq!(
        (&second["state"], &second["receipt"]["documents"]["created"]),
        (&json!("done"), &json!(0)),
        "{second:#}"
    );
    assert!(requests(&second) < requests(&job), "nothing changed, yet as much was asked: {second:#}");

    radicale.card("grace", &card("1", "Hopper", "Grace", "admiral@navy.example")).await;
    radicale.send("DELETE", "/ada/friends/emile.vcf", "").await;
    let third = client.run(&trigger).await;
    assert_eq!(third["state"], "done", "{third:#}");
    assert_eq!(contacts(&client).await, owned(&[("Grace Hopper", "admiral@navy.example")]));
    assert_eq!(client.files().await.len(), 1, "the file of the deleted card is in the trash");
}
