//! Components against the compiler: in the child process that the server uses, with small limits.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use konnector_sandbox::compile::{CompileLimit, CompileLimits, Compiler};
use konnector_sandbox::{Error, Outcome, Preparation, Report, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::server::binary;
use konnector_tests::{guest, wat_components};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// A sandbox that compiles as the server does.
fn sandbox(limits: CompileLimits) -> Sandbox {
    let compiler = Compiler::Child { program: binary(), args: vec!["compile".into()], limits };
    Sandbox::new(SandboxOptions { max_runs: 2, compiler, ..SandboxOptions::default() }).unwrap()
}

/// A component with functions so large that compiling takes many times as long as parsing.
fn huge(functions: usize, instructions: usize) -> Vec<u8> {
    let body = "(local.set $a (i64.add (i64.mul (local.get $b) (local.get $a)) (local.get $c)))
                (local.set $b (i64.xor (local.get $c) (local.get $a))) (br_if 0 (i64.eqz (local.get $b)))"
        .repeat(instructions / 10);
    let function = format!("(func (param $a i64) (param $b i64) (param $c i64) {body})");
    wat_components::konnector_component("", &function.repeat(functions), "")
}

#[tokio::test]
async fn a_child_compiles_what_this_process_runs() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox(CompileLimits::default()));
    let component = guest("noop");
    let program = sandbox.prepare(&component, folder.path()).await.unwrap();
    assert!(matches!(program.preparation(), Preparation::Compiled(_)), "{:?}", program.preparation());
    let output = sandbox
        .run(&program, job(json!({})), FakeEnvironment::default().capabilities(), CancellationToken::new())
        .await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    assert_eq!(sandbox.prepare(&component, folder.path()).await.unwrap().preparation(), Preparation::Memory);
}

#[tokio::test]
async fn the_child_s_code_fits_an_engine_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let compiler =
        Compiler::Child { program: binary(), args: vec!["compile".into()], limits: CompileLimits::default() };
    // So many runs that each memory has less address space, which the generated code must know.
    let options = SandboxOptions { max_runs: 5_000, memory_ceiling: 16 << 20, compiler, ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options).unwrap();
    let program = sandbox.prepare(&guest("noop"), folder.path()).await.unwrap();
    let output = sandbox
        .run(&program, job(json!({})), FakeEnvironment::default().capabilities(), CancellationToken::new())
        .await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
}

#[tokio::test]
async fn the_child_reports_compile_errors() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox(CompileLimits::default()));
    // Its names are valid, but its code is not.
    let mut component =
        wat_components::konnector_component("", "(func $add (result i32) (i32.add (i32.const 7) (i32.const 7)))", "");
    let index = component.windows(5).position(|bytes| bytes == [0x41, 7, 0x41, 7, 0x6a]).unwrap();
    component[index + 4] = 0x01;
    let error = sandbox.prepare(&component, folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::Compile(_)), "{error:?}");
    assert!(error.to_string().contains("type mismatch"), "{error}");
}

#[tokio::test]
async fn a_component_that_takes_too_much_time() {
    let limits = CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() };
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox(limits));
    let (started, component) = (Instant::now(), huge(40, 20_000));
    let error = sandbox.prepare(&component, folder.path()).await.unwrap_err();
    insta::assert_snapshot!(error, @"compiling the component exceeds the limit of 1 seconds of CPU time; build it optimised and stripped, and split very large parts; a konnector should never come near this limit");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    // The server survives, and the next compilation runs.
    sandbox.prepare(&wat_components::konnector_component("", "", ""), folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_component_that_takes_too_much_memory() {
    let limits = CompileLimits { memory: 128 << 20, ..CompileLimits::default() };
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox(limits));
    let error = sandbox.prepare(&huge(1, 200_000), folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::CompileLimit(CompileLimit::Memory(_))), "{error:?}");
    insta::assert_snapshot!(error, @"compiling the component exceeds the limit of 128 MiB of memory; build it optimised and stripped, and split very large parts; a konnector should never come near this limit");
    sandbox.prepare(&wat_components::konnector_component("", "", ""), folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_component_that_becomes_too_much_code() {
    let limits = CompileLimits { code: 10_000, ..CompileLimits::default() };
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox(limits));
    let error = sandbox.prepare(&guest("noop"), folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::CompileLimit(CompileLimit::Code(10_000))), "{error:?}");
}

#[tokio::test]
async fn compiled_code_is_found_while_another_component_is_compiled() {
    let (folder, limits) = (tempfile::tempdir().unwrap(), CompileLimits::default());
    let small = wat_components::konnector_component("", "", "");
    let key = konnector_sandbox::CodeKey::new(&[7; 32]);
    let compiler = Compiler::Child { program: binary(), args: vec!["compile".into()], limits };
    let options = SandboxOptions { max_runs: 2, compiler, code_key: Some(key), ..SandboxOptions::default() };
    Sandbox::new(options.clone()).unwrap().prepare(&small, folder.path()).await.unwrap();
    let sandbox = Sandbox::new(options).unwrap();
    let large = huge(40, 20_000);
    tokio::select! {
        biased;
        _ = sandbox.prepare(&large, folder.path()) => panic!("the large one takes long"),
        found = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sandbox.prepare(&small, folder.path()).await
        } => assert!(matches!(found.unwrap().preparation(), Preparation::Disk(_))),
    }
}

#[test]
fn the_locked_in_compiler_can_do_nothing_else() {
    let output = Command::new(binary()).args(["compile", "--self-check"]).stdin(Stdio::null()).output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @"
    open a socket: Operation not permitted (os error 1)
    connect to an address: Operation not permitted (os error 1)
    run a program: Operation not permitted (os error 1)
    start a thread: Operation not permitted (os error 1)
    read a file: Operation not permitted (os error 1)
    write a file: Operation not permitted (os error 1)
    list a folder: Operation not permitted (os error 1)
    ");
    assert!(output.status.success());
}

/// A figure for reading; see also `a_run_that_does_nothing_takes_less_than_ten_milliseconds`.
#[tokio::test]
async fn a_real_konnector_is_compiled_in_a_few_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let key = konnector_sandbox::CodeKey::new(&[7; 32]);
    let component = guest("bank101");
    let child = Compiler::Child { program: binary(), args: vec!["compile".into()], limits: CompileLimits::default() };
    for (name, compiler) in [("in a child", child), ("in this process", Compiler::InProcess)] {
        let options =
            SandboxOptions { max_runs: 1, compiler, code_key: Some(key.clone()), ..SandboxOptions::default() };
        let _ = std::fs::remove_dir_all(folder.path());
        for _ in 0..2 {
            let sandbox = Sandbox::new(options.clone()).unwrap();
            let program = sandbox.prepare(&component, folder.path()).await.unwrap();
            println!("bank101, {} KiB, {name}: {:?}", component.len() >> 10, program.preparation());
            let (Preparation::Compiled(time) | Preparation::Disk(time)) = program.preparation() else {
                panic!("a fresh sandbox")
            };
            assert!(time < Duration::from_secs(60), "{time:?}");
        }
    }
}
