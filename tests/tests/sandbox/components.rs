//! Errors of components that cannot be run, and the storage of compiled ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use konnector_sandbox::{CodeKey, ComponentDigest, ComponentKind, Preparation, Sandbox, SandboxOptions};
use konnector_tests::wat_components::component_with_names;
use konnector_tests::{guest, wat_components};

use super::SANDBOX;

fn refusal(bytes: &[u8]) -> String {
    Sandbox::inspect(bytes).expect_err("a component that cannot be run").to_string()
}

fn typed(version: &str) -> ComponentKind {
    ComponentKind::Typed { version: version.to_owned() }
}

const RUN: &str = "konnector:host/run@0.1.0";

#[test]
fn invalid_components_are_rejected() {
    insta::assert_snapshot!(refusal(b""), @"the file begins with nothing (it is empty), so it is not WebAssembly; `component` in the manifest must name a .wasm file");
    insta::assert_snapshot!(refusal(b"<!DOCTYPE html><html>"), @r#"the file begins with "<!DOCTYPE html><", so it is not WebAssembly; `component` in the manifest must name a .wasm file"#);
    insta::assert_snapshot!(refusal(&vec![0; (32 << 20) + 1]), @"the component is 33554433 bytes long, but the limit is 33554432 bytes; build it with the guest profile, which optimises and strips it");
    insta::assert_snapshot!(refusal(&wat::parse_str("(module)").unwrap()), @"the file is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2` (or convert it with `wasm-tools component new`)");
    let cut_off = refusal(&guest("noop")[..5_000]);
    assert!(cut_off.starts_with("the component is damaged: unexpected end-of-file"), "{cut_off}");
}

#[test]
fn what_exports_no_run() {
    insta::assert_snapshot!(refusal(&component_with_names(&[], &[])), @"the component exports neither `konnector:host/run` nor `wasi:cli/run`, so there is nothing to start; mark a function with `#[konnector]` and build a `cdylib`, or build a program with a `main`");
    insta::assert_snapshot!(refusal(&component_with_names(&[], &["wasi:http/incoming-handler@0.2.3"])), @"the component exports neither `konnector:host/run` nor `wasi:cli/run`, so there is nothing to start (it exports wasi:http/incoming-handler@0.2.3); mark a function with `#[konnector]` and build a `cdylib`, or build a program with a `main`");
}

#[test]
fn what_was_built_for_another_version() {
    insta::assert_snapshot!(refusal(&component_with_names(&[], &["wasi:cli/run@0.3.0"])), @"the component is a WASI 0.3.0 command, but this server supports WASI 0.2; build it for `wasm32-wasip2`");
    insta::assert_snapshot!(refusal(&component_with_names(&[], &["konnector:host/run@0.2.0"])), @"the component was built for konnector:host 0.2.0, but this server supports 0.1.x; build it with a matching SDK");
    insta::assert_snapshot!(refusal(&component_with_names(&[], &["konnector:host/run@1.0.0"])), @"the component was built for konnector:host 1.0.0, but this server supports 0.1.x; build it with a matching SDK");
    assert_eq!(
        Sandbox::inspect(&component_with_names(&[], &["konnector:host/run@0.1.7"])).unwrap().kind,
        typed("0.1.7")
    );
}

#[test]
fn what_imports_more_than_there_is() {
    insta::assert_snapshot!(refusal(&component_with_names(&["wasi:sockets/tcp@0.2.0"], &[RUN])), @"the component imports `wasi:sockets/tcp@0.2.0`, which is not available to konnectors: konnectors cannot open sockets; use the SDK's HTTP client (`konnector:host/http`) or one based on `wasi:http`, and remove crates that open connections themselves");
    insta::assert_snapshot!(refusal(&component_with_names(&["wasi:http/incoming-handler@0.2.3"], &[RUN])), @"the component imports `wasi:http/incoming-handler@0.2.3`, which is not available to konnectors: a konnector can send requests (`wasi:http/outgoing-handler`), but cannot receive any");
    insta::assert_snapshot!(refusal(&component_with_names(&["wasi:clocks/timezone@0.2.3"], &[RUN])), @"the component imports `wasi:clocks/timezone@0.2.3`, which is not available to konnectors: WASI 0.2 is available only for the command line, clocks, files, outgoing HTTP requests, random numbers and streams; build for `wasm32-wasip2`");
    insta::assert_snapshot!(refusal(&component_with_names(&["wasi:clocks/wall-clock@0.3.0"], &[RUN])), @"the component imports `wasi:clocks/wall-clock@0.3.0`, which is not available to konnectors: WASI 0.2 is available only for the command line, clocks, files, outgoing HTTP requests, random numbers and streams; build for `wasm32-wasip2`");
    insta::assert_snapshot!(refusal(&component_with_names(&["konnector:host/telepathy@0.1.0"], &[RUN])), @"the component imports `konnector:host/telepathy@0.1.0`, which is not available to konnectors: this version of the contract does not define it; build with a matching SDK");
    insta::assert_snapshot!(refusal(&component_with_names(&["evil:keylogger/keys"], &[RUN])), @"the component imports `evil:keylogger/keys`, which is not available to konnectors: a konnector may import only `konnector:host` and WASI 0.2; compose other components into it (`wac plug`)");
}

#[tokio::test]
async fn a_later_version_of_the_same_track_runs() {
    let mut component = wat_components::konnector_component("", "", "");
    let name = b"konnector:host/run@0.1.0";
    let indices: Vec<_> = (0..component.len()).filter(|index| component[*index..].starts_with(name)).collect();
    for index in indices {
        component[index + name.len() - 1] = b'7';
    }
    assert_eq!(Sandbox::inspect(&component).unwrap().kind, typed("0.1.7"));
    let output =
        super::run(&component, serde_json::json!({}), &konnector_tests::fakes::FakeEnvironment::default()).await;
    assert!(matches!(output.outcome, konnector_sandbox::Outcome::Completed(_)), "{:?}", output.outcome);
}

#[test]
fn what_a_component_wants_is_known_beforehand() {
    let info = Sandbox::inspect(&guest("noop")).unwrap();
    assert_eq!((info.kind, info.reads_secrets), (typed("0.1.0"), false));
    assert!(!info.imports.iter().any(|name| name.starts_with("wasi:sockets")), "{:?}", info.imports);
    assert!(Sandbox::inspect(&guest("panics")).unwrap().reads_secrets);
    let kind = |exports: &[&str]| Sandbox::inspect(&component_with_names(&[], exports)).unwrap().kind;
    assert_eq!(kind(&["wasi:cli/run@0.2.3"]), ComponentKind::Command);
    // If both are present, ours takes precedence.
    assert_eq!(kind(&["wasi:cli/run@0.2.3", RUN]), typed("0.1.0"));
}

#[tokio::test]
async fn a_component_whose_run_is_something_else_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let error = SANDBOX.prepare(&component_with_names(&[], &[RUN]), folder.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot link the component: instance export `konnector:host/run@0.1.0` does not have export `run`");
}

/// The one compiled component in a folder.
fn code(folder: &Path) -> PathBuf {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let [code] = paths.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(Path::new(&code).extension().unwrap(), "cwasm");
    code
}

/// A sandbox with an empty memory cache, to test the folder.
fn new_sandbox(key: u8) -> Sandbox {
    Sandbox::new(SandboxOptions { max_runs: 1, code_key: Some(CodeKey::new(&[key; 32])), ..SandboxOptions::default() })
        .unwrap()
}

async fn prepare_compiles(sandbox: &Sandbox, component: &[u8], folder: &Path) -> bool {
    match sandbox.prepare(component, folder).await.unwrap().preparation() {
        Preparation::Compiled(_) => true,
        Preparation::Disk(_) => false,
        Preparation::Memory => panic!("a fresh sandbox"),
    }
}

fn replace(path: &Path, content: &[u8]) {
    drop(fs::remove_file(path));
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

#[tokio::test]
async fn compiled_code_is_found_again_by_who_has_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let component = wat_components::konnector_component("", "", "");
    assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
    assert!(
        code(folder.path())
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&ComponentDigest::compute(&component).to_string())
    );
    assert!(!prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
    assert!(prepare_compiles(&new_sandbox(2), &component, folder.path()).await, "another key");
    let keyless = || Sandbox::new(SandboxOptions { max_runs: 1, ..SandboxOptions::default() }).unwrap();
    assert!(prepare_compiles(&keyless(), &component, folder.path()).await, "a key of its own");
    assert!(prepare_compiles(&keyless(), &component, folder.path()).await, "another key of its own");
}

#[tokio::test]
async fn code_that_was_changed_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let component = wat_components::konnector_component("", "", "");
    prepare_compiles(&new_sandbox(1), &component, folder.path()).await;
    let code = code(folder.path());
    let good = fs::read(&code).unwrap();
    let changed = |index: usize| {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        bytes
    };
    let (last, grown) = (good.len() - 1, [&good[..], &[0]].concat());
    for content in [
        &changed(good.len() / 2)[..],
        &changed(0),
        &changed(last),
        &good[..100],
        &good[..good.len() - 32],
        &good[..31],
        &grown,
        b"",
    ] {
        replace(&code, content);
        assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
        assert_eq!(fs::read(&code).unwrap().len(), good.len(), "it is written again");
        assert!(!prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
    }
}

#[tokio::test]
async fn code_of_another_component_under_its_name_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) =
        (wat_components::konnector_component("", "", ""), wat_components::konnector_component("", "", "nop"));
    prepare_compiles(&new_sandbox(1), &one, folder.path()).await;
    let code_of_one = code(folder.path());
    let name = code_of_one.file_name().unwrap().to_str().unwrap();
    let name_of_other =
        name.replace(&ComponentDigest::compute(&one).to_string(), &ComponentDigest::compute(&other).to_string());
    fs::rename(&code_of_one, folder.path().join(name_of_other)).unwrap();
    assert!(prepare_compiles(&new_sandbox(1), &other, folder.path()).await);
}

