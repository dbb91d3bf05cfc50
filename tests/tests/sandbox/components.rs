//! What is said about components that cannot be run, and how compiled ones are kept.

use std::fs;
use std::path::{Path, PathBuf};

use konnector_sandbox::{Digest, Kind, Options, Sandbox};
use konnector_tests::handmade::with_names;
use konnector_tests::{guest, handmade};

use super::SANDBOX;

fn refusal(bytes: &[u8]) -> String {
    Sandbox::inspect(bytes).expect_err("a component that cannot be run").to_string()
}

fn typed(version: &str) -> Kind {
    Kind::Typed { version: version.to_owned() }
}

const RUN: &str = "konnector:host/run@0.1.0";

#[test]
fn what_is_no_component() {
    insta::assert_snapshot!(refusal(b""), @"this is not WebAssembly: it begins with nothing, it is empty; `component` in the manifest must name a .wasm file");
    insta::assert_snapshot!(refusal(b"<!DOCTYPE html><html>"), @r#"this is not WebAssembly: it begins with "<!DOCTYPE html><"; `component` in the manifest must name a .wasm file"#);
    insta::assert_snapshot!(refusal(&vec![0; (32 << 20) + 1]), @"the component has 33554433 bytes, the limit is 33554432: build it with the guest profile (optimised, stripped)");
    insta::assert_snapshot!(refusal(&wat::parse_str("(module)").unwrap()), @"this is a core WebAssembly module, not a component: build it with `--target wasm32-wasip2` (or make one of it with `wasm-tools component new`)");
    let cut_off = refusal(&guest("noop")[..5_000]);
    assert!(cut_off.starts_with("the component is damaged: unexpected end-of-file"), "{cut_off}");
}

#[test]
fn what_exports_no_run() {
    insta::assert_snapshot!(refusal(&with_names(&[], &[])), @"the component does not export `konnector:host/run`, so there is nothing to start: mark a function with `#[konnector]` and build a `cdylib`");
    insta::assert_snapshot!(refusal(&with_names(&[], &["wasi:cli/run@0.2.3"])), @"the component does not export `konnector:host/run`, so there is nothing to start (it exports wasi:cli/run@0.2.3): mark a function with `#[konnector]` and build a `cdylib`");
}

#[test]
fn what_was_built_for_another_version() {
    insta::assert_snapshot!(refusal(&with_names(&[], &["konnector:host/run@0.2.0"])), @"the component was built for konnector:host 0.2.0, this server runs 0.1.x: build it with a matching SDK");
    insta::assert_snapshot!(refusal(&with_names(&[], &["konnector:host/run@1.0.0"])), @"the component was built for konnector:host 1.0.0, this server runs 0.1.x: build it with a matching SDK");
    assert_eq!(Sandbox::inspect(&with_names(&[], &["konnector:host/run@0.1.7"])).unwrap().kind, typed("0.1.7"));
}

#[test]
fn what_imports_more_than_there_is() {
    insta::assert_snapshot!(refusal(&with_names(&["wasi:sockets/tcp@0.2.0"], &[RUN])), @"the component imports `wasi:sockets/tcp@0.2.0`, which no konnector is given: sockets are never granted. Use the SDK's HTTP client (`konnector:host/http`), and leave out crates that open connections themselves");
    insta::assert_snapshot!(refusal(&with_names(&["wasi:http/outgoing-handler@0.2.3"], &[RUN])), @"the component imports `wasi:http/outgoing-handler@0.2.3`, which no konnector is given: use the SDK's HTTP client (`konnector:host/http`), whose hosts the manifest names");
    insta::assert_snapshot!(refusal(&with_names(&["wasi:clocks/timezone@0.2.3"], &[RUN])), @"the component imports `wasi:clocks/timezone@0.2.3`, which no konnector is given: only the command line, clocks, files, random numbers and streams of WASI 0.2 are; build for `wasm32-wasip2`");
    insta::assert_snapshot!(refusal(&with_names(&["wasi:clocks/wall-clock@0.3.0"], &[RUN])), @"the component imports `wasi:clocks/wall-clock@0.3.0`, which no konnector is given: only the command line, clocks, files, random numbers and streams of WASI 0.2 are; build for `wasm32-wasip2`");
    insta::assert_snapshot!(refusal(&with_names(&["konnector:host/telepathy@0.1.0"], &[RUN])), @"the component imports `konnector:host/telepathy@0.1.0`, which no konnector is given: this version of the contract does not have it; build with a matching SDK");
    insta::assert_snapshot!(refusal(&with_names(&["evil:keylogger/keys"], &[RUN])), @"the component imports `evil:keylogger/keys`, which no konnector is given: a konnector imports `konnector:host` and WASI 0.2 only; compose other components into it (`wac plug`)");
}

#[tokio::test]
async fn a_later_version_of_the_same_track_runs() {
    let mut component = handmade::konnector("", "", "");
    let name = b"konnector:host/run@0.1.0";
    let places: Vec<_> = (0..component.len()).filter(|at| component[*at..].starts_with(name)).collect();
    for at in places {
        component[at + name.len() - 1] = b'7';
    }
    assert_eq!(Sandbox::inspect(&component).unwrap().kind, typed("0.1.7"));
    let ended = super::run(&component, serde_json::json!({}), &konnector_tests::fakes::World::default()).await;
    assert!(matches!(ended.outcome, konnector_sandbox::Outcome::Completed(_)), "{:?}", ended.outcome);
}

#[test]
fn what_a_component_wants_is_known_beforehand() {
    let info = Sandbox::inspect(&guest("noop")).unwrap();
    assert_eq!((info.kind, info.reads_secrets), (typed("0.1.0"), false));
    assert!(!info.imports.iter().any(|name| name.starts_with("wasi:sockets")), "{:?}", info.imports);
    assert!(Sandbox::inspect(&guest("panics")).unwrap().reads_secrets);
}

#[tokio::test]
async fn a_component_whose_run_is_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = SANDBOX.prepare(&with_names(&[], &[RUN]), folder.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @"the component does not fit its interfaces: instance export `konnector:host/run@0.1.0` does not have export `start`");
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// A sandbox with nothing in memory, to see what the folder does.
fn fresh() -> Sandbox {
    Sandbox::new(Options { max_runs: 1, ..Options::default() }).unwrap()
}

#[tokio::test]
async fn a_damaged_compiled_component_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let component = handmade::konnector("", "", "");
    fresh().prepare(&component, folder.path()).await.unwrap();
    let [code] = files(folder.path(), "cwasm").try_into().unwrap();
    assert!(code.file_name().unwrap().to_str().unwrap().starts_with(&Digest::of(&component).to_string()));
    let good = fs::read(&code).unwrap();

    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    for content in [&damaged[..], &good[..100], b""] {
        fs::write(&code, content).unwrap();
        fresh().prepare(&component, folder.path()).await.unwrap();
        assert_eq!(fs::read(&code).unwrap().len(), good.len());
    }
    let [checksum] = files(folder.path(), "sha256").try_into().unwrap();
    fs::remove_file(&checksum).unwrap();
    fresh().prepare(&component, folder.path()).await.unwrap();
    assert!(checksum.exists());
    assert!(files(folder.path(), "tmp").is_empty());
}

#[tokio::test]
async fn a_compiled_component_is_not_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let component = handmade::konnector("", "", "");
    fresh().prepare(&component, folder.path()).await.unwrap();
    let [code] = files(folder.path(), "cwasm").try_into().unwrap();
    let written = fs::metadata(&code).unwrap().modified().unwrap();
    fresh().prepare(&component, folder.path()).await.unwrap();
    assert_eq!(fs::metadata(&code).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_compilation() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), fresh());
    let component = handmade::konnector("", "", "");
    let prepare = || sandbox.prepare(&component, folder.path());
    let (one, two) = tokio::join!(prepare(), prepare());
    assert_eq!(one.unwrap().digest(), two.unwrap().digest());
    assert!(sandbox.prepared(Digest::of(&component)).is_some());
    assert!(sandbox.prepared(Digest::of(b"another")).is_none());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let error = SANDBOX.prepare(&handmade::konnector("", "", "nop"), Path::new("/proc/nowhere")).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot create the folder /proc/nowhere: No such file or directory (os error 2)");
}
