//! wasmtime without our code: the same bytes, instantiated and called.

use std::time::{Duration, Instant};

use konnector_tests::guest;
use wasmtime::component::{Component, Linker, ResourceTable, Val};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{ROUNDS, Row, repeat};

struct BaselineState {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for BaselineState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Instantiates the component that does nothing, calls it, drops everything; on the engine of our sandbox, so flags
/// and pool are the same. The second row is the part until the instance exists.
pub fn rows(engine: &Engine) -> (Row, Row) {
    let component = Component::new(engine, guest("noop")).expect("a component");
    let mut linker = Linker::<BaselineState>::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("linked");
    linker.define_unknown_imports_as_traps(&component).expect("linked");
    let ready = linker.instantiate_pre(&component).expect("linked");
    let interface = component.get_export_index(None, "konnector:host/run@0.1.0").expect("the interface");
    let run = component.get_export_index(Some(&interface), "run").expect("the function");

    let text = |text: &str| Val::String(text.to_owned());
    let job = Val::Record(vec![
        ("id".to_owned(), text("1")),
        ("attempt".to_owned(), Val::U32(1)),
        ("cause".to_owned(), Val::Enum("manual".to_owned())),
        ("last-success".to_owned(), Val::Option(None)),
        ("parameters".to_owned(), text("{}")),
        ("payload".to_owned(), Val::Option(None)),
        ("locale".to_owned(), text("en")),
        ("time-zone".to_owned(), text("UTC")),
    ]);
    let mut instantiations = Vec::new();
    let mut once = || {
        let started = Instant::now();
        let state = BaselineState { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(engine, state);
        store.set_epoch_deadline(1_000_000);
        let instance = ready.instantiate(&mut store).expect("an instance");
        instantiations.push(started.elapsed());
        let function = instance.get_func(&mut store, run).expect("the function");
        let mut results = [Val::Bool(false)];
        function.call(&mut store, std::slice::from_ref(&job), &mut results).expect("called");
        assert!(matches!(results[0], Val::Result(Ok(_))), "{results:?}");
    };
    repeat(100, &mut once);
    let times: Vec<Duration> = repeat(ROUNDS, &mut once);
    let instantiations = instantiations.split_off(100);
    (Row::new("bare wasmtime: instantiate, call, drop", times), Row::new("bare wasmtime", instantiations))
}