#[tokio::test]
async fn code_that_others_could_have_written_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let component = wat_components::konnector_component("", "", "");
    prepare_compiles(&new_sandbox(1), &component, folder.path()).await;
    let path = code(folder.path());

    fs::set_permissions(&path, fs::Permissions::from_mode(0o606)).unwrap();
    assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await, "a file that all can write");
    let other_folder = tempfile::tempdir().unwrap();
    fs::rename(&path, other_folder.path().join("code")).unwrap();
    std::os::unix::fs::symlink(other_folder.path().join("code"), &path).unwrap();
    assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await, "a link");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o707)).unwrap();
    assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await, "a folder that all can write");
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
}

#[tokio::test]
async fn code_of_other_engines_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["0a-1111.cwasm", "0a-1111.sha256"] {
        fs::write(folder.path().join(name), "of an earlier version").unwrap();
    }
    let component = wat_components::konnector_component("", "", "");
    assert!(prepare_compiles(&new_sandbox(1), &component, folder.path()).await);
    assert_ne!(code(folder.path()).file_name().unwrap(), "0a-1111.cwasm");
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_compilation() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), new_sandbox(1));
    let component = wat_components::konnector_component("", "", "");
    let prepare = || sandbox.prepare(&component, folder.path());
    let (one, two) = tokio::join!(prepare(), prepare());
    assert_eq!(one.unwrap().digest(), two.unwrap().digest());
    assert!(sandbox.cached_program(ComponentDigest::compute(&component)).is_some());
    assert!(sandbox.cached_program(ComponentDigest::compute(b"another")).is_none());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let error = SANDBOX
        .prepare(&wat_components::konnector_component("", "", "nop"), Path::new("/proc/nowhere"))
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"cannot use the directory /proc/nowhere: No such file or directory (os error 2)");
}
