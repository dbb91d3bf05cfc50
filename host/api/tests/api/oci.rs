//! Konnectors in an OCI registry: a small one that issues tokens, on a real socket.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::support::{Api, TestRequest, component, manifest};

/// Contents of the registry by path.
type Contents = HashMap<String, Vec<u8>>;

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Adds an artifact; returns its digest.
fn push(contents: &mut Contents, tag: &str, layers: &[(&str, &str, Vec<u8>)]) -> String {
    let described: Vec<Value> = layers
        .iter()
        .map(|(media_type, title, content)| {
            contents.insert(format!("/v2/me/shop/blobs/{}", digest(content)), content.clone());
            let annotations = json!({ "org.opencontainers.image.title": title });
            json!({ "mediaType": media_type, "digest": digest(content), "size": content.len(), "annotations": annotations })
        })
        .collect();
    let artifact = json!({ "schemaVersion": 2, "layers": described }).to_string().into_bytes();
    let digest = digest(&artifact);
    for name in [tag, &digest] {
        contents.insert(format!("/v2/me/shop/manifests/{name}"), artifact.clone());
    }
    digest
}

async fn registry(contents: Contents) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (own, contents) = (address.clone(), Arc::new(contents));
    let router = Router::new().fallback(move |request: Request| {
        let response = respond(&own, &contents, &request);
        async move { response }
    });
    tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
    address
}

fn respond(address: &str, contents: &Contents, request: &Request) -> Response {
    if request.uri().path() == "/token" {
        return axum::Json(json!({ "token": "let-me-in" })).into_response();
    }
    if request.headers().get(AUTHORIZATION).is_none_or(|value| value != "Bearer let-me-in") {
        let challenge =
            format!("Bearer realm=\"http://{address}/token\",service=\"reg\",scope=\"repository:me/shop:pull\"");
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    }
    match contents.get(request.uri().path()) {
        Some(content) => content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn an_artifact_is_an_archive_or_the_files() {
    let text = |version: &str| manifest(version, &["io.cozy.bills"]).to_string().into_bytes();
    let archive = {
        let files = [("manifest.konnector", text("1.0.0")), ("konnector.wasm", component(true))];
        konnector_platform::konnector::pack(&files.map(|(name, bytes)| (name.to_owned(), bytes)).into())
            .expect("packed")
    };
    let mut contents = Contents::new();
    let fixed =
        push(&mut contents, "1.0.0", &[("application/vnd.oci.image.layer.v1.tar+gzip", "shop.tar.gz", archive)]);
    push(
        &mut contents,
        "latest",
        &[
            ("application/json", "manifest.konnector", text("2.0.0")),
            ("application/wasm", "konnector.wasm", component(true)),
        ],
    );
    push(&mut contents, "bare", &[("application/wasm", "konnector.wasm", component(true))]);
    let broken = push(&mut contents, "broken", &[("application/wasm", "konnector.wasm", b"x".to_vec())]);
    contents.insert(format!("/v2/me/shop/manifests/{broken}"), b"{}".to_vec());
    let address = registry(contents).await;
    let api = Api::with_config(|_, gate| gate.allowed_private = vec!["127.0.0.0/8".parse().expect("a rule")]).await;
    for (slug, reference, version) in
        [("a", ":1.0.0", "1.0.0"), ("b", "", "2.0.0"), ("c", &format!("@{fixed}"), "1.0.0")]
    {
        let events = api
            .follow(TestRequest::post(&format!("/konnectors/{slug}?Source=oci://{address}/me/shop{reference}")))
            .await;
        assert_eq!(events, [format!("installing {version}"), format!("ready {version}")], "{reference}");
    }
    // Installing the same version again is not an update.
    assert_eq!(api.follow(TestRequest::put("/konnectors/a")).await, ["ready 1.0.0"]);
    for (reference, reason) in [
        (":bare", "it has neither a layer manifest.konnector nor an archive"),
        (":gone", "the registry does not have this artifact"),
        (&format!("@{broken}"), "the received content has the SHA-256"),
    ] {
        let call = TestRequest::post(&format!("/konnectors/d?Source=oci://{address}/me/shop{reference}"))
            .token(&api.token("*"));
        let response = api.send(call).await;
        assert!(response.status == 404 && response.text().contains(reason), "{reference}: {response}");
    }
}
